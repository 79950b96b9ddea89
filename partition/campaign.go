package partition

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// candidacy is what a member that is no leader remembers between two ticks. Only Tick and campaign touch it, under the
// partition's mu.
type candidacy struct {
	underWay  bool
	notBefore time.Time     // the next attempt
	attempts  int           // since the leader fell silent
	silent    time.Time     // since when the leader has been found silent; zero while it is not
	nourished time.Time     // when Raft was last told that its leader lives
	noted     uint64        // commit index that followers were last told beside entries
	noteFrom  time.Time     // no note before
	noteIn    time.Duration // the same, from the next tick on
	seen      uint64        // commit index at the last tick
	nudged    uint64        // last index at the last nudge
	nudges    int           // since then
	stalled   stalled
	logged    uint64    // last index at the last tick
	quiet     time.Time // since when that has been so; zero once the log was told
}

// Note is a leader's word on how far the log is committed, for followers that no entry is going to tell. The entry at Index
// is of IndexTerm: a follower whose log differs there does not take it.
type Note struct {
	Term, Index, IndexTerm uint64
	To                     []raft.ServerID
}

// Tick looks after a member whose host keeps the sign of life (Options.Liveness): the host calls it every Heartbeat / 8 or so
// for each of its members. now may lag behind the clock while the host can't tell who is silent. It starts a campaign when the leader is silent, tells Raft that the leader lives when it is not,
// and returns what a leader's followers are to be told. It does not block.
func (p *Partition) Tick(now time.Time) (Note, bool) {
	if p.o.Liveness == nil {
		return Note{}, false
	}
	since := p.awake.look()
	switch p.raft.Load().State() {
	case raft.Leader:
		if p.stuck(p.o.Clock()) {
			p.guard.resign() // the host beats on, but not for this partition
			if p.strained().tell() {
				p.o.Events.Stuck()
			}
			return Note{}, false
		}
		p.push(now)
		p.guard.rest(p.Term(), now)
		p.mu.Lock()
		p.restLog(now)
		p.mu.Unlock()
		return p.note(now, since)
	case raft.Shutdown:
		p.awake.settle(false, since)
		return Note{}, false
	}
	p.guard.outgrow(p.Term())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restLog(now)
	if p.lead != nil {
		p.awake.wake()
		return Note{}, false // out of office, and about to notice (watch)
	}
	contact := p.guard.lastContact()
	c := &p.candidacy
	if missed := now.Sub(contact); missed < p.missedAfter() {
		if !c.silent.IsZero() {
			p.wake() // somebody leads after all (lookLeader)
		}
		c.silent, c.attempts = time.Time{}, 0
		// Only of a leader that beats speak for does the host notice by itself that it falls silent. Who has just voted, stood down or
		// been opened may hear of none.
		_, _, beat := p.o.Liveness.Contact(p.o.ID)
		p.awake.settle(missed > p.o.Timing.Heartbeat/2 || beat.IsZero(), since)
		p.nourish(now)
		return Note{}, false
	}
	p.awake.wake()
	if c.silent.IsZero() {
		c.silent = now
		c.notBefore = now.Add(p.turn())
		p.wake() // nobody is known to lead any more (lookLeader)
	}
	if !c.underWay && !now.Before(c.notBefore) && !p.closed && p.failure == nil {
		c.underWay = true
		p.watching.Go(p.campaign)
	}
	return Note{}, false
}

// restLog lets the log forget what it keeps in memory once nothing has been stored for as long as a pipeline that rests was not used. The
// caller holds mu.
func (p *Partition) restLog(now time.Time) {
	c := &p.candidacy
	switch last := p.raft.Load().LastIndex(); {
	case last != c.logged:
		c.logged, c.quiet = last, now
	case !c.quiet.IsZero() && now.Sub(c.quiet) >= restAfter*p.o.Timing.Heartbeat:
		c.quiet = time.Time{}
		p.o.Log.Rest()
	}
}

// stalled is a leader's view of entries that do not commit, or that its own disk alone does not have.
type stalled struct {
	term   uint64
	commit uint64
	alone  bool
	asked  uint64    // alone: up to where the log went that the disk does not have, without what was pushed since
	pushed uint64    // the last entry once the last push is in the log
	next   time.Time // when to push
	wait   time.Duration
}

