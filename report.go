package adamant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

// A report is what a host tells every other host about its members: who leads, who is complete, how far each has
// applied. Reports are hints: they choose repair sources, name leaders to callers and tell a leader which membership step
// is safe to try; Raft alone decides what happens.
//
// A host numbers its reports. One with a base carries only the members that changed after the report of that number, for
// a host that has taken that one or a later one: quiet members cost nothing.
type report struct {
	Incarnation string
	Process     uint64 // a random number of the process: its numbering starts anew
	Number      uint64
	Base        uint64 // 0: every member is in it
	Version     uint64 // of the cluster file the host follows
	Lease       uint64 // microseconds: for how long its voters promise
	Members     []memberReport
}

type memberReport struct {
	Partition uint32
	Flags     reportFlags
	Epoch     uint64 // term of its leadership, or the term it last saw
	Applied   uint64
	Leader    string // server id of the leader it knows, "" for none
	Founding  uint64 // of its group; 0 unknown
}

type reportFlags uint8

const (
	flagReady    reportFlags = 1 << iota // runs its Raft and holds a log or a marker
	flagComplete                         // no holes, applied what it learned
	flagServing                          // serves as leader
	flagSafeMode
	flagDraining    // gives leadership away
	flagStrained    // its host gave leadership up for its disk a short time ago
	flagDiverged    // the partition has been in quarantine before, or is
	flagDivergedOdd // the second bit of the quarantine's epoch
)

const (
	reportVersion   = 1
	maxReportRows   = 1 << 16
	maxReportString = 1 << 10
)

var errReport = errors.New("malformed report")

// encode: version u8 | incarnation | process, number, base, cluster file version, lease µs, count uvarint | rows. A row: partition uvarint |
// flags u8 | epoch, applied uvarint | leader | founding uvarint. Strings are uvarint length and bytes.
func (r *report) encode() []byte {
	b := make([]byte, 0, 64+32*len(r.Members))
	b = append(b, reportVersion)
	b = appendString(b, r.Incarnation)
	for _, v := range []uint64{r.Process, r.Number, r.Base, r.Version, r.Lease} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Members)))
	for i := range r.Members {
		m := &r.Members[i]
		b = binary.AppendUvarint(b, uint64(m.Partition))
		b = append(b, byte(m.Flags))
		b = binary.AppendUvarint(b, m.Epoch)
		b = binary.AppendUvarint(b, m.Applied)
		b = appendString(b, m.Leader)
		b = binary.AppendUvarint(b, m.Founding)
	}
	return b
}

func decodeReport(b []byte) (report, error) {
	var r report
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != reportVersion {
		return r, fmt.Errorf("%w: version %d", errReport, v)
	}
	r.Incarnation = d.string()
	for _, v := range []*uint64{&r.Process, &r.Number, &r.Base, &r.Version, &r.Lease} {
		*v = d.uvarint()
	}
	n := d.uvarint()
	if d.err != nil || n > maxReportRows || n > uint64(len(d.b)) {
		return r, fmt.Errorf("%w: %d rows in %d bytes", errReport, n, len(d.b))
	}
	r.Members = make([]memberReport, 0, n)
	for range n {
		p := d.uvarint()
		if p > 1<<32-1 {
			return r, fmt.Errorf("%w: partition %d", errReport, p)
		}
		r.Members = append(r.Members, memberReport{Partition: uint32(p), Flags: reportFlags(d.byte()), Epoch: d.uvarint(), Applied: d.uvarint(), Leader: d.string(), Founding: d.uvarint()})
	}
	return r, d.end()
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decoder takes fields off the front of a message; the first failure sticks.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("%w: truncated", errReport)
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > maxReportString || n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errReport, len(d.b))
	}
	return d.err
}

// freshFor is for how long a report counts: a host that is silent for longer is not alive.
const freshFor = 2 * time.Second

// reportTable keeps the newest report of every other host.
type reportTable struct {
	heartbeat time.Duration

	mu         sync.Mutex
	byHost     map[string]hostReport
	complained map[string]string // hosts whose timing was complained about, with their incarnation
}

type hostReport struct {
	id          raft.ServerID
	incarnation string
	process     uint64
	number      uint64
	version     uint64
	received    time.Time
	members     map[uint32]memberReport

	breaks int       // in a row: returns of a host that had not been here for long
	steady time.Time // from when on it counts as here to stay; zero: from the beginning
}

// Leaderships are not given back to a host for its preference before it has been back for calm heartbeats; twice as many each
// time that it goes within forgiven heartbeats of that, up to 32 times as many.
const (
	calm      = 25
	forgiven  = 1500
	maxBreaks = 6
)

// settle says from when on a host counts as here to stay whose newest report has come.
func (t *reportTable) settle(old hostReport, same bool, now time.Time) (breaks int, steady time.Time) {
	if old.incarnation == "" || same && now.Sub(old.received) < freshFor {
		return old.breaks, old.steady // new here, or never gone
	}
	breaks = 1
	if old.breaks > 0 && now.Sub(old.steady) < forgiven*t.heartbeat {
		breaks = min(old.breaks+1, maxBreaks)
	}
	return breaks, now.Add(calm * t.heartbeat << (breaks - 1))
}

// errBase refuses a report that builds upon one that was not taken: the sender sends everything.
var errBase = errors.New("the report builds upon one that is not known here")

