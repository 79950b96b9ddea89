package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/clock"
)

// Transport is what a partition needs of the network: Raft's transport with pre-votes. One that is a DirectTransport too
// saves goroutines on the way to Raft and back.
type Transport interface {
	raft.Transport
	raft.WithPreVote
}

var (
	errMuted     = errors.New("this leader no longer replicates: it offered its leadership, or lost its majority")
	errStuck     = errors.New("this leader's disk does not answer")
	errFull      = errors.New("this member takes no more requests")
	errStopped   = errors.New("this member stopped after a failed durable step")
	errVetoed    = errors.New("this member does not campaign now")
	errPromised  = errors.New("this member promised not to help another leader into office yet")
	errInOffice  = errors.New("this member leads, and a majority follows it")
	errReturned  = errors.New("this member has left and forgot what it knew: it has no vote until it is a member again")
	errLateOffer = errors.New("leadership was offered by another than the present leader")
)

// guard stands between Raft and the transport (design §9). It measures the leader's lease, keeps the voter's promise,
// withholds the candidacies of a sick member during its grace period, and answers markers that change nothing. Raft itself
// knows of none of this.
//
// Requests pass one after the other (door), as Raft's main goroutine would take them anyway; so a promise is in force before the
// next vote request is looked at.
type guard struct {
	partition    uint32
	inner        Transport
	now          clock.Clock
	live         Liveness // nil: Raft's own heartbeats are the only sign of life
	self         raft.ServerID
	leaseFor     time.Duration
	restAfter    time.Duration                                   // for how long nothing passes a pipeline until it rests
	vetoed       func(now time.Time, lastContact time.Time) bool // sick or draining, and within the grace period
	covered      func(*raft.InstallSnapshotRequest) bool         // a marker that says nothing new
	term         func() uint64                                   // Raft's current term
	log          *watchedLog                                     // how far it is durable
	stuck        func(now time.Time) bool                        // a durable step of this member is overdue
	joined       func()                                          // a follower acknowledged for the first time; only with live
	origin       *atomic.Pointer[lineage]                        // of the group, once it was recovered; nil: it never is
	founding     func() uint64                                   // the group's id; 0 unknown
	stir         func()                                          // the term may have changed
	again        func()                                          // Raft is to send its followers what they have not got
	returned     func() bool                                     // this member has forgotten what it voted for; see Options.Returned
	inOffice     func(now time.Time) bool                        // this member leads, and its lease holds
	vouches      func(*raft.RequestPreVoteRequest) error         // Raft here would vote for it; only with live
	voters       func() []raft.ServerID                          // of the newest configuration here
	committed    func() committed                                // what this member knows of the log of the group
	reached      func() uint64                                   // how far that goes, about
	contradicted func(Contradiction)                             // a leader lacks what was committed
	replicates   func(peer raft.ServerID, term uint64) bool      // this member leads in that term, and the peer is a member
	consumer     chan raft.RPC
	door         door
	direct       bool           // the transport is a DirectTransport
	forwarding   sync.WaitGroup // of what another transport's Consumer brings
	stop         chan struct{}
	dead         atomic.Bool   // nothing leaves or enters any more: a durable step failed
	died         chan struct{} // closed then; Raft may answer nothing any more

	mu      sync.Mutex
	lease   lease
	promise promise
	contact time.Time     // since when a leader can be missed: the last request of an accepted one, a vote, start-up
	heard   time.Time     // when a leader was last heard of; zero if never
	muted   uint64        // term in which this leader must not replicate any more
	changed chan struct{} // closed and replaced when an acknowledgement arrives; nil while nobody waits

	follows promise   // as last told to live; leader "" when nobody
	wire    time.Time // heartbeats have to prove more than what was sent until then
	offer   uint64    // term in which this member was offered the leadership
	told    time.Time // when contradicted was called last
	gave    promise   // the last offer that this member made: to whom, and in which term of its own
	ballot  ballot

	pipelines []*guardedPipeline // open ones
	followers []follower         // those it had to do with as a leader
}