// push makes one more entry when those before it do not commit. Raft sends an entry that did not arrive again only along with
// another one, and learns by the next one that its connection to a follower broke. An application that waits for its
// write may make none. Once in a heartbeat it makes one while only this member's disk has not stored what there is: whether the others go on
// says whether they would do better (stuck).
func (p *Partition) push(now time.Time) {
	if term, due := p.pushDue(now); due {
		p.another(term)
	}
}

// another makes an entry that changes nothing. It counts as nobody's barrier. When Raft has no room now it is not needed: what fills the
// room is sent.
func (p *Partition) another(term uint64) {
	p.raft.Load().Apply((&command{EvalTerm: term, Barrier: true, Founding: p.fsm.foundingID()}).encode(), time.Millisecond)
}

// again makes an entry at once, because Raft has dropped a request.
func (p *Partition) again() {
	p.mu.Lock()
	l, offered := p.lead, p.offered
	p.mu.Unlock()
	if l != nil && !offered {
		p.awake.wake()
		p.another(l.term)
	}
}

func (p *Partition) pushDue(now time.Time) (term uint64, due bool) {
	r := p.raft.Load()
	last, commit, durable := r.LastIndex(), r.CommitIndex(), p.log.durable()
	p.mu.Lock()
	defer p.mu.Unlock()
	if last > commit {
		p.awake.wake()
	}
	l, s := p.lead, &p.candidacy.stalled
	if l == nil || p.offered {
		return 0, false // the successor holds the whole log
	}
	if s.term != l.term {
		*s = stalled{term: l.term}
	}
	if p.handing {
		durable = last // to ask who is faster is over; what does not commit is pushed
	}
	return l.term, s.due(last, commit, durable, p.o.Timing.Heartbeat, now)
}

// due reports whether it is time for another entry, and notes that it is made.
func (s *stalled) due(last, commit, durable uint64, beat time.Duration, now time.Time) bool {
	if s.asked == 0 || last > s.pushed { // somebody wrote
		s.asked = last
	}
	alone := last <= commit && durable < s.asked
	if s.wait == 0 || alone != s.alone || !alone && (last <= commit || commit != s.commit) {
		*s = stalled{term: s.term, commit: commit, alone: alone, asked: s.asked, pushed: max(s.pushed, last), next: now.Add(beat), wait: beat}
		return false
	}
	if now.Before(s.next) || alone && last < s.pushed { // Raft has not taken the one before
		return false
	}
	if !alone {
		s.wait = min(2*s.wait, 16*beat)
	}
	s.pushed, s.next = last+1, now.Add(s.wait)
	return true
}

// note tells followers the commit index once it has not moved for a tick: while it does, entries tell it.
func (p *Partition) note(now time.Time, since uint64) (Note, bool) {
	r := p.raft.Load()
	last, commit := r.LastIndex(), r.CommitIndex()
	p.mu.Lock()
	c, l := &p.candidacy, p.lead
	if l == nil || r.CurrentTerm() != l.term || r.State() != raft.Leader { // it would be told in a term that another leads
		p.mu.Unlock()
		return Note{}, false
	}
	term := l.term
	if p.joined.Swap(false) {
		c.noted, c.noteFrom, c.noteIn = 0, time.Time{}, 0
	}
	if c.noteIn > 0 { // the ticks' time is another than the clock's (Tick)
		c.noteFrom, c.noteIn = now.Add(c.noteIn), 0
	}
	quiet := commit == c.seen && commit > c.noted && commit <= p.log.durable() && !now.Before(c.noteFrom)
	c.seen = commit
	if quiet {
		c.noted = commit
	}
	p.awake.settle(commit > c.noted || last > commit || p.log.overdue(now) > 0, since)
	p.mu.Unlock()
	if !quiet {
		return Note{}, false
	}
	of, ok := termOf(p.o.Log)(commit)
	if !ok {
		return Note{}, false
	}
	n := Note{Term: term, Index: commit, IndexTerm: of}
	if f := r.GetConfiguration(); f.Error() == nil {
		for _, s := range f.Configuration().Servers {
			if s.ID != p.o.Self {
				n.To = append(n.To, s.ID)
			}
		}
	}
	return n, len(n.To) > 0
}

// Renote has the next notes say everything again, after some time: a follower may have missed what was said.
func (p *Partition) Renote(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.candidacy.noted, p.candidacy.noteIn = 0, after
	p.awake.wake()
}

