package adamant

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Metrics is a snapshot of a host's counters since it was opened. What has a place in Status is not repeated here.
type Metrics struct {
	// Operations by name: create, append, get, headpatch, rewind, compact, replace, delete.
	Operations map[string]OperationMetrics

	Leaderships   uint64 // terms in which a member of this host began to serve
	Candidacies   uint64 // attempts of members that run here to be elected; those that were refused count, hand-overs do not
	LostWith      uint64 // leaderships that ended with writes in flight
	Catastrophes  uint64 // documents that got a CatastrophicFailure event
	AlreadyThere  uint64 // appends acknowledged because they had taken effect before
	MarkersTaken  uint64 // markers received in place of entries
	Divergences   uint64 // documents found to differ between members that cover the same indexes
	ConfigChanges uint64 // configurations taken over
	Forwarded     uint64 // operations sent to the hosts that lead (Options.Forward)
	ForwardServed uint64 // operations of other hosts' callers done here; they count in Operations too

	Log       EngineMetrics
	Documents EngineMetrics
	Raft      RaftMetrics
	Links     LinkMetrics
	Repair    RepairMetrics
}

// OperationMetrics counts one kind of operation as its callers saw it.
type OperationMetrics struct {
	Errors  map[int]uint64 // by Code; 0 for errors without one, such as a cancelled context
	Latency Histogram      // of all of them, in seconds
}

// Histogram counts durations. Bucket i holds those up to LatencyBound(i), without the ones in lower buckets; the last
// bucket holds the rest.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Buckets [LatencyBuckets]uint64
}

// LatencyBuckets is the number of buckets of a Histogram.
const LatencyBuckets = 20

// LatencyBound is the inclusive upper bound of bucket i: 64 µs × 2^i, so 16.8 s for the last but one. The last bucket has
// none.
func LatencyBound(i int) time.Duration { return 64 * time.Microsecond << i }

// EngineMetrics counts a storage engine's work.
type EngineMetrics struct {
	Syncs     uint64 // fsyncs of its WAL
	Written   uint64 // bytes written to its WAL; of a bolt log, the entries alone
	Tables    uint64 // bytes written besides, by flushes and compactions; those of a bolt log are not known
	Entries   uint64 // Raft entries, or mutations, written
	DiskBytes uint64 // on disk now
	CacheHits uint64 // of blocks, or of recent entries
	CacheMiss uint64
	// LateReads counts what had to be read from the documents while commands were applied, and so kept others waiting. Heads are read
	// ahead: there are next to none on a sound host. Always 0 of a log.
	LateReads uint64
}

// RaftMetrics counts the bytes of Raft's requests by what they carry. SnapshotBytes are markers: a few hundred bytes each,
// because Raft never ships documents.
type RaftMetrics struct {
	AppendEntriesBytesIn, AppendEntriesBytesOut uint64
	CommandBytesIn                              uint64 // commands inside of the entries received
	SnapshotBytesIn, SnapshotBytesOut           uint64
}

// LinkMetrics counts the traffic with other hosts, as it is before TLS, TCP and UDP.
type LinkMetrics struct {
	BytesIn, BytesOut   uint64 // of frames
	FramesIn, FramesOut uint64
	GossipIn, GossipOut uint64 // bytes of the membership protocol, which has packets and streams of its own
	Connects            uint64 // links made
	Refused             uint64 // links, frames, gossip and requests refused
	QueueFull           uint64 // requests that found no room
}

// RepairMetrics counts anti-entropy's work.
type RepairMetrics struct {
	Compares, Lists, Pulls uint64 // requests sent
	Differences            uint64 // buckets reported to differ between members that cover the same indexes
	BucketsDifferent       uint64 // the same as each comparison found it, before anything was looked into: 0 on sound disks
	DocumentsIn, EntriesIn uint64 // imported
	ImportedBytes          uint64 // of the bases and deltas imported
	AlreadyHad             uint64 // entries that came although they were here
	BytesIn                uint64 // of this host's requests and the answers to them: of comparisons, listings and pulls together

	CompareBytes, ListBytes, PullBytes uint64

	MostInFlight     uint64 // bytes that this host reserved for answers at the most
	Served, BytesOut uint64 // requests of other hosts, and the bytes of the answers
	HolesClosed      uint64

	ScrubbedBuckets, ScrubbedBytes           uint64 // read and verified
	DamageFound, DamageHealed, DamageWaiting uint64 // buckets; waiting ones have no member to heal from now
	Errors                                   uint64
}

// operation numbers the operations that are measured.
type operation uint8

const (
	opCreate operation = iota
	opAppend
	opGet
	opHeadPatch
	opRewind
	opCompact
	opReplace
	opDelete
	operations // how many there are
)

func (o operation) String() string {
	return [operations]string{"create", "append", "get", "headpatch", "rewind", "compact", "replace", "delete"}[o]
}

// meter measures the operations of a host. All methods may be called concurrently.
type meter struct {
	ops [operations]operationMeter
}

type operationMeter struct {
	sum     atomic.Int64 // nanoseconds
	buckets [LatencyBuckets]atomic.Uint64
	errors  [len(meteredCodes)]atomic.Uint64 // by position in meteredCodes
}

// meteredCodes are the errors that are counted one by one; the first stands for all others.
var meteredCodes = [...]int{0, CodeExists, CodeSeqMismatch, CodeNotFound, CodeFuture, CodeHistory, CodeHeadPatch, CodeRewind,
	CodeKey, CodeTooLarge, CodeInvalid, CodeNotJSON, CodeCorruption, CodeEngineFailed, CodeNotLeader, CodeAmbiguous,
	CodeUnavailable, CodeSafeMode, CodeClosed}

// observe notes one finished operation.
func (m *meter) observe(op operation, took time.Duration, err error) {
	o := &m.ops[op]
	o.sum.Add(int64(took))
	o.buckets[latencyBucket(took)].Add(1)
	if err != nil {
		o.errors[meteredCode(Code(err))].Add(1)
	}
}

// latencyBucket is the smallest i with d ≤ LatencyBound(i), or the last bucket.
func latencyBucket(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return min(bits.Len64(uint64(d-1)/uint64(LatencyBound(0))), LatencyBuckets-1)
}

func meteredCode(code int) int {
	for i, c := range meteredCodes {
		if c == code {
			return i
		}
	}
	return 0
}

// snapshot returns the counters by name of the operation. It is not atomic over all of them.
func (m *meter) snapshot() map[string]OperationMetrics {
	out := make(map[string]OperationMetrics, operations)
	for op := range operations {
		o := &m.ops[op]
		s := OperationMetrics{Errors: make(map[int]uint64), Latency: Histogram{Sum: time.Duration(o.sum.Load())}}
		for i := range o.buckets {
			s.Latency.Buckets[i] = o.buckets[i].Load()
			s.Latency.Count += s.Latency.Buckets[i]
		}
		for i, code := range meteredCodes {
			if n := o.errors[i].Load(); n > 0 {
				s.Errors[code] = n
			}
		}
		out[op.String()] = s
	}
	return out
}
