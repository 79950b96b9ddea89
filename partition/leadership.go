package partition

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// reviewEvery is how often a leader that does not serve looks whether it may by now.
const reviewEvery = 25 * time.Millisecond

// leadership is one stay in office: from the moment Raft won an election until it lost it, in one term. The partition's
// mu guards it.
//
// Always: a key is in pending exactly while at least one of its proposals is in waiting; handing a command to Raft never
// blocks for long: every proposal holds a slot (and room for its bytes), and Raft's queue has room for all of them and two barriers. (What an office left
// behind there, Raft takes without mu.)
type leadership struct {
	term    uint64 // the epoch
	barrier bool   // a barrier of this term is applied
	// barriers counts those handed to Raft and not applied yet: at most one.
	barriers int
	waiting  map[uint64]*proposal
	pending  map[store.Key]*pending
	over     chan struct{} // closed when the leadership has ended
	drained  chan struct{} // closed when waiting gets empty while handing over; nil otherwise
	since    time.Time     // when it began to serve; zero before
	work     worksheet

	lease    time.Time       // until when it is known to hold, by the voters of the last membership change but one at the oldest
	voters   []raft.ServerID // those
	leaseEnd time.Time       // of the lease as last seen while serving; zero before it served

	epoch  context.Context // of the present lease; nil while there is none
	cancel context.CancelFunc
}

// endEpoch cancels the context of the epoch, if one is open. The caller holds the partition's mu.
func (l *leadership) endEpoch() {
	if l.cancel != nil {
		l.cancel()
		l.epoch, l.cancel = nil, nil
	}
}

// begun opens a leadership: nothing is served before its barrier is applied.
func (p *Partition) begun() {
	r := p.raft.Load()
	term := r.CurrentTerm()
	l := &leadership{term: term, waiting: map[uint64]*proposal{}, pending: map[store.Key]*pending{}, over: make(chan struct{})}
	founding := p.fsm.foundingOr(rand.Uint64)
	p.mu.Lock()
	defer p.mu.Unlock()
	given := p.guard.offeredAway(term) // in an office that was seen under the term of the next one (proposals)
	p.lead, p.handing, p.offered = l, given, given
	p.barrier(l, founding)
}

// barrier hands a barrier to Raft, unless one is on its way: Raft has room for two, this one and that of a leadership
// before. The caller holds mu.
func (p *Partition) barrier(l *leadership, founding uint64) {
	if l.barriers > 0 {
		return
	}
	l.barriers++
	p.hand(&command{EvalTerm: l.term, Barrier: true, Founding: founding}, 0)
}

// hand gives a command to Raft; the caller holds mu, so commands reach Raft in the order of their evaluation. The future is
// not waited for: Raft may never answer it (facts); complete and ended answer the proposers. after and the result are what the
// outbox says of the document's command before, and of this one.
func (p *Partition) hand(c *command, after uint64) (entry uint64) {
	p.awake.wake()
	return p.outbox.put(c, after)
}

// ended closes the leadership, if there is one. What is in flight is acknowledged if it was applied by now; otherwise its
// outcome is unknown. Each of the documents gets an event (design §9, catastrophic failure).
func (p *Partition) ended(reason string) {
	l, failed := p.leaveOffice()
	if l == nil {
		return
	}
	losses := make(map[store.Key]Loss, len(l.pending))
	for key, pd := range l.pending {
		losses[key] = p.loss(key, pd, Loss{Key: key, Epoch: l.term, LastSeq: -1, Unknown: true, Reason: reason}, failed)
	}
	p.mu.Lock()
	for _, pr := range l.waiting {
		var err error
		if losses[pr.key].Unknown {
			err = &AmbiguousError{Partition: p.o.ID, Key: pr.key, Reason: reason}
		}
		p.finish(pr, err)
	}
	for _, pd := range l.pending {
		pd.settle()
	}
	p.mu.Unlock()
	for _, loss := range losses {
		p.o.Events.Lost(loss)
	}
}

// leaveOffice ends the leadership, nil if there is none, and reports whether this member failed. From then on waiting and pending
// are the caller's.
func (p *Partition) leaveOffice() (l *leadership, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l = p.lead
	p.lead, p.handing, p.offered = nil, false, false
	if l == nil {
		return nil, false
	}
	close(l.over)
	p.outbox.drop()
	p.guard.resign()
	p.guard.stoodDown(p.o.Clock())
	p.awake.wake()
	l.endEpoch()
	if l.drained != nil {
		close(l.drained)
	}
	if len(l.waiting) > 0 {
		p.lostWith.Add(1)
	}
	return l, p.failure != nil
}