// Awake reports whether Tick has something to watch: a leader that may be silent, or a commit index to tell, or the end of an
// office, or another term. The others may be looked after less often.
func (p *Partition) Awake() bool { return p.awake.Load() }

// mostNudges is how often followers are told what is committed before a leader doubts that they have it: a directory that was
// replaced by an old copy of itself has forgotten what it acknowledged, and learns of that by the next entry only.
const mostNudges = 8

// Nudge is told that a follower lags behind a leader that has nothing to say. Raft repeats what failed to reach a follower
// only along with the next entry; when there was none since the last nudge, one is made up.
func (p *Partition) Nudge(peer raft.ServerID) {
	r := p.raft.Load()
	last := r.LastIndex()
	founding := p.fsm.foundingOr(rand.Uint64)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.candidacy
	c.noted, c.noteFrom, c.noteIn = 0, time.Time{}, 0
	p.awake.wake()
	quiet := c.nudged == last
	c.nudged = last
	if !quiet {
		c.nudges = 0
	}
	c.nudges++
	l := p.lead
	if !quiet || l == nil || p.guard.matches(peer, l.term, last) && c.nudges < mostNudges {
		return
	}
	p.barrier(l, founding)
}

// Noted takes a leader's note. Raft treats it as a request without entries: it checks the term and that the log agrees.
func (p *Partition) Noted(from raft.ServerID, n Note) {
	if n.Index == 0 {
		return
	}
	if of, ok := termOf(p.log)(n.Index); ok && of == n.IndexTerm && p.raft.Load().CommitIndex() >= n.Index {
		return
	}
	p.guard.inject(&raft.AppendEntriesRequest{RPCHeader: headerOf(from), Term: n.Term,
		PrevLogEntry: n.Index, PrevLogTerm: n.IndexTerm, LeaderCommitIndex: n.Index})
}

// nourish keeps Raft from missing a leader that only the beats have heard of. The caller holds mu.
func (p *Partition) nourish(now time.Time) {
	c := &p.candidacy
	if now.Sub(c.nourished) < backstop*p.o.Timing.Heartbeat/4 {
		return
	}
	c.nourished = now
	leader, term, at := p.o.Liveness.Contact(p.o.ID)
	if leader == "" || at.IsZero() {
		return // its own requests do
	}
	p.guard.inject(&raft.AppendEntriesRequest{RPCHeader: headerOf(raft.ServerID(leader)), Term: term})
}

// turn is how long this member leaves others the first try when their leader falls silent. The order differs from partition
// to partition, and from term to term.
func (p *Partition) turn() time.Duration {
	r := p.raft.Load()
	_, silent := r.LeaderWithID()
	voters := slices.DeleteFunc(p.voters(), func(id raft.ServerID) bool { return id == silent })
	slices.Sort(voters)
	rank := 0
	if i := slices.Index(voters, p.o.Self); i >= 0 {
		first := int((uint64(p.o.ID) + r.CurrentTerm()) % uint64(len(voters)))
		rank = (i - first + len(voters)) % len(voters)
	}
	return time.Duration(rank)*p.o.Timing.Heartbeat/4 + rand.N(p.o.Timing.Heartbeat/40+1)
}

// A member that stood in vain more often than promptAttempts waits longer before each further attempt, up to maxPatience times:
// machines that are too busy to elect anybody in time get room, and members that can win get the tokens of those that can not.
const (
	promptAttempts = 3
	maxPatience    = 4
)

// campaign makes one attempt to be elected: pre-votes first, so that a member that could not win disturbs nobody.
func (p *Partition) campaign() {
	wait := time.Duration(0) // without a token, the next tick tries again
	if p.token() {
		p.candidacies.Add(1)
		after, won := p.preElect()
		if won = won && p.guard.take(p.o.Self, p.o.Clock()) == nil && p.guard.release(p.o.Self, p.o.Clock(), false); won {
			if p.standForElection(after) {
				p.awaitElection(after)
			}
		} else {
			p.guard.giveBack(p.o.Self) // the others' turn: this member may be one that they will never elect
		}
		p.tokenBack()
		wait = p.o.Timing.Election/2 + rand.N(p.o.Timing.Election/2+1)
	}
	p.mu.Lock()
	if wait > 0 {
		p.candidacy.attempts++
		wait *= time.Duration(min(max(p.candidacy.attempts-promptAttempts+1, 1), maxPatience))
	}
	p.candidacy.underWay = false
	p.candidacy.notBefore = p.o.Clock().Add(wait)
	p.mu.Unlock()
}