// take stores a report and returns whether a leader, its term, a founding, an incarnation or a health flag in it is news. A report of one
// incarnation is not believed while another one of the same host is heard of: two processes claim one name then, and the
// later one must not pass for the earlier one's successor (errConflict).
func (t *reportTable) take(host string, r report, now time.Time) (news bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.byHost[host]
	same := old.incarnation == r.Incarnation && old.process == r.Process
	switch {
	case old.incarnation != "" && old.incarnation != r.Incarnation && now.Sub(old.received) < freshFor:
		return false, errConflict
	case r.Base > 0 && (!same || old.number < r.Base):
		return false, errBase
	case same && r.Number < old.number:
		return false, nil // overtaken on the way
	}
	h := hostReport{id: raft.ServerID(mesh.Identity{Host: host, Incarnation: r.Incarnation}.ID()), incarnation: r.Incarnation, process: r.Process, number: r.Number, version: r.Version, received: now, members: old.members}
	if r.Base == 0 {
		h.members = make(map[uint32]memberReport, len(r.Members))
	}
	h.breaks, h.steady = t.settle(old, same, now)
	for _, m := range r.Members {
		o := old.members[m.Partition]
		news = news || o.Flags != m.Flags || o.Leader != m.Leader || o.Epoch != m.Epoch || o.Founding != m.Founding
		h.members[m.Partition] = m
	}
	news = news || old.incarnation != h.incarnation || r.Base == 0 && len(old.members) != len(h.members)
	if t.byHost == nil {
		t.byHost = make(map[string]hostReport)
	}
	t.byHost[host] = h
	return news, nil
}

// errConflict: two processes report under one name.
var errConflict = errors.New("another incarnation of this host was heard of just now")

// founding is what a host last reported as the founding of its member of a partition; 0: none, or unknown.
func (t *reportTable) founding(id uint32, host string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byHost[host].members[id].Founding
}

// foreign looks for a member of a partition that belongs to another founding than own, and not to one that this group has given
// up; "" when there is none.
func (t *reportTable) foreign(id uint32, own uint64, givenUp func(founding uint64) bool) (host string, founding uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for host, h := range t.byHost {
		if m, ok := h.members[id]; ok && m.Founding != 0 && m.Founding != own && !givenUp(m.Founding) {
			return host, m.Founding
		}
	}
	return "", 0
}

// disagree lists the live members that report other flags of a quarantine than mine, which holds the partitions that matter.
func (t *reportTable) disagree(mine map[uint32]reportFlags, now time.Time) (list []wardCall) {
	const compared = flagSafeMode | flagDiverged | flagDivergedOdd
	t.mu.Lock()
	defer t.mu.Unlock()
	for host, h := range t.byHost {
		if now.Sub(h.received) >= freshFor {
			continue
		}
		for id, m := range h.members {
			if flags, ok := mine[id]; ok && flags != m.Flags&compared {
				list = append(list, wardCall{id, host})
			}
		}
	}
	return list
}

// behind lists the live members of a partition on other hosts that have applied less than index.
func (t *reportTable) behind(id uint32, index uint64, now time.Time) (list []raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.byHost {
		if m, ok := h.members[id]; ok && m.Applied < index && now.Sub(h.received) < freshFor {
			list = append(list, h.id)
		}
	}
	return list
}

// firstComplaint reports whether a host's timing was not complained about yet, and notes that it is now.
func (t *reportTable) firstComplaint(id mesh.Identity) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complained == nil {
		t.complained = make(map[string]string)
	}
	first := t.complained[id.Host] != id.Incarnation
	t.complained[id.Host] = id.Incarnation
	return first
}

// servers lists the other hosts that were ever heard of, each with its newest incarnation.
func (t *reportTable) servers() []raft.ServerID {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]raft.ServerID, 0, len(t.byHost))
	for _, h := range t.byHost {
		list = append(list, h.id)
	}
	return list
}

// succeeded returns a function that says whether a server is an earlier incarnation of a host: its disk is gone for good.
func (t *reportTable) succeeded() func(server string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	newest := make(map[string]string, len(t.byHost))
	for host, h := range t.byHost {
		newest[host] = h.incarnation
	}
	return func(server string) bool {
		host, incarnation, ok := strings.Cut(server, "@")
		now, known := newest[host]
		return ok && known && now != incarnation
	}
}

// peers lists the members of a partition on other hosts, by server id.
func (t *reportTable) peers(id uint32, now time.Time) map[raft.ServerID]partition.Peer {
	out := make(map[raft.ServerID]partition.Peer)
	t.eachPeer(id, now, func(p partition.Peer) { out[p.ID] = p })
	return out
}

// eachPeer visits the members of a partition on other hosts; visit must not ask the table.
func (t *reportTable) eachPeer(id uint32, now time.Time, visit func(partition.Peer)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.byHost {
		m, ok := h.members[id]
		if !ok {
			continue
		}
		visit(partition.Peer{ID: h.id, Alive: now.Sub(h.received) < freshFor, Ready: m.Flags&flagReady != 0,
			Complete: m.Flags&flagComplete != 0, Draining: m.Flags&flagDraining != 0, Unsteady: now.Before(h.steady) || m.Flags&flagStrained != 0,
			Version: h.version, Applied: m.Applied, Epoch: m.Epoch, Founding: m.Founding})
	}
}

// leader returns who is believed to lead a partition: a host that says it serves, else the newest leader anybody names.
func (t *reportTable) leader(id uint32, now time.Time) (leader raft.ServerID, epoch uint64, serving bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.byHost {
		m, ok := h.members[id]
		if !ok || now.Sub(h.received) >= freshFor {
			continue
		}
		serves := m.Flags&flagServing != 0
		name := raft.ServerID(m.Leader)
		if serves {
			name = h.id
		}
		if name == "" || m.Epoch < epoch || m.Epoch == epoch && serving && !serves {
			continue
		}
		leader, epoch, serving = name, m.Epoch, serves
	}
	return leader, epoch, serving
}

// alive reports whether a server was heard of lately.
func (t *reportTable) alive(id raft.ServerID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.byHost[partition.HostOf(id)]
	return ok && now.Sub(h.received) < freshFor && id == h.id
}