// loss completes what is told of a document with writes in flight. The outcome of appends is known when the document ends, here,
// where the last of them leaves it: what is applied is committed. A member that failed vouches for nothing.
func (p *Partition) loss(key store.Key, pd *pending, l Loss, failed bool) Loss {
	head, ok, err := p.o.Documents.Head(key)
	if err != nil || !ok {
		return l
	}
	l.LastSeq = head.HeadSeq
	l.Unknown = failed || pd.opaque || head.Generation != pd.head.Generation || head.HeadSeq != pd.head.HeadSeq || head.Chain != pd.head.Chain
	return l
}

// lookOut ends a leadership that can not go on although Raft has not said so: a durable step failed, or no majority has
// followed for so long that another may lead by now. The latter happens when Raft's main goroutine waits for the disk.
func (p *Partition) lookOut() {
	p.mu.Lock()
	l, failure := p.lead, p.failure
	now := p.o.Clock()
	lost := l != nil && l.leaseless(now) > 2*p.o.Timing.Heartbeat
	if lost { // as far as was seen the last time: this goroutine may have been late
		s, _ := p.standing(now)
		lost = !s.lease
	}
	p.mu.Unlock()
	switch {
	case l == nil:
	case failure != nil:
		p.ended("a durable step failed")
	case lost:
		p.guard.mute(l.term)
		p.ended("no majority follows")
	}
}

// leaseless is for how long a leadership that has served has had no lease; 0 while it has one. The caller holds mu.
func (l *leadership) leaseless(now time.Time) time.Duration {
	if l.leaseEnd.IsZero() || now.Before(l.leaseEnd) {
		return 0
	}
	return now.Sub(l.leaseEnd)
}

// review looks at the standing, opens or ends the epoch accordingly and returns after what time to look again.
func (p *Partition) review() time.Duration {
	now := p.o.Clock()
	p.mu.Lock()
	l := p.lead
	if l != nil && p.raft.Load().CurrentTerm() != l.term && p.raft.Load().State() == raft.Leader {
		// Office was lost and won again between two looks; the notifications are on their way.
		p.mu.Unlock()
		return reviewEvery
	}
	r, until := p.refresh(now)
	if l != nil {
		p.epoch = l.term
	}
	changed := r != p.serves
	p.serves = r
	p.mu.Unlock()
	if changed {
		p.o.Events.Serving(p.epoch, r)
	}
	switch {
	case l == nil:
		return untilWoken
	case r == Serves && p.o.Keeper.keep(p, until):
		return untilWoken
	case r == Serves:
		return max(until.Sub(now), time.Millisecond)
	}
	return reviewEvery
}

// refresh opens or ends the epoch as the standing demands, and returns the standing and when the lease ends. The caller
// holds mu.
func (p *Partition) refresh(now time.Time) (Refusal, time.Time) {
	s, until := p.standing(now)
	r := s.serving()
	l := p.lead
	if l == nil {
		return r, until
	}
	switch {
	case r == Serves:
		l.leaseEnd, p.servedAt = until, now
		if l.cancel == nil {
			l.epoch, l.cancel = context.WithCancel(context.Background())
		}
		if l.since.IsZero() {
			l.since = now
		}
	default:
		l.endEpoch()
	}
	return r, until
}

// standing gathers what the serving rule looks at, and when the lease ends. The caller holds mu.
func (p *Partition) standing(now time.Time) (standing, time.Time) {
	r := p.raft.Load()
	s := standing{failed: p.failure != nil || p.closed, safeMode: p.safeMode != "", handingOver: p.handing, offered: p.offered}
	if p.lead == nil || r.State() != raft.Leader || r.CurrentTerm() != p.lead.term {
		return s, now
	}
	s.leader = true
	s.complete = p.o.Documents.Complete()
	s.barrier = p.lead.barrier
	if now.Before(p.lead.lease) {
		s.lease = true
		return s, p.lead.lease
	}
	p.lead.voters = p.voters()
	until, ok := p.leaseOf(p.lead.term, p.lead.voters, now)
	if s.lease = ok && now.Before(until); s.lease {
		p.lead.lease = until
	}
	return s, until
}