// start begins to deliver inbound requests. A member that may have promised before it was restarted, in the given term or
// an earlier one, keeps quiet for a full lease.
func (g *guard) start(term uint64) {
	now := g.now()
	g.contact = now
	if term > 0 {
		g.promise = promise{term: term, until: now.Add(g.leaseFor)}
	}
	g.consumer, g.stop, g.died = make(chan raft.RPC), make(chan struct{}), make(chan struct{})
	g.door.serve = g.deliver
	if d, ok := g.inner.(DirectTransport); ok {
		g.direct = true
		d.Direct(g.receive, g.noteAck)
		return
	}
	g.forwarding.Go(g.forward)
}

// die lets nothing leave or enter any more.
func (g *guard) die() {
	if !g.dead.Swap(true) {
		close(g.died)
	}
}

// close ends the delivery. It must be called before Raft is shut down or after; either is safe.
func (g *guard) close() {
	close(g.stop)
	g.forwarding.Wait()
	g.door.shut()
}

// forward takes what a transport's Consumer brings.
func (g *guard) forward() {
	for {
		select {
		case rpc, ok := <-g.inner.Consumer():
			if !ok {
				return
			}
			in := inbound{rpc: rpc, answer: func(r raft.RPCResponse) { rpc.Respond(r.Response, r.Error) }}
			if !g.door.put(in) {
				in.refuseOrAnswer(nil, errFull)
			}
		case <-g.stop:
			return
		}
	}
}

// deliver hands one request to Raft and its answer back.
func (g *guard) deliver(in inbound) {
	rpc, received := in.rpc, g.now()
	if in.own {
		g.askOwn(rpc)
		return
	}
	if err := openMarker(&rpc); err != nil {
		in.refuseOrAnswer(nil, err)
		return
	}
	if resp, err, handled := g.intercept(rpc, received); handled {
		in.refuseOrAnswer(resp, err)
		return
	}
	r, ok := g.ask(g.unnamed(shown(rpc)))
	if g.dead.Load() { // what Raft says now may rest on a step that never became durable
		in.refuseOrAnswer(nil, errStopped)
		return
	}
	if !ok {
		in.refuseOrAnswer(nil, raft.ErrRaftShutdown)
		return
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		g.accepted(req, r, received)
		if err := g.unmatched(req, r); err != nil {
			in.refuseOrAnswer(nil, err)
			return
		}
		if n := len(req.Entries); n > 0 && r.Error == nil {
			g.acknowledge(in, r, req.Entries[n-1].Index)
			return
		}
	case *raft.RequestVoteRequest:
		g.voted(req, r, g.now())
		g.stir()
	}
	in.answer(r)
}

// shown keeps the commit index that a request tells to what it shows of the leader's log (§5.3 of the Raft paper: the index of the last new
// entry). Raft itself takes the end of this member's log, whatever that is: it relies on a leader that shows its log without a gap, in
// requests that nobody cuts.
func shown(rpc raft.RPC) raft.RPC {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok {
		return rpc
	}
	last := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		last = req.Entries[n-1].Index
	}
	if req.LeaderCommitIndex > last {
		less := *req
		less.LeaderCommitIndex = last
		rpc.Command = &less
	}
	return rpc
}

// unnamed leaves out who a candidate is: Raft then judges it by its log and its term alone. Raft refuses a candidate that is no voter in
// the newest configuration here, which may be older than the candidate's own: where those with the newer one lack this vote,
// and this one is too far behind to be elected, nobody would lead ever again. §6 of the Raft paper has servers vote whoever asks; who
// was taken out has a log that is too short for those who know of it, or knows of it itself and does not stand.
func (g *guard) unnamed(rpc raft.RPC) raft.RPC {
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		anybody := *req
		anybody.ID = nil
		rpc.Command = &anybody
	case *raft.RequestPreVoteRequest: // here Raft insists on a name
		if voters := g.voters(); len(voters) > 0 {
			somebody := *req
			somebody.ID = []byte(voters[0])
			rpc.Command = &somebody
		}
	}
	return rpc
}

