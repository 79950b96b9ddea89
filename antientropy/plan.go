package antientropy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// plan decides what the loop does next, for all partitions of a host. It is a pure state machine: events in, outputs
// out. It has no clock (every event comes with the time), no goroutine, no I/O, and its random numbers are given to it,
// so that a test can tell it a story and read what it does.
//
// A member without holes compares its root with one random peer's now and then, seldom when nothing changes. A member with holes (sick) is healed:
//
//	survey    compare all buckets with one peer at one index: most are proven equal and heal at once
//	sessions  groups of the other buckets are listed and pulled, each group from one peer, several at a time
//	close     when every bucket has healed something of the holes, it becomes durable and the holes shrink
//
// Owned by the loop's goroutine. Invariants, after every Step:
//   - a host never has more than perPeer calls in flight, nor more than perPeer sessions that have something to ask;
//   - the bytes reserved for pulls in flight stay within the memory bound, unless one single pull needs more;
//   - a bucket is busy for at most one of: a session, a fetch, a mark. Only one of them may write to it at a time
//     (store.Session);
//   - a healthy member that is not being compared waits in exactly one place, the agenda or the late ones;
//   - whatever waits for a time is in the sleep output; whatever waits for an event has a call in flight, or a finish under way, somewhere.
type plan struct {
	o   planOptions
	now time.Time

	hosts   map[string]*host
	parts   []*part // by id
	active  []*part // those of parts that have more to do than to compare now and then
	ranking []*part // active, see order; to be made anew unless ordered
	ordered bool
	agenda  agenda  // healthy members, by when they are to be compared
	late    []*part // healthy members that have been due for an interval and still wait for a peer with room
	cooling []*part // members that are healthy again, but their buckets may still be in use

	calls    map[uint64]*call
	lastCall uint64
	ready    []*session          // with a next request to send, first come first served
	ended    []*session          // with buckets to finish, first come first served
	finishes map[uint64]*session // under way
	last     uint64              // session

	reserved int64   // bytes of memory, for pulls in flight
	tokens   float64 // bytes that may be pulled now; negative after more came than expected
	refilled time.Time
	rate     int64 // bytes that may be pulled per second now; 0: no bound

	looks int       // at healthy members, to compare them: what they cost
	wake  time.Time // the earliest time at which something waits to be looked at again
	out   []output
}

type planOptions struct {
	interval time.Duration // between two comparisons of a healthy partition
	quiet    time.Duration // the same while nothing changes
	perPeer  int           // calls in flight
	limit    int           // bytes of a pull's reply
	memory   int64
	rate     int64         // bytes pulled per second; 0: no bound
	deadline time.Duration // for a member to be whole; 0: as soon as can be
	random   func() float64
}

// The pauses after things that went wrong. Each grows by the failure, up to its most.
const (
	pauseUnreachable, mostUnreachable = 500 * time.Millisecond, 30 * time.Second
	pauseRefused, mostRefused         = 2 * time.Second, time.Minute
	pauseLiar, mostLiar               = time.Minute, 10 * time.Minute
	pauseBucket, mostBucket           = time.Second, 2 * time.Minute
	pauseStuck, mostStuck             = time.Second, 30 * time.Second
	pauseRetry                        = 200 * time.Millisecond // the question cannot be answered at this moment
	pauseNames, mostNames             = 200 * time.Millisecond, 5 * time.Second
	nameWithin                        = 100 * time.Millisecond // a divergence is reported, whether its documents are known or not
)

const (
	mostTries      = 3   // of a question that cannot be answered at this moment
	sessionBuckets = 32  // that one session takes on at most
	sessionDocs    = 512 // expected in them; a single bucket may have more
	smallDocs      = 64  // that are not worth dividing among peers
	guessedDocs    = 16  // in a bucket of which nothing is known
	mostWants      = 256 // documents asked for per partition
	mostSuspects   = 8   // buckets whose documents are named
	nameTries      = 8   // for the documents of one
	uniformShare   = 0.1 // of choices that ignore latency
	mostFinishes   = 4   // side by side; while others wait for their turn nothing more is pulled
)