// forgetLease has the lease looked for anew, before the voters change. Majorities before and after one change have a voter in
// common, so that what was known of the lease outlives one; not two.
func (p *Partition) forgetLease() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lead != nil {
		p.lead.lease, p.lead.voters = time.Time{}, nil
	}
}

// leaseUntil is when the lease of term ends, by the present voters.
func (p *Partition) leaseUntil(term uint64, now time.Time) (time.Time, bool) {
	return p.leaseOf(term, p.voters(), now)
}

// leaseOf is when the lease of term ends: a majority followed at some send time, and the lease runs from there, shortened by
// the drift two clocks may have (design §9).
func (p *Partition) leaseOf(term uint64, voters []raft.ServerID, now time.Time) (time.Time, bool) {
	at, ok := p.guard.followed(term, voters, now)
	if !ok {
		return now, false
	}
	return leaseEnd(at, p.o.Timing.Lease, p.o.Timing.Drift), true
}

// leaseEnd is when a lease ends that a majority granted for requests sent at a time, or later.
func leaseEnd(sent time.Time, length time.Duration, drift float64) time.Time {
	return sent.Add(time.Duration(float64(length) * (1 - drift)))
}

// inOffice reports whether Raft leads here with a lease that holds, whether or not this member serves.
func (p *Partition) inOffice(now time.Time) bool {
	r := p.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return false
	}
	until, ok := p.leaseUntil(r.CurrentTerm(), now)
	return ok && now.Before(until)
}

// voters are those of Raft's latest configuration, committed or not.
func (p *Partition) voters() []raft.ServerID {
	r := p.raft.Load()
	if r == nil { // a request came before Raft was there
		return nil
	}
	f := r.GetConfiguration()
	if f.Error() != nil { // answered at once, from memory
		return nil
	}
	var ids []raft.ServerID
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// replicates reports whether this member leads in a term, and has a peer to replicate to.
func (p *Partition) replicates(peer raft.ServerID, term uint64) bool {
	r := p.raft.Load()
	if r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
		return false
	}
	servers, err := p.Configured()
	return err == nil && slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == peer })
}

// lookLeader reports who leads when that changed, "" when nobody is known to: who is missed leads no more.
func (p *Partition) lookLeader() {
	r := p.raft.Load()
	term := r.CurrentTerm()
	_, id := r.LeaderWithID()
	for now := r.CurrentTerm(); now != term; now = r.CurrentTerm() { // both of one term
		term = now
		_, id = r.LeaderWithID()
	}
	p.mu.Lock()
	if p.missing(id) {
		id = ""
	}
	changed := id != p.leaderID || id != "" && term != p.leadTerm
	p.leaderID, p.leadTerm = id, term
	p.mu.Unlock()
	if changed {
		p.o.Events.Leader(id, term)
	}
}

// missing reports whether a leader that Raft knows is missed by this member, or is this member and has given up: Raft's own timers
// are slow. The caller holds mu.
func (p *Partition) missing(leader raft.ServerID) bool {
	if leader == p.o.Self {
		return p.lead == nil
	}
	return !p.candidacy.silent.IsZero() && p.o.Clock().Sub(p.guard.lastContact()) >= p.missedAfter()
}

// knownLeader is who leads as Raft here knows it, "" when unknown or missed. The caller holds mu.
func (p *Partition) knownLeader(r *raft.Raft) raft.ServerID {
	_, id := r.LeaderWithID()
	if p.missing(id) {
		return ""
	}
	return id
}

// Epoch returns the term this member serves in and a context that ends with the lease: the fencing token and the scope
// for an application's own side effects (design §9).
func (p *Partition) Epoch() (uint64, context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, _ := p.refresh(p.o.Clock()); r != Serves {
		return 0, nil, p.notServing(r)
	}
	return p.lead.term, p.lead.epoch, nil
}

// notServing is the refusal for reason r. The caller holds mu.
func (p *Partition) notServing(r Refusal) *NotServingError {
	e := &NotServingError{Partition: p.o.ID, Reason: r, Epoch: p.leadTerm}
	switch {
	case p.failure != nil:
		e.Detail = p.failure.Error()
	case r == InSafeMode:
		e.Detail = p.safeMode
	}
	if raftNode := p.raft.Load(); raftNode != nil {
		e.Leader = p.knownLeader(raftNode)
	}
	return e
}