// ask hands a request to Raft and waits for what it says; false when the guard is closing, or the member has stopped: its Raft has ended,
// or is about to.
func (g *guard) ask(rpc raft.RPC) (raft.RPCResponse, bool) {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case g.consumer <- raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: answer}:
	case <-g.died:
		return raft.RPCResponse{}, false
	case <-g.stop:
		return raft.RPCResponse{}, false
	}
	select {
	case r := <-answer:
		return r, true
	case <-g.died:
		return raft.RPCResponse{}, false
	case <-g.stop:
		return raft.RPCResponse{}, false
	}
}

// acknowledge answers a request with entries once they are durable here: the leader counts upon them from then on.
func (g *guard) acknowledge(in inbound, r raft.RPCResponse, last uint64) {
	if resp, ok := r.Response.(*raft.AppendEntriesResponse); !ok || !resp.Success {
		in.answer(r)
		return
	}
	g.log.whenDurable(last, func(err error) {
		if err != nil || g.dead.Load() {
			in.refuseOrAnswer(nil, errStopped)
			return
		}
		in.answer(r)
	})
}

// intercept answers, in Raft's place, the requests that Raft must not see now.
func (g *guard) intercept(rpc raft.RPC, now time.Time) (resp any, err error, handled bool) {
	if g.dead.Load() {
		return nil, errStopped, true
	}
	if err := g.fence(rpc.Command); err != nil {
		return nil, err, true
	}
	if err := g.contradicts(rpc); err != nil {
		return nil, err, true
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if err := gapless(req); err != nil {
			return nil, err, true
		}
	case *raft.RequestVoteRequest:
		if g.returned != nil && g.returned() {
			return nil, errReturned, true
		}
		excused := takeMark(req) && g.released(req)
		if !excused && g.inOffice(now) {
			return nil, errInOffice, true
		}
		if !g.release(raft.ServerID(req.ID), now, excused) {
			return nil, errPromised, true
		}
	case *raft.RequestPreVoteRequest:
		if g.returned != nil && g.returned() {
			return nil, errReturned, true
		}
		if g.live != nil {
			resp, err = g.preVote(req, now)
			return resp, err, true
		}
		if g.forbids(raft.ServerID(req.ID), now) {
			return nil, errPromised, true
		}
	case *raft.TimeoutNowRequest:
		if g.vetoed(now, now) {
			return nil, errVetoed, true
		}
		if !g.offered(req) {
			return nil, errLateOffer, true
		}
		g.accept(req, now)
	case *raft.InstallSnapshotRequest:
		term := g.term()
		covered := req.Term >= term && g.covered(req)
		switch {
		case g.dead.Load(): // it could not be seen
			return nil, errStopped, true
		case !covered:
			return nil, nil, false
		}
		_, _ = io.Copy(io.Discard, rpc.Reader)
		if req.Term > term { // Raft has to learn the term first; the next heartbeat tells it
			return nil, fmt.Errorf("marker of term %d, this member is at term %d", req.Term, term), true
		}
		return &raft.InstallSnapshotResponse{RPCHeader: req.RPCHeader, Term: term, Success: true}, nil, true
	}
	return nil, nil, false
}

// gapless refuses entries that do not follow one another, and what they are sent behind: the log would, and a failed log stops the member.
func gapless(req *raft.AppendEntriesRequest) error {
	for i, e := range req.Entries {
		if want := req.PrevLogEntry + 1 + uint64(i); e.Index != want {
			return fmt.Errorf("entry %d where %d follows", e.Index, want)
		}
	}
	return nil
}

// accepted notes that Raft took req as its leader's: from then on the promise holds.
func (g *guard) accepted(req *raft.AppendEntriesRequest, r raft.RPCResponse, received time.Time) {
	resp, ok := r.Response.(*raft.AppendEntriesResponse)
	if !ok || r.Error != nil || resp.Term != req.Term {
		return
	}
	id := raft.ServerID(req.ID)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.promise.extend(id, req.Term, received, g.leaseFor)
	g.contact, g.heard = received, received
	g.follow(id, req.Term)
}

