package adamant

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/clock"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

// LogKind chooses the engine that holds the Raft logs (design §4).
type LogKind uint8

const (
	// LogPebble is one Pebble engine for all partitions: one fsync serves many groups.
	LogPebble LogKind = iota
	// LogBolt is one raft-boltdb file per partition: isolation over speed.
	LogBolt
)

// String returns "pebble" or "bolt".
func (k LogKind) String() string {
	switch k {
	case LogPebble:
		return "pebble"
	case LogBolt:
		return "bolt"
	}
	return fmt.Sprintf("log(%d)", uint8(k))
}

// ParseLogKind is the inverse of String.
func ParseLogKind(s string) (LogKind, error) {
	for k := LogPebble; k <= LogBolt; k++ {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown log engine %q: want pebble or bolt", s)
}

// Options say how to open a host. Only Dir is required; the zero value of every other field means its default.
type Options struct {
	// Dir is the data directory; it is created. It belongs to one host of one cluster for good.
	Dir string

	// Host is this host's name in the cluster configuration. Default "local" for a single-host cluster; required
	// otherwise.
	Host string
	// ClusterFile is the path of the cluster file, which is polled for changes (design §11). Without it and without
	// Cluster the host is a cluster of its own and opens no port.
	ClusterFile string
	// Cluster is a configuration instead of a file; Host.SetCluster replaces it.
	Cluster *config.Cluster
	// Partitions is the number of partitions of a single-host cluster. Default 8. It is fixed when the directory is
	// created: a later value that differs is an error of Open.
	Partitions int

	// Log chooses the engine of the Raft logs. Default LogPebble. It is fixed when the directory is created.
	Log LogKind
	// Consistency of reads that do not ask for another one. Default ReadLease.
	Consistency Consistency
	// Forward lets operations on documents that another host leads go to that host, in place of a NotLeaderError: a write at
	// most once, and both only after waiting up to four heartbeats for a leader while there is none. A write whose answer is
	// lost on the way is an AmbiguousError. Lists (Log, Inventory) are not forwarded, nor are operations and answers of more than
	// 8 MB. Forwarding overrides it for one call.
	Forward bool

	Limits Limits
	Timing Timing
	Repair Repair

	// CacheBytes is the memory for blocks of the document engine. Default 64 MiB.
	CacheBytes int64
	// LogMemoryBytes is the memory of the log engine before it flushes, and for recent entries. A quarter of it is what stays in all
	// logs behind their markers, where TrailingLogs allows for more: a host that misses more than that of what is written becomes sick.
	// Default 64 MiB.
	LogMemoryBytes int64
	// HeadCache is how many heads of documents are kept decoded. Default 65536.
	HeadCache int

	Logger *slog.Logger // default: discards everything
	Events Events

	// ForceBootstrap lets this host give its partitions their first configuration although other hosts of the cluster
	// file cannot be asked whether they hold data (design §10). An operator's last resort: if they do hold data, it is
	// lost to the cluster.
	ForceBootstrap bool

	// Network makes another network than the real one, for simulations. When it has a method OnPeer(func(mesh.PeerState)), the host is told
	// of its peers by it. Default: links over TCP, or none for a single-host cluster.
	Network func(mesh.Identity) mesh.Network
	// Clock is what leases and promises are measured by, for simulations. It must not be stepped. Default: one that goes on
	// while the machine is suspended, where the system has such a clock (docs/leadership.md).
	Clock func() time.Time
	// FS replaces the operating system's file system, for simulations.
	FS vfs.FS
}

// Limits bound what a host accepts and keeps. The zero value of a field means its default. All hosts of a cluster should
// agree.
type Limits struct {
	// DeltaBytes bounds one encoded delta. Default 1 MiB.
	DeltaBytes int
	// CommandBytes bounds the deltas of one append together, and the base of a compaction or replacement; at most
	// MaxCommandBytes. Default 4 MiB.
	CommandBytes int
	// DocumentBytes bounds the stored size of one document. Default 256 MiB.
	DocumentBytes int
	// InFlight bounds the proposals of one partition that wait for their commit; at most 512. Default: the partition's share
	// of 4096, from 64 to 512 and no more than half of TrailingLogs. Raft allocates memory for so many with each batch.
	InFlight int
	// InFlightBytes bounds the commands of those proposals together, but for one that is larger alone; the next ones wait, as for InFlight.
	// While they are in flight their leader holds them about three times: for Raft, for the log's readers, and as the batch that
	// the log writes. Default 64 MiB, or HostInFlightBytes if that is less.
	InFlightBytes int64
	// HostInFlightBytes bounds them for all partitions that the host leads together. It should leave room for several partitions that get
	// no answer, and wait for the end of their leadership. At least InFlightBytes. Default 256 MiB, or InFlightBytes if that is more.
	HostInFlightBytes int64
	// RequestBytes bounds the log's entries that a leader sends to a follower at once, but for one that is larger alone: what a follower
	// lacks is sent in pieces. At most MaxCommandBytes. Default 1 MiB.
	RequestBytes int
	// TrailingLogs is how many commands, about, stay in a log behind its marker, and always more entries than InFlight; an entry has
	// one command or, of what was written at the same time, several. A member that misses more than these becomes
	// sick and is healed by anti-entropy. More than InFlight. Fewer stay where much is written (LogMemoryBytes). Default 2048.
	TrailingLogs uint64
	// MarkerEvery is after how many applied commands a log gets its next marker and is truncated, or after fewer where much is written.
	// Default 1024.
	MarkerEvery uint64
}

// Timing holds a host's durations. The zero value of a field means its default. All hosts of a cluster must agree on Lease,
// and should on the rest: a host whose leases outlast another's promises says so in its history.
type Timing struct {
	// Heartbeat governs how long a fail-over takes: a host sends three beats in that time, and is missed after three times as long, or up
	// to four times while its beats come irregularly, but after Lease when its process is known to be gone (docs/leadership.md). Default 350 ms.
	Heartbeat time.Duration
	// Election is how long a candidate waits, once to twice, before it tries again. Default: Heartbeat.
	Election time.Duration
	// Lease is for how long a voter's acknowledgement binds it to its leader. At most Heartbeat. Default: Heartbeat.
	Lease time.Duration
	// ClockDrift bounds, as a share, how much faster one host's clock may run than another's; a leader stops serving at
	// Lease × (1 − ClockDrift). Default 0.05.
	ClockDrift float64
	// Grace is for how long after losing its leader a sick member leaves campaigning to others. Default 5 × Election.
	Grace time.Duration
	// TruncationTick is the pause between two syncs of the document engine that let the logs be truncated. Default 1 s.
	TruncationTick time.Duration
	// HandOver bounds how long Close tries to hand leaderships over. Default 5 s.
	HandOver time.Duration
	// Poll is the pause between two looks at the cluster file. Default 2 s.
	Poll time.Duration
	// AntiEntropy is the pause between two comparisons of a healthy partition with a peer while something is applied to it;
	// 300 times as long while nothing is. Sick ones do not wait for it. Default 1 s.
	AntiEntropy time.Duration
}

// Repair bounds what anti-entropy may use of a host. The zero value of a field means its default.
type Repair struct {
	// BytesPerSecond bounds what is pulled. Default 0: no bound.
	BytesPerSecond int64
	// MemoryBytes bounds the data held for repair at a time. Default 64 MiB.
	MemoryBytes int64
	// ServeBytesPerSecond bounds what is sent to hosts that heal. Default 0: no bound.
	ServeBytesPerSecond int64
	// Foreground is the share of the time that is left to other work where hosts that heal are served while writes are applied, in
	// [0, 0.95]. Unless it is 0, what a host pulls is checked and written piece by piece meanwhile, and side by side otherwise. Default 0.8.
	Foreground float64
	// Deadline is for how long after it became sick a member may be healed: repair then pulls what is missing no faster than
	// that takes, but at least 1 MiB/s, and within BytesPerSecond. Default 0: as soon as can be.
	Deadline time.Duration
	// Compression says when documents are compressed on their way here: when that was measured to bring them sooner
	// (CompressAuto, the default), never, or always when it makes them smaller.
	Compression Compression
	// ScrubDeadline is the time in which everything that the host holds is read once and verified. Default a week;
	// negative: only what somebody met damage in is read.
	ScrubDeadline time.Duration
	// ScrubBytesPerSecond bounds what that reads, also when it misses the deadline by it. Default 8 MiB.
	ScrubBytesPerSecond int64
}

// Compression says when repair compresses what it pulls.
type Compression = antientropy.Compression

// The choices of Repair.Compression.
const (
	CompressAuto   = antientropy.CompressAuto
	CompressOff    = antientropy.CompressOff
	CompressAlways = antientropy.CompressAlways
)

// defaultHost is the name of the host of a cluster of one.
const defaultHost = "local"

// shareInFlight is what the partitions share by default, and minInFlight what each has at least.
const (
	shareInFlight = 4096
	minInFlight   = 64
)

// single reports whether the options describe a cluster of one host without a port.
func (o *Options) single() bool { return o.ClusterFile == "" && o.Cluster == nil }

// Validate returns an *OptionsError that lists everything that is wrong, or nil. It touches no file.
func (o Options) Validate() error {
	var p problems
	p.check(o.Dir != "", "Dir is empty: a data directory is required")
	p.check(o.ClusterFile == "" || o.Cluster == nil, "ClusterFile and Cluster exclude each other")
	if o.single() {
		p.check(o.Network == nil, "Network is set, but a single-host cluster has no network: set Cluster or ClusterFile")
		p.between("Partitions", int64(o.Partitions), 0, config.MaxPartitions)
	} else {
		p.check(o.Host != "", "Host is empty: name the host of the cluster configuration that this one is")
		p.check(o.Partitions == 0, "Partitions is %d, but the cluster configuration lists the partitions", o.Partitions)
	}
	if o.Cluster != nil {
		if err := o.Cluster.Validate(); err != nil {
			p.add("Cluster: %v", err)
		} else if _, ok := o.Cluster.Hosts[o.Host]; !ok && o.Host != "" {
			p.add("Cluster: no host is named %q", o.Host)
		}
	}
	p.check(o.Log <= LogBolt, "Log is %v: want LogPebble or LogBolt", o.Log)
	p.check(o.Consistency <= ReadStale, "Consistency is %v: want ReadLease, ReadQuorum or ReadStale", o.Consistency)
	o.validateSizes(&p)
	o.Limits.validate(&p)
	o.Timing.validate(&p)
	if len(p) > 0 {
		return &OptionsError{Problems: p}
	}
	return nil
}

func (o *Options) validateSizes(p *problems) {
	p.between("CacheBytes", o.CacheBytes, 0, 1<<40)
	p.between("LogMemoryBytes", o.LogMemoryBytes, 0, 1<<32)
	p.between("HeadCache", int64(o.HeadCache), 0, 1<<30)
	p.between("Repair.BytesPerSecond", o.Repair.BytesPerSecond, 0, 1<<50)
	p.between("Repair.ScrubBytesPerSecond", o.Repair.ScrubBytesPerSecond, 0, 1<<50)
	p.between("Repair.MemoryBytes", o.Repair.MemoryBytes, 0, 1<<40)
	p.between("Repair.ServeBytesPerSecond", o.Repair.ServeBytesPerSecond, 0, 1<<50)
	p.check(o.Repair.Foreground >= 0 && o.Repair.Foreground <= 0.95, "Repair.Foreground is %v: want a share in [0, 0.95]", o.Repair.Foreground)
	p.check(o.Repair.Deadline >= 0, "Repair.Deadline is %v: want a positive duration, or 0 for none", o.Repair.Deadline)
	p.check(o.Repair.Compression <= CompressAlways, "Repair.Compression is %v: want CompressAuto, CompressOff or CompressAlways", o.Repair.Compression)
}

// MaxCommandBytes is the largest Limits.CommandBytes: what surrounds so many bytes of deltas fits into a frame of the links (8 MiB)
// with them, however small they are. A command that does not could be stored by its leader, but never sent.
const MaxCommandBytes = 6 << 20

func (l Limits) validate(p *problems) {
	p.between("Limits.DeltaBytes", int64(l.DeltaBytes), 0, MaxCommandBytes)
	p.between("Limits.CommandBytes", int64(l.CommandBytes), 0, MaxCommandBytes)
	p.between("Limits.DocumentBytes", int64(l.DocumentBytes), 0, 1<<40)
	p.between("Limits.RequestBytes", int64(l.RequestBytes), 0, MaxCommandBytes)
	p.between("Limits.InFlight", int64(l.InFlight), 0, partition.MaxInFlight)
	p.between("Limits.InFlightBytes", l.InFlightBytes, 0, 1<<40)
	p.between("Limits.HostInFlightBytes", l.HostInFlightBytes, 0, 1<<40)
	d := l.withDefaults()
	p.check(d.DeltaBytes <= d.CommandBytes,
		"Limits.DeltaBytes is %d, more than CommandBytes %d: such a delta could never be appended", d.DeltaBytes, d.CommandBytes)
	p.check(d.CommandBytes <= d.DocumentBytes,
		"Limits.CommandBytes is %d, more than DocumentBytes %d: such a command could never be accepted", d.CommandBytes, d.DocumentBytes)
	p.check(d.InFlight < 0 || d.TrailingLogs > uint64(d.InFlight),
		"Limits.TrailingLogs is %d, but must exceed InFlight %d: healthy members would become sick", d.TrailingLogs, d.InFlight)
	p.check(d.InFlightBytes <= d.HostInFlightBytes,
		"Limits.InFlightBytes is %d, more than HostInFlightBytes %d: no partition could have so many", d.InFlightBytes, d.HostInFlightBytes)
	p.check(l.InFlight != 0 || d.TrailingLogs >= 2*minInFlight,
		"Limits.TrailingLogs is %d, but must be twice InFlight, which is %d or more by default", d.TrailingLogs, minInFlight)
}

func (t Timing) validate(p *problems) {
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"Timing.Heartbeat", t.Heartbeat, 5 * time.Millisecond}, // below, Raft refuses, or elects without end
		{"Timing.Election", t.Election, 5 * time.Millisecond},
		{"Timing.Lease", t.Lease, 5 * time.Millisecond},
		{"Timing.Grace", t.Grace, 0},
		{"Timing.TruncationTick", t.TruncationTick, time.Millisecond},
		{"Timing.Poll", t.Poll, time.Millisecond},
		{"Timing.AntiEntropy", t.AntiEntropy, time.Millisecond},
		{"Timing.HandOver", t.HandOver, time.Millisecond},
	} {
		p.check(d.value == 0 || d.value >= max(d.least, 0) && d.value <= time.Hour, "%s is %v: want %v to %v, or 0 for the default", d.name, d.value, d.least, time.Hour)
	}
	p.check(t.ClockDrift >= 0 && t.ClockDrift < 1, "Timing.ClockDrift is %v: want a share in [0, 1)", t.ClockDrift)
	d := t.withDefaults()
	p.check(d.Lease <= d.Heartbeat, "Timing.Lease is %v, longer than Heartbeat %v: voters could not elect when their leader has died", d.Lease, d.Heartbeat)
	p.check(d.Election >= d.Heartbeat, "Timing.Election is %v, shorter than Heartbeat %v", d.Election, d.Heartbeat)
}