// patience is how long the pull that is next in line gives way to readers when it lacks memory.
const patience = time.Second

// part is what the plan knows of one partition.
type part struct {
	id      uint32
	voter   bool
	removed bool
	applied uint64
	version uint64
	sound   int // peers that are alive and lack nothing; kept by order
	holes   interval.Set
	buckets *buckets // of a sick member; nil when it is healthy, but for what may still be under way
	peers   []Peer
	known   []*acquaintance

	// The comparison in flight or to come, for healthy and sick alike.
	comparing    bool
	stirred      bool      // something changed since the last comparison began
	due          time.Time // of a healthy member: when it is to be compared
	compareAfter time.Time // not before
	entry        entry     // in the plan's agenda, or its late ones
	at           uint64    // retry at this index, with this peer
	atPeer       string
	tries        int

	surveyed bool // the buckets that miss something have been compared, or cannot be
	marking  bool
	closing  bool
	stuck    int       // times that no peer covered what is missing
	failures int       // to close holes, in a row
	closeAt  time.Time // not before
	sessions int

	wants    []want
	fetched  map[uint64]time.Time // hashes asked for lately
	suspects []*suspect
	reported map[string]bool // divergences, by peer and bucket

	progress Progress
	rated    time.Time
	sources  map[string]int // sessions, by host
}

func (pt *part) sick() bool { return !pt.holes.Empty() }

type buckets [merkle.Buckets]bucket

// bucket is one bucket of a sick member. missing ⊆ the member's holes; what is not missing is healed here.
type bucket struct {
	missing  interval.Set
	busy     bool
	session  *session // when that is what makes it busy
	failures int
	until    time.Time // not before
	avoid    string    // the peer of the last failure
	docs     int       // that may have to be pulled, as the survey has shown; −1: not known
	urgent   bool      // a document of it was missed
}

// acquaintance is what a peer has said about its own member of a partition.
type acquaintance struct {
	host     string
	coverage interval.Set
	heard    time.Time // zero: never
	failures int
	until    time.Time // not before
}

// host is a peer, over all partitions.
type host struct {
	name     string
	inFlight int
	sessions int
	latency  time.Duration // moving average; 0: not known
	failures int
	lies     int
	until    time.Time // not before
}

// call is a request in flight.
type call struct {
	host     *host
	part     *part
	session  *session
	reserved int64
	tokens   float64
	bucket   uint8
	want     want
	suspect  *suspect
}

// session pulls some buckets from one peer, one request after the other.
type session struct {
	id      uint64
	part    *part
	host    *host
	buckets []uint8   // with something to ask
	ended   []uint8   // with nothing to ask any more, and to be finished
	ending  []uint8   // that are being finished
	vacated bool      // it has nothing to ask, and holds no place at the peer
	busy    bool      // a request is in flight
	listing bool      // which is, or was last, one to list
	since   time.Time // when it was sent
	lists   int       // pages that are to be listed
	pulls   int       // items that are to be pulled
	limit   int       // of the next pull; 0: the usual one
	starved time.Time // since when its pull, first in line, lacks memory; zero: it does not
	gone    bool
}

type want struct {
	bucket uint8
	hash   uint64
	tries  int
	avoid  string
}

// suspect is a bucket in which two members differ that must not. That is certain; it is kept until the documents are named.
type suspect struct {
	bucket uint8
	peer   string
	index  uint64
	tries  int
	after  time.Time
	asking bool
	tellAt time.Time // when to report it without names, unless it is told
	told   bool
}

func newPlan(o planOptions, now time.Time) *plan {
	return &plan{o: o, now: now, refilled: now, tokens: float64(o.rate) / 10, rate: o.rate, hosts: map[string]*host{},
		calls: map[uint64]*call{}, finishes: map[uint64]*session{}}
}