// released reports whether the vote request of a candidate that was offered the leadership is excused from the promise: it
// asks for the very next term. The offer came from the leader of the term before (offered), who had stopped serving in that
// term by then; a promise of that term binds nobody any more, and one of an earlier term had ended before that leader was
// elected. That leader itself made no promise in its term, and may be the one whose vote is needed: of two voters, or when
// others are down. It knows whom it has made the offer to.
func (g *guard) released(req *raft.RequestVoteRequest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gave.term > g.promise.term {
		return g.gave.leader == raft.ServerID(req.ID) && req.Term == g.gave.term+1
	}
	return req.Term == g.promise.term+1
}

// offered reports whether an offer of leadership comes from the leader this member follows, in its present term. An offer
// that was under way for longer than its leader stayed in office must not put anybody above the present one, who serves.
func (g *guard) offered(req *raft.TimeoutNowRequest) bool {
	term, ok := offerTerm(req)
	if !ok || term != g.term() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promise.term == term && g.promise.leader == raft.ServerID(req.ID)
}

func (g *guard) forbids(candidate raft.ServerID, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promise.forbids(candidate, now) || g.beatForbids(candidate, now)
}

// lastHeard is when a leader was last heard of, by a request or by its host's beats; zero if never.
func (g *guard) lastHeard() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.beatContact(); at.After(g.heard) {
		return at
	}
	return g.heard
}

// lastContact is since when a leader can be missed: like lastHeard, but a vote, an offer of leadership, the end of the own
// office and the start count, too.
func (g *guard) lastContact() time.Time {
	at := g.beatContact()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.contact.After(at) {
		return g.contact
	}
	return at
}

// followed returns the latest time at which a majority of voters is known to have followed this member as the leader of
// term (lease.majority).
func (g *guard) followed(term uint64, voters []raft.ServerID, now time.Time) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease.majority(term, voters, g.self, now, g.beatAcked)
}

// acked is closed when the next acknowledgement arrives.
func (g *guard) acked() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// noteAck counts the answer to a request that was sent to a follower.
func (g *guard) noteAck(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, sent time.Time) {
	if resp.Term != req.Term || g.dead.Load() {
		return
	}
	match := uint64(0)
	if n := len(req.Entries); resp.Success && n > 0 { // durably; what precedes a request without entries need not be
		match = req.Entries[n-1].Index
	}
	g.mu.Lock()
	g.lease.ack(id, req.Term, sent, match)
	fresh := g.led(id, req.Term)
	g.mu.Unlock()
	g.wakeWaiting()
	if fresh {
		g.joined()
	}
}

// wakeWaiting has those look who wait for acknowledgements.
func (g *guard) wakeWaiting() {
	g.mu.Lock()
	changed := g.changed
	g.changed = nil
	g.mu.Unlock()
	if changed != nil {
		close(changed)
	}
}

// match returns through which index a follower is known to hold the leader's log of term; false when nothing is known of that
// term.
func (g *guard) match(id raft.ServerID, term uint64) (uint64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.lease.of(id); a != nil && g.lease.term == term {
		return a.match, true
	}
	return 0, g.lease.term == term
}

// matches reports whether a follower is known to hold the leader's log of term through index.
func (g *guard) matches(id raft.ServerID, term, index uint64) bool {
	match, ok := g.match(id, term)
	return ok && match >= index
}

// mute stops this leader's replication in term, so that it steps down: what is left to do when leadership was offered
// and the offer came to nothing, because the offer can not be taken back.
func (g *guard) mute(term uint64) {
	g.mu.Lock()
	g.muted = max(g.muted, term)
	g.mu.Unlock()
	g.resign()
}

// mayReplicate refuses a leader's requests in a term in which it is muted, and while its own disk is stuck: what Raft sends
// beside its main goroutine would keep a leader in office that can not store anything (design §9).
func (g *guard) mayReplicate(term uint64) error {
	g.mu.Lock()
	muted := term <= g.muted
	g.mu.Unlock()
	switch {
	case g.dead.Load():
		return errStopped
	case muted:
		return errMuted
	case g.stuck(g.now()):
		return errStuck
	}
	return nil
}

// Consumer is where Raft takes its requests from.
func (g *guard) Consumer() <-chan raft.RPC { return g.consumer }