// token takes one of the host's tokens for campaigns; false when none is left.
func (p *Partition) token() bool {
	if p.o.Campaigns == nil {
		return true
	}
	select {
	case p.o.Campaigns <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p *Partition) tokenBack() {
	if p.o.Campaigns != nil {
		<-p.o.Campaigns
	}
}

// awaitElection returns when Raft has won in a term later than the given one, or lost to somebody whose word has arrived, or
// after half an election time: for the votes, and the first word of the winner.
func (p *Partition) awaitElection(after uint64) {
	patience := time.NewTimer(p.o.Timing.Election / 2)
	defer patience.Stop()
	look := time.NewTicker(p.o.Timing.Election / 20)
	defer look.Stop()
	for {
		r := p.raft.Load()
		if _, leader := r.LeaderWithID(); leader != "" && r.State() != raft.Candidate && r.CurrentTerm() > after {
			return
		}
		select {
		case <-look.C:
		case <-patience.C:
			return
		case <-p.closing:
			return
		}
	}
}

// preElect asks the other voters whether they would vote for this member; it returns once a majority would, or can not. The
// term is the latest that this member and those who would are in.
func (p *Partition) preElect() (latest uint64, won bool) {
	voters := p.voters()
	if !slices.Contains(voters, p.o.Self) || p.guard.mayCampaign(false) != nil || p.guard.take(p.o.Self, p.o.Clock()) != nil {
		return 0, false
	}
	index, term, err := p.lastEntry()
	if err != nil {
		return 0, false
	}
	latest = p.Term()
	req := raft.RequestPreVoteRequest{RPCHeader: p.guard.header(), Term: latest + 1, LastLogIndex: index, LastLogTerm: term}
	votes := make(chan *raft.RequestPreVoteResponse, len(voters))
	for _, v := range voters {
		if v == p.o.Self {
			votes <- &raft.RequestPreVoteResponse{Granted: true}
			continue
		}
		p.watching.Go(func() {
			var resp raft.RequestPreVoteResponse
			err := p.guard.RequestPreVote(v, raft.ServerAddress(v), &req, &resp)
			resp.Granted = resp.Granted && err == nil
			votes <- &resp
		})
	}
	patience := time.NewTimer(p.o.Timing.Election)
	defer patience.Stop()
	granted := 0
	for range voters {
		select {
		case vote := <-votes:
			if vote.Granted {
				granted++
				latest = max(latest, vote.Term)
			}
			if granted > len(voters)/2 {
				return latest, true
			}
		case <-patience.C:
			return 0, false
		case <-p.closing:
			return 0, false
		}
	}
	return 0, false
}

// standForElection makes Raft a candidate in a term later than the given one, unless it is in a later one by now: then somebody
// stands already, or has won, this member perhaps. One that is in an earlier term, or still waiting out a candidacy, for which
// it takes its slow time, is first made a follower by a request of a later term, from nobody.
func (p *Partition) standForElection(after uint64) bool {
	r := p.raft.Load()
	term, state := r.CurrentTerm(), r.State()
	if term > after || state == raft.Leader {
		return false
	}
	if term < after || state == raft.Candidate {
		nobody := raft.RequestVoteRequest{RPCHeader: p.guard.header(), Term: max(after, term+1), LeadershipTransfer: true} // whomever Raft follows
		if !p.guard.inject(&nobody) {
			return false
		}
	}
	return p.guard.inject(&raft.TimeoutNowRequest{RPCHeader: p.guard.header()})
}

// Reassure sends a follower's member a word of its own, because its host does not follow this member by the beats. It blocks
// for as long as the transport does.
func (p *Partition) Reassure(peer raft.ServerID, term uint64) error {
	if p.raft.Load().State() != raft.Leader || p.Term() != term {
		return nil
	}
	return p.guard.reassure(peer, term)
}

// Stand makes an attempt to be elected without waiting for anybody to be missed: a group that was just founded.
func (p *Partition) Stand() {
	if p.o.Liveness == nil {
		return
	}
	p.guard.missNobody()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.candidacy.underWay || p.closed {
		return
	}
	p.candidacy.silent, p.candidacy.underWay = p.o.Clock(), true
	p.watching.Go(p.campaign)
}