// step takes an event and returns what is to be done, in this order. The last output is always a sleep.
func (p *plan) step(e event, now time.Time) []output {
	p.now, p.out, p.wake = now, nil, time.Time{}
	p.refill()
	e.apply(p)
	p.schedule()
	return append(p.out, sleep{Until: p.wake})
}

func (p *plan) emit(o output) { p.out = append(p.out, o) }

// wakeAt makes sure that the plan is stepped at t.
func (p *plan) wakeAt(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

// passed reports whether t has come, and otherwise makes sure to be there when it comes.
func (p *plan) passed(t time.Time) bool {
	if t.After(p.now) {
		p.wakeAt(t)
		return false
	}
	return true
}

// pause grows from first to most with the number of failures, and varies by a quarter so that members that failed
// together do not come back together.
func (p *plan) pause(failures int, first, most time.Duration) time.Time {
	d := most
	if failures < 16 {
		d = min(most, first<<max(0, failures-1))
	}
	return p.now.Add(d + time.Duration((p.o.random()-0.5)*0.5*float64(d)))
}

// call notes a request about to be sent.
func (p *plan) call(c call) uint64 {
	p.lastCall++
	p.calls[p.lastCall] = &c
	c.host.inFlight++
	p.reserved += c.reserved
	p.tokens -= c.tokens
	return p.lastCall
}

// settle takes note of how a request ended, as far as that concerns the peer as a whole.
func (p *plan) settle(r *result) *call {
	c := p.calls[r.Call]
	delete(p.calls, r.Call)
	c.host.inFlight--
	p.reserved -= c.reserved
	p.tokens += c.tokens
	if p.rate > 0 {
		p.tokens -= float64(r.Bytes)
	}
	h := c.host
	if r.Failure != none && r.Text != "" {
		c.part.progress.LastError = r.Text
	}
	switch r.Failure {
	case unreachable:
		h.failures++
		h.until = p.pause(h.failures, pauseUnreachable, mostUnreachable)
	case liar:
		h.lies++
		h.until = p.pause(h.lies, pauseLiar, mostLiar)
	default:
		h.failures = 0
		if h.latency == 0 {
			h.latency = r.Took
		}
		if r.Took > 0 { // else nothing was sent
			h.latency += (r.Took - h.latency) / 8
		}
	}
	switch k := c.part.acquainted(h.name); r.Failure {
	case refused:
		k.failures++
		k.until = p.pause(k.failures, pauseRefused, mostRefused)
	case none:
		k.failures = 0
	}
	return c
}

func (p *plan) host(name string) *host {
	h := p.hosts[name]
	if h == nil {
		h = &host{name: name}
		p.hosts[name] = h
	}
	return h
}

// acquaintance is nil of a host that nothing is known of.
func (pt *part) acquaintance(host string) *acquaintance {
	for _, k := range pt.known {
		if k.host == host {
			return k
		}
	}
	return nil
}

func (pt *part) acquainted(host string) *acquaintance {
	k := pt.acquaintance(host)
	if k == nil {
		k = &acquaintance{host: host}
		pt.known = append(pt.known, k)
	}
	return k
}

// heard takes note of what a peer says it covers.
func (p *plan) heard(pt *part, host string, coverage interval.Set) {
	k := pt.acquainted(host)
	k.coverage, k.heard = coverage, p.now
}

// burst is how much of the byte budget can be saved up: what a tenth of a second is worth.
func (p *plan) burst() float64 { return float64(p.rate) / 10 }

// leastRate is what a deadline, however far away, leaves in bytes per second.
const leastRate = 1 << 20

// pace is the byte budget per second: the configured one, or, with a deadline, what brings all that is missing here in time
// if that is less. A deadline that has passed, or of members of which it is not known how much they miss, slows nothing.
func (p *plan) pace() int64 {
	if p.o.deadline <= 0 {
		return p.o.rate
	}
	left, end := int64(0), time.Time{}
	for _, pt := range p.active {
		if !pt.sick() {
			continue
		}
		n := pt.progress.left()
		if n == 0 {
			return p.o.rate
		}
		left += n
		if at := pt.progress.Started.Add(p.o.deadline); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	seconds := end.Sub(p.now).Seconds()
	if left == 0 || seconds <= 0 {
		return p.o.rate
	}
	need := max(leastRate, int64(float64(left)/seconds))
	if p.o.rate > 0 {
		return min(need, p.o.rate)
	}
	return need
}

// refill lets the byte budget grow with time.
func (p *plan) refill() {
	before := p.rate
	p.rate = p.pace()
	if before == 0 && p.rate > 0 {
		p.tokens = 0
	}
	if p.rate > 0 {
		p.tokens = min(p.burst(), p.tokens+p.now.Sub(p.refilled).Seconds()*float64(p.rate))
	}
	p.refilled = p.now
}

// afford reports whether a reply of limit bytes may be asked for now: there is memory for it, or nothing else uses any,
// and the byte budget is not overdrawn.
func (p *plan) afford(limit int) bool {
	if !p.fits(limit) {
		return false
	}
	if p.rate > 0 && p.tokens <= 0 {
		p.wakeAt(p.now.Add(time.Duration((1 - p.tokens) / float64(p.rate) * float64(time.Second))))
		return false
	}
	return true
}

// fits reports whether there is memory for a reply of limit bytes.
func (p *plan) fits(limit int) bool {
	return p.reserved == 0 || p.reserved+memoryOf(limit) <= p.o.memory
}

// memoryOf is what a pull's reply takes at most: as it came, uncompressed, and as the batch it is imported by.
func memoryOf(limit int) int64 { return 3 * int64(limit) }

// cost is what is taken from the byte budget before the size of a reply is known.
func (p *plan) cost(limit int) float64 {
	if p.rate == 0 {
		return 0
	}
	return min(float64(limit)/2, float64(p.rate))
}

// find returns the partition, or nil, and where it is or belongs among others.
func find(parts []*part, id uint32) (*part, int) {
	i, found := slices.BinarySearchFunc(parts, id, func(pt *part, id uint32) int { return cmp.Compare(pt.id, id) })
	if !found {
		return nil, i
	}
	return parts[i], i
}

// activate keeps active up to date after a partition's state changed.
func (p *plan) activate(pt *part) {
	there, i := find(p.active, pt.id)
	busy := !pt.removed && (pt.sick() || len(pt.suspects) > 0)
	switch {
	case busy && there == nil:
		p.active = slices.Insert(p.active, i, pt)
	case !busy && there == pt:
		p.active = slices.Delete(p.active, i, i+1)
	}
	p.ordered = false
}

// cool lets go of the buckets of members that are healthy again, once nothing under way can come back to them.
func (p *plan) cool() {
	waiting := p.cooling[:0]
	for _, pt := range p.cooling {
		switch {
		case pt.removed || pt.sick():
		case pt.sessions > 0 || pt.marking || pt.closing || p.calling(pt):
			waiting = append(waiting, pt)
		default:
			pt.buckets, pt.fetched = nil, nil
		}
	}
	clear(p.cooling[len(waiting):])
	p.cooling = waiting
}

// calling reports whether a call for a partition is in flight.
func (p *plan) calling(pt *part) bool {
	for _, c := range p.calls {
		if c.part == pt {
			return true
		}
	}
	return false
}

// progress returns the figures of all members under repair, in the order in which they are repaired.
func (p *plan) progress() []Progress {
	var list []Progress
	for _, pt := range p.order() {
		if pt.sick() {
			g := pt.progress
			g.forget(p.now.Sub(pt.rated))
			g.Sources = slices.Sorted(maps.Keys(pt.sources))
			g.show(p.now)
			list = append(list, g)
		}
	}
	return list
}