// withDefaults validates the options and returns them with every zero value replaced by what it stands for. Network stays
// nil when it is: Open makes the real one.
func (o Options) withDefaults() (Options, error) {
	if err := o.Validate(); err != nil {
		return Options{}, err
	}
	if o.single() {
		orDefault(&o.Host, defaultHost)
		orDefault(&o.Partitions, 8)
	}
	o.Limits, o.Timing = o.Limits.withDefaults(), o.Timing.withDefaults()
	orDefault(&o.Repair.MemoryBytes, 64<<20)
	orDefault(&o.Repair.Foreground, 0.8)
	orDefault(&o.CacheBytes, 64<<20)
	orDefault(&o.LogMemoryBytes, 64<<20)
	orDefault(&o.HeadCache, 65536)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	o.Events = o.Events.withDefaults()
	return o, nil
}

// withDefaults keeps a smaller limit below a bigger one that was set explicitly.
func (l Limits) withDefaults() Limits {
	orDefault(&l.DocumentBytes, 256<<20)
	orDefault(&l.CommandBytes, min(4<<20, l.DocumentBytes))
	orDefault(&l.DeltaBytes, min(1<<20, l.CommandBytes))
	orDefault(&l.RequestBytes, 1<<20)
	orDefault(&l.TrailingLogs, 2048)
	orDefault(&l.MarkerEvery, 1024)
	orDefault(&l.HostInFlightBytes, max(256<<20, l.InFlightBytes))
	orDefault(&l.InFlightBytes, min(64<<20, l.HostInFlightBytes))
	return l
}