func (g *guard) LocalAddr() raft.ServerAddress { return g.inner.LocalAddr() }

// EncodePeer is what Raft puts into the header of its requests as its own address: that of a group that was recovered says
// which group it is (lineage.go).
func (g *guard) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return g.mark(g.inner.EncodePeer(id, addr))
}

func (g *guard) DecodePeer(b []byte) raft.ServerAddress {
	b, _, _ = cutMark(b)
	return g.inner.DecodePeer(b)
}

// SetHeartbeatHandler is ignored on purpose: heartbeats handled beside Raft's main goroutine have an open
// data-divergence bug (hashicorp/raft #695).
func (g *guard) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends a request and notes the acknowledgement for the lease.
func (g *guard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := g.mayReplicate(args.Term); err != nil {
		return err
	}
	if err := g.keepVote(id, args.Entries); err != nil {
		return err
	}
	g.hold(args)
	switch {
	case !isHeartbeat(args):
		if len(args.Entries) > 0 {
			g.sends(id)
		}
		return g.replicate(id, target, args, resp)
	case g.beats(id, args.Term, g.now()):
		*resp = raft.AppendEntriesResponse{RPCHeader: args.RPCHeader, Term: args.Term, Success: true}
		g.wakeWaiting()
		return nil
	}
	return g.exchange(id, target, args, resp)
}

// hold keeps the commit index that a leader tells to what is durable here too: Raft counts the leader's own entries as
// stored before they are.
func (g *guard) hold(args *raft.AppendEntriesRequest) {
	if args.LeaderCommitIndex > 0 {
		args.LeaderCommitIndex = min(args.LeaderCommitIndex, g.log.durable())
	}
}

// RequestVote is withheld while this member promised itself to another leader, or is sick and within its grace period.
func (g *guard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if g.dead.Load() {
		return errStopped
	}
	request := *args
	if g.isOffered(args) {
		request.Addr = slices.Concat(args.Addr, offeredMark)
	} else if err := g.mayCampaign(true); err != nil {
		return err
	}
	if g.live != nil {
		// Promises decide, not whether the other side's Raft has noticed that its leader is silent.
		request.LeadershipTransfer = true
	}
	return g.inner.RequestVote(id, target, &request, resp)
}

// RequestPreVote is withheld like RequestVote.
func (g *guard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.mayCampaign(false); err != nil {
		return err
	}
	return g.inner.RequestPreVote(id, target, args, resp)
}

// mayCampaign says why this member must not campaign now. With inEarnest it follows nobody any more from then on.
func (g *guard) mayCampaign(inEarnest bool) error {
	now := g.now()
	switch {
	case g.dead.Load():
		return errStopped
	case g.vetoed(now, g.lastContact()):
		return errVetoed
	case inEarnest && !g.release(g.self, now, false), g.forbids(g.self, now):
		return errPromised
	}
	return nil
}

// TimeoutNow is not for Raft: it would name no term (offer).
func (g *guard) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return errors.New("leadership is handed over by the partition alone")
}

// waitFollowed blocks until a majority followed this member as leader of term at or after `since`, or until the leadership
// is over.
func (g *guard) waitFollowed(ctx context.Context, term uint64, since time.Time, voters func() []raft.ServerID, over <-chan struct{}) error {
	return g.waitAcks(ctx, over, func() bool {
		at, ok := g.followed(term, voters(), g.now())
		return ok && !at.Before(since)
	})
}

// waitAcks looks at a condition after each acknowledgement until it holds, and now and then: beats acknowledge a leader without a word
// to anybody. It returns nil as well when `over` is closed: the caller looks where it stands.
func (g *guard) waitAcks(ctx context.Context, over <-chan struct{}, holds func() bool) error {
	look := time.NewTicker(max(g.leaseFor/3, time.Millisecond))
	defer look.Stop()
	for {
		acked := g.acked()
		if holds() {
			return nil
		}
		select {
		case <-acked:
		case <-look.C:
		case <-over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stop:
			return raft.ErrRaftShutdown
		}
	}
}