func (t Timing) withDefaults() Timing {
	orDefault(&t.Heartbeat, 350*time.Millisecond)
	orDefault(&t.Election, t.Heartbeat)
	orDefault(&t.Lease, t.Heartbeat)
	orDefault(&t.ClockDrift, 0.05)
	orDefault(&t.Grace, 5*t.Election)
	orDefault(&t.TruncationTick, time.Second)
	orDefault(&t.HandOver, 5*time.Second)
	orDefault(&t.Poll, 2*time.Second)
	orDefault(&t.AntiEntropy, time.Second)
	return t
}

// path is a place in the data directory.
func (o *Options) path(name string) string { return o.FS.PathJoin(o.Dir, name) }

// partition returns the limits of each of so many partitions.
func (l Limits) partition(partitions int) partition.Limits {
	inFlight := l.InFlight
	if inFlight == 0 {
		inFlight = min(max(shareInFlight/max(partitions, 1), minInFlight), int(min(l.TrailingLogs/2, partition.MaxInFlight)))
	}
	return partition.Limits{DeltaBytes: l.DeltaBytes, CommandBytes: l.CommandBytes, DocumentBytes: l.DocumentBytes, InFlight: inFlight,
		InFlightBytes: l.InFlightBytes}
}

func (t Timing) partition() partition.Timing {
	return partition.Timing{Heartbeat: t.Heartbeat, Election: t.Election, Lease: t.Lease, Drift: t.ClockDrift, Grace: t.Grace}
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// problems collects what is wrong with options.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		p.add(format, args...)
	}
}

func (p *problems) between(name string, v, least, most int64) {
	p.check(least <= v && v <= most, "%s is %d: want %d to %d", name, v, least, most)
}
