package partition

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/liveness"
)

// hosts are what members need around them when hosts keep the sign of life: a table for each, and a loop that moves beats and
// notes and looks after the member. Packets between two hosts can be cut.
type hosts struct {
	t     *testing.T
	every time.Duration // a beat

	mu       sync.Mutex
	byID     map[raft.ServerID]*liveHost
	cut      map[[2]raft.ServerID]bool // packets from the first to the second are lost
	refused  map[[2]raft.ServerID]bool // requests are, answers are not
	appends  int                       // requests that Raft sent with or without entries
	preVotes map[raft.ServerID]int     // sent by
	yes      map[[2]raft.ServerID]int  // beats of the first that the second said yes to
}

type liveHost struct {
	id    raft.ServerID
	table *liveness.Table
	part  *Partition    // nil while down
	ahead *atomic.Int64 // nanoseconds that its clock has jumped
}

// now is what the host's clock says.
func (h liveHost) now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// newLiveGroup founds a group of n members whose hosts keep the sign of life.
func newLiveGroup(t *testing.T, n int, heartbeat time.Duration, change func(*Options)) (*group, *hosts) {
	h := &hosts{t: t, every: heartbeat / 3, byID: map[raft.ServerID]*liveHost{}, cut: map[[2]raft.ServerID]bool{},
		refused: map[[2]raft.ServerID]bool{}, preVotes: map[raft.ServerID]int{}, yes: map[[2]raft.ServerID]int{}}
	g := newGroup(t, n, func(o *Options) {
		o.Timing = Timing{Heartbeat: heartbeat}
		h.equip(o)
		if change != nil {
			change(o)
		}
	})
	for _, nd := range g.nodes {
		h.up(nd)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, nd := range g.nodes {
		wg.Go(func() { h.beat(ctx, nd.id) })
		wg.Go(func() { h.tick(ctx, nd.id) })
	}
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	return g, h
}

func (h *hosts) equip(o *Options) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := &liveHost{id: o.Self, table: liveness.NewTable(rand.Uint64()), ahead: new(atomic.Int64)}
	h.byID[o.Self] = host
	o.Clock = host.now
	o.Keeper = NewKeeper(o.Clock)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { o.Keeper.Run(ctx) })
	h.t.Cleanup(wg.Wait)
	h.t.Cleanup(cancel)
	o.Liveness, o.Transport = host.table, wired{o.Transport, o.Self, h}
}

func (h *hosts) up(nd *node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byID[nd.id].part = nd.part
}

func (h *hosts) down(nd *node) {
	h.mu.Lock()
	h.byID[nd.id] = &liveHost{id: nd.id, ahead: new(atomic.Int64)}
	h.mu.Unlock()
	must(h.t, nd.part.Close())
}

// reopen starts a member that was down.
func (h *hosts) reopen(g *group, nd *node, heartbeat time.Duration) {
	_, nd.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(nd.id), 200*time.Millisecond)
	g.connect()
	nd.open(func(o *Options) { o.Timing = Timing{Heartbeat: heartbeat}; h.equip(o) })
	h.up(nd)
}

// sever cuts what the first sends to the second; isolate cuts everything of a member.
func (h *hosts) sever(from, to *node) { h.set(h.cut, from, to) }
func (h *hosts) refuse(from, to *node) {
	h.set(h.refused, from, to)
}

func (h *hosts) set(m map[[2]raft.ServerID]bool, from, to *node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m[[2]raft.ServerID{from.id, to.id}] = true
}

func (h *hosts) isolate(g *group, x *node) {
	for _, o := range g.nodes {
		if o != x {
			h.sever(x, o)
			h.sever(o, x)
		}
	}
}

func (h *hosts) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.cut)
	clear(h.refused)
}

func (h *hosts) reaches(from, to raft.ServerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	pair := [2]raft.ServerID{from, to}
	return !h.cut[pair] && !h.refused[pair]
}

// answers says whether what a member has to say to another one's request gets there.
func (h *hosts) answers(from, to raft.ServerID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.cut[[2]raft.ServerID{from, to}]
}

func (h *hosts) host(id raft.ServerID) liveHost {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.byID[id]
}

func (h *hosts) others(id raft.ServerID) []liveHost {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []liveHost
	for _, o := range h.byID {
		if o.id != id {
			out = append(out, *o)
		}
	}
	return out
}

// beats counts the beats of one member's host that another one said yes to.
func (h *hosts) beats(from, to *node) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.yes[[2]raft.ServerID{from.id, to.id}]
}

func (h *hosts) sent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.appends
}

func (h *hosts) asked(nd *node) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.preVotes[nd.id]
}

func (h *hosts) beat(ctx context.Context, id raft.ServerID) {
	ticker := time.NewTicker(h.every)
	defer ticker.Stop()
	var words sync.WaitGroup
	defer words.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		self := h.host(id)
		if self.part == nil {
			continue
		}
		for _, peer := range h.others(id) {
			b, ok := self.table.Beat(string(peer.id))
			sent := self.now()
			if !ok || peer.part == nil || !h.reaches(id, peer.id) {
				continue
			}
			a := peer.table.Heard(string(id), b, peer.now())
			if !h.answers(peer.id, id) {
				continue
			}
			if a.Yes && len(a.Refused) == 0 {
				h.mu.Lock()
				h.yes[[2]raft.ServerID{id, peer.id}]++
				h.mu.Unlock()
			}
			for _, lost := range self.table.Answered(string(peer.id), b, a, sent) {
				words.Go(func() { _ = self.part.Reassure(peer.id, lost.Term) })
			}
		}
	}
}

// tick leaves time out of account in which this loop did not run, as hosts do.
func (h *hosts) tick(ctx context.Context, id raft.ServerID) {
	every := h.every * 3 / 8
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, reminded := h.host(id).now(), time.Time{}
	var asleep time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := h.host(id).now()
		if late := now.Sub(last) - 3*every/2; late > 0 {
			asleep = min(asleep+late, 6*h.every)
		} else {
			asleep = max(asleep-every/2, 0)
		}
		last = now
		self := h.host(id)
		if self.part == nil {
			continue
		}
		n, ok := self.part.Tick(now.Add(-asleep))
		for _, peer := range h.others(id) {
			switch {
			case ok && peer.part != nil && h.reaches(id, peer.id):
				peer.part.Noted(id, n)
			case ok:
				self.part.Renote(h.every)
			}
		}
		if now.Sub(reminded) > 3*h.every {
			reminded = now
			h.remind(self)
		}
	}
}

func (h *hosts) remind(self liveHost) {
	if !self.part.Leads() {
		return
	}
	for _, peer := range h.others(self.id) {
		if peer.part != nil && h.reaches(peer.id, self.id) && peer.part.o.Documents.Applied() < self.part.o.Documents.Applied() {
			self.part.Nudge(peer.id)
		}
	}
}

// wired is a transport that loses what is cut and counts what Raft sends. It has no pipeline, so that every request passes.
type wired struct {
	Transport
	self raft.ServerID
	h    *hosts
}

var errCut = errors.New("cut")

func (w wired) call(to raft.ServerID, f func() error) error {
	if !w.h.reaches(w.self, to) {
		return errCut
	}
	err := f()
	if !w.h.answers(to, w.self) {
		return errCut
	}
	return err
}

func (w wired) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (w wired) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	w.h.mu.Lock()
	w.h.appends++
	w.h.mu.Unlock()
	return w.call(id, func() error { return w.Transport.AppendEntries(id, to, req, resp) })
}

func (w wired) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return w.call(id, func() error { return w.Transport.RequestVote(id, to, req, resp) })
}

func (w wired) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	w.h.mu.Lock()
	w.h.preVotes[w.self]++
	w.h.mu.Unlock()
	return w.call(id, func() error { return w.Transport.RequestPreVote(id, to, req, resp) })
}

func (w wired) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return w.call(id, func() error { return w.Transport.TimeoutNow(id, to, req, resp) })
}

// applied waits until every member has a document at a seq.
func (g *group) applied(k string, seq int64, members ...*node) {
	g.t.Helper()
	if len(members) == 0 {
		members = g.nodes
	}
	for _, nd := range members {
		g.wait(string(nd.id)+" to apply "+k, func() bool { return nd.head(k) == seq })
	}
}

// steady is for tests that must not see an election.
const steady = 400 * time.Millisecond

// TestQuietGroupIsSilent: followers learn that the last write is committed without a further one, by a note; after that Raft
// sends nothing for many heartbeats, and the leader keeps its office and its lease.
func TestQuietGroupIsSilent(t *testing.T) { synctest.Test(t, testQuietGroupIsSilent) }

func testQuietGroupIsSilent(t *testing.T) {
	g, h := newLiveGroup(t, 3, 3*steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	term, epoch, err := l.part.Epoch()
	must(t, err)
	from := h.sent()
	for _, nd := range g.nodes {
		if nd != l {
			n := h.beats(l, nd)
			g.wait("twelve beats", func() bool { return h.beats(l, nd) >= n+12 })
		}
	}
	if n := h.sent() - from; n > 2 {
		t.Errorf("a quiet group sent %d requests of Raft within four heartbeats", n)
	}
	if epoch.Err() != nil {
		t.Error("the lease lapsed")
	}
	for _, nd := range g.nodes {
		if s := nd.part.Status(); s.Term != term || s.Leader != l.id {
			t.Errorf("%s follows %s in term %d, not %s in term %d", nd.id, s.Leader, s.Term, l.id, term)
		}
	}
}

// TestFollowersAreToldByALateHost: a leader whose host leaves time out of account, for it stood still, still repeats what followers
// have missed. A host whose clock runs much too fast always does.
func TestFollowersAreToldByALateHost(t *testing.T) { synctest.Test(t, testFollowersAreToldByALateHost) }

func testFollowersAreToldByALateHost(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	time.Sleep(3 * steady) // all is told
	now := h.host(l.id).now().Add(-2 * steady)
	told := func(when string, at time.Time, want bool) {
		t.Helper()
		if n, ok := l.part.Tick(at); ok != want || ok && n.Index != l.part.Status().Commit {
			t.Errorf("%s: a note %t, %+v", when, ok, n)
		}
	}
	told("all is told", now, false)
	for _, nd := range g.nodes {
		if nd != l {
			l.part.Nudge(nd.id)
		}
	}
	told("a follower lags", now, true)
	l.part.Renote(steady)
	told("a note was lost", now, false)
	told("a moment later", now.Add(steady-1), false)
	told("after that time", now.Add(steady), true)
}

// irregular is a host whose peers' beats came with such a pause lately.
type irregular struct {
	*liveness.Table
	gap  *atomic.Int64
	died *atomic.Bool
}

func (i irregular) Gap(uint32) (time.Duration, bool) {
	return time.Duration(i.gap.Load()), i.died.Load()
}

// TestIrregularBeatsAreWaitedFor: a leader whose host is so busy that its beats come late now and then is not replaced for the next
// late one; it is within a bound.
func TestIrregularBeatsAreWaitedFor(t *testing.T) { synctest.Test(t, testIrregularBeatsAreWaitedFor) }

func testIrregularBeatsAreWaitedFor(t *testing.T) {
	var gap atomic.Int64
	g, missed := newPatientGroup(t, &gap, new(atomic.Bool))
	gap.Store(int64(usualPatience * steady))
	for range 100 {
		if missed(usualPatience + 0.5) {
			t.Fatal("a leader whose beats have come three heartbeats apart is missed after three and a half")
		}
	}
	gap.Store(int64(100 * steady))
	g.wait("the leader to be missed at last", func() bool { return missed(2 * mostPatience) }) // the host's own tick may undo it
	gap.Store(0)
	g.wait("the leader to be missed", func() bool { return missed(usualPatience + 0.5) })
}

// newPatientGroup returns a live group whose members believe that, and a function that says whether a follower misses its leader
// so many heartbeats after the last beat.
func newPatientGroup(t *testing.T, gap *atomic.Int64, died *atomic.Bool) (*group, func(heartbeats float64) bool) {
	g, _ := newLiveGroup(t, 3, steady, func(o *Options) { o.Liveness = irregular{o.Liveness.(*liveness.Table), gap, died} })
	f := g.other(g.serving())
	g.wait("the follower to follow", func() bool { // before that there is nobody to be patient with
		leader, _, at := f.part.o.Liveness.Contact(f.part.o.ID)
		return leader != "" && !at.IsZero()
	})
	return g, func(heartbeats float64) bool {
		f.part.Tick(f.part.guard.lastContact().Add(time.Duration(heartbeats * float64(steady))))
		f.part.mu.Lock()
		defer f.part.mu.Unlock()
		return !f.part.candidacy.silent.IsZero()
	}
}

// TestDeadLeaderIsNotWaitedFor: one whose process is known to be gone is missed as soon as nothing is promised to it any more, one that
// is only silent two heartbeats later.
func TestDeadLeaderIsNotWaitedFor(t *testing.T) { synctest.Test(t, testDeadLeaderIsNotWaitedFor) }

func testDeadLeaderIsNotWaitedFor(t *testing.T) {
	var died atomic.Bool
	g, missed := newPatientGroup(t, new(atomic.Int64), &died)
	for range 100 {
		if missed(usualPatience - 0.1) {
			t.Fatal("a leader that is only silent is missed too soon")
		}
	}
	died.Store(true)
	for range 100 {
		if missed(0.9) {
			t.Fatal("a dead leader is missed while it may serve")
		}
	}
	g.wait("the dead leader to be missed", func() bool { return missed(1.1) })
}

// TestQuorumReadAsksOnTheWire, whatever the beats say: it is for those who trust no clock.
func TestQuorumReadAsksOnTheWire(t *testing.T) { synctest.Test(t, testQuorumReadAsksOnTheWire) }

func testQuorumReadAsksOnTheWire(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	for range 5 {
		time.Sleep(time.Microsecond) // or what was sent at this very moment counts, too
		from := h.sent()
		ctx, cancel := context.WithTimeout(context.Background(), steady) // Raft by itself would take longer
		_, err := l.part.Read(ctx, Quorum)
		cancel()
		must(t, err)
		if h.sent() == from {
			t.Fatal("a quorum read was answered without asking")
		}
	}
	h.isolate(g, l)
	time.Sleep(time.Microsecond)
	ctx, cancel := context.WithTimeout(context.Background(), steady/4)
	defer cancel()
	if _, err := l.part.Read(ctx, Quorum); err == nil {
		t.Fatal("a quorum read at a leader that is cut off")
	}
}

// TestIsolatedLeaderIsReplaced without the slow timers of Raft; at no time do two serve, and the context of the old epoch has
// ended before the new leader serves.
func TestIsolatedLeaderIsReplaced(t *testing.T) { synctest.Test(t, testIsolatedLeaderIsReplaced) }

func testIsolatedLeaderIsReplaced(t *testing.T) {
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, func(o *Options) { o.Timing.Drift = 0.4 })
	for range 2 {
		old := g.serving()
		must(t, old.create(time.Now().Format("k150405.000000000")))
		var epoch context.Context
		g.wait("the epoch", func() (ok bool) {
			var err error
			_, epoch, err = old.part.Epoch()
			return err == nil
		})
		h.isolate(g, old)
		began := time.Now()
		a := g.other(old)
		b := g.other(old, a)
		next := a
		g.wait("another leader", func() bool {
			for _, nd := range []*node{a, b} {
				if _, err := nd.part.Read(context.Background(), Lease); err == nil {
					next = nd
					return true
				}
			}
			return false
		})
		if epoch.Err() == nil {
			t.Error("the old epoch's context outlived the election of another leader")
		}
		if _, err := old.part.Read(context.Background(), Lease); err == nil {
			t.Error("two leaders serve")
		}
		if took := time.Since(began); took > backstop*200*time.Millisecond {
			t.Errorf("it took %s: as long as Raft alone", took)
		}
		must(t, next.create("b"+time.Now().Format("150405.000000000")))
		h.heal()
		g.wait("the old leader to follow", func() bool { s := old.part.Status(); return s.State == raft.Follower && s.Leader == next.id })
		g.wait("its host to beat no more", func() bool { _, beats := h.host(old.id).table.Beat(string(next.id)); return !beats })
	}
}

// TestLiveLeaderWithAStuckDisk: beats must not keep a leader in office that can store nothing.
func TestLiveLeaderWithAStuckDisk(t *testing.T) { synctest.Test(t, testLiveLeaderWithAStuckDisk) }

func testLiveLeaderWithAStuckDisk(t *testing.T) {
	var stalls [3]stall
	i := 0
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	n := 0
	for k, nd := range g.nodes {
		if nd == l {
			n = k
		}
	}
	release := hold(&stalls[n])
	defer release()
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"stuck":1}`); result <- err }()
	g.wait("its host to beat no more", func() bool { _, beats := h.host(l.id).table.Beat(string(g.other(l).id)); return !beats })
	if l.part.raft.Load().State() != raft.Leader {
		t.Error("beats ended when Raft gave up, which takes it many heartbeats")
	}
	next := g.serving(g.other(l), g.other(l, g.other(l)))
	if _, err := l.part.Read(context.Background(), Lease); err == nil {
		t.Error("two leaders serve")
	}
	if err := <-result; err == nil {
		t.Error("a leader with a stuck disk acknowledged a write")
	}
	must(t, next.create("b"))
	release()
	g.wait("the old leader to follow", func() bool { return l.head("b") == 1 })
}

// TestDisksThatStallTogether: where a majority of disks waits, nobody else would do better, so nobody is elected. Where the step never
// ends the leader gives up all the same.
func TestDisksThatStallTogether(t *testing.T) {
	for name, c := range map[string]struct {
		disks    int // that stall, the leader's among them
		beats    int
		straggle int // beats that the leader's disk takes longer
		resigns  bool
	}{
		"all":                        {3, stuckBeats + 1, 0, false},
		"a majority":                 {2, stuckBeats + 1, 0, false},
		"the leader's":               {1, stuckBeats + 1, 0, true},
		"all, and then the leader's": {3, 2, stuckBeats + 2, true},
		"the leader's a moment more": {3, 2, stuckBeats - 1, false},
		"all, for ever":              {3, hungBeats + 1, 0, true},
	} {
		t.Run(name, simulated(func(t *testing.T) { stallTogether(t, c.disks, c.beats, c.straggle, c.resigns) }))
	}
}

func stallTogether(t *testing.T, disks, beats, straggle int, resigns bool) {
	var stalls [3]stall
	i := 0
	g, h := newLiveGroup(t, 3, steady, func(o *Options) {
		o.Log = faultyLog{o.Log.(*memLog), new(atomic.Value), &stalls[i]}
		i++
	})
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	own := &stalls[slices.Index(g.nodes, l)]
	held := []*stall{own}
	for k, nd := range g.nodes {
		if nd != l && len(held) < disks {
			held = append(held, &stalls[k])
		}
	}
	term, _, err := l.part.Epoch()
	must(t, err)
	releaseOwn, release := hold(own), hold(held[1:]...)
	defer releaseOwn()
	defer release()
	result := make(chan error, 1)
	go func() { _, err := l.append("a", 2, `{"stalled":1}`); result <- err }()
	time.Sleep(time.Duration(beats) * steady)
	release()
	time.Sleep(time.Duration(straggle)*steady + steady/2)
	if _, beating := h.host(l.id).table.Beat(string(g.other(l).id)); beating == resigns {
		t.Errorf("the leader's host beats for it: %v", beating)
	}
	releaseOwn()
	if err := <-result; err != nil && !resigns { // who resigned may still commit it
		t.Errorf("the write: %v", err)
	}
	if now, _, err := l.part.Epoch(); !resigns && (err != nil || now != term) {
		t.Errorf("term %d became %d, %v", term, now, err)
	}
}

// TestFollowerCutOffFromItsLeader, and from nobody else, does not disturb the others: its candidacy is refused by those who
// follow the leader, and by the leader.
func TestFollowerCutOffFromItsLeader(t *testing.T) {
	for name, c := range map[string]struct {
		cut      func(h *hosts, l, f *node)
		campaign bool
	}{
		"both ways":                         {func(h *hosts, l, f *node) { h.sever(l, f); h.sever(f, l) }, true},
		"what the leader sends":             {func(h *hosts, l, f *node) { h.sever(l, f) }, true},
		"what the follower sends":           {func(h *hosts, l, f *node) { h.sever(f, l) }, false},
		"the leader's requests, no answers": {func(h *hosts, l, f *node) { h.refuse(l, f) }, true},
	} {
		t.Run(name, simulated(func(t *testing.T) {
			g, h := newLiveGroup(t, 3, steady, nil)
			l := g.serving()
			must(t, l.create("a"))
			g.applied("a", 1)
			f := g.other(l)
			third := g.other(l, f)
			term, epoch, err := l.part.Epoch()
			must(t, err)
			before, beats := h.asked(f), h.beats(l, third)
			c.cut(h, l, f)
			if c.campaign {
				g.wait("four candidacies", func() bool { return h.asked(f) >= before+8 || l.part.Status().Term != term })
			} else {
				g.wait("fifteen beats", func() bool { return h.beats(l, third) >= beats+15 })
			}
			if s := l.part.Status(); s.Term != term || s.Serving != Serves || epoch.Err() != nil {
				t.Fatalf("the leader is at term %d after %d, %s, epoch: %v", s.Term, term, s.Serving, epoch.Err())
			}
			h.heal()
			_, err = l.append("a", 2, "{}")
			must(t, err)
			g.applied("a", 2)
			if s := l.part.Status(); s.Term != term {
				t.Fatalf("term %d after %d once the cut healed", s.Term, term)
			}
		}))
	}
}

// TestFollowerThatMissedAWriteCatchesUp after the cut heals although nobody writes any more.
func TestFollowerThatMissedAWriteCatchesUp(t *testing.T) {
	synctest.Test(t, testFollowerThatMissedAWriteCatchesUp)
}

func testFollowerThatMissedAWriteCatchesUp(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	h.sever(l, f)
	h.sever(f, l)
	for seq := int64(2); seq <= 6; seq++ {
		_, err := l.append("a", seq, "{}")
		must(t, err)
	}
	g.wait("Raft to give up", func() bool { return h.asked(f) >= 8 }) // four candidacies: longer than Raft tries by itself
	h.heal()
	g.applied("a", 6)
}

// TestLiveFollowerRestarts: its host's table is new, and the leader learns from the answer to a beat that it has to say a
// word; the group goes on in its term.
func TestLiveFollowerRestarts(t *testing.T) { synctest.Test(t, testLiveFollowerRestarts) }

func testLiveFollowerRestarts(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	term := l.part.Status().Term
	h.down(f)
	_, err := l.append("a", 2, "{}")
	must(t, err)
	h.reopen(g, f, steady)
	g.applied("a", 2)
	n := h.beats(l, f)
	g.wait("beats to count again", func() bool { return h.beats(l, f) > n })
	if s := l.part.Status(); s.Term != term || s.Serving != Serves {
		t.Fatalf("term %d after %d, %s", s.Term, term, s.Serving)
	}
}

// TestRefusedPairIsToldAgain: a member that does not follow by what its host says gets a word of Raft, and counts again.
func TestRefusedPairIsToldAgain(t *testing.T) { synctest.Test(t, testRefusedPairIsToldAgain) }

func testRefusedPairIsToldAgain(t *testing.T) {
	g, h := newLiveGroup(t, 3, steady, nil)
	l := g.serving()
	must(t, l.create("a"))
	g.applied("a", 1)
	f := g.other(l)
	f.part.guard.mu.Lock()
	f.part.guard.unfollow()
	f.part.guard.mu.Unlock()
	n := h.beats(l, f)
	g.wait("beats to count again", func() bool { return h.beats(l, f) >= n+5 })
}

// TestBeatsBindVotes: a vote is refused while a beat binds this member, and given by one that no beat can bind any more.
func TestBeatsBindVotes(t *testing.T) {
	const lease = 100 * time.Millisecond
	now := time.Now()
	table, leader := liveness.NewTable(1), liveness.NewTable(2)
	g := &guard{live: table, self: "f", leaseFor: lease, term: func() uint64 { return 7 }, inOffice: func(time.Time) bool { return false }}
	g.follow("a", 7)
	leader.Led(0, 7, "f")
	b, _ := leader.Beat("f")
	if a := table.Heard("a", b, now); !a.Yes || len(a.Refused) > 0 {
		t.Fatalf("%+v", a)
	}
	vote := raft.RPC{Command: &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("b")}, Term: 8}}
	if _, err, handled := g.intercept(vote, now.Add(lease-1)); !handled || !errors.Is(err, errPromised) {
		t.Fatalf("within the lease: %v", err)
	}
	if a := table.Heard("a", b, now); len(a.Refused) > 0 {
		t.Fatal("a refused vote broke what the beats say")
	}
	if _, err, handled := g.intercept(vote, now.Add(lease)); handled {
		t.Fatalf("after the lease: %v", err)
	}
	if a := table.Heard("a", b, now.Add(lease)); len(a.Refused) != 1 {
		t.Fatal("a beat counts after a vote for another")
	}
}

// TestWhoFollowsNobodyIsWatched: a host notices by itself only that a leader falls silent which beats have spoken for. Until then a member
// has something to watch, however lately it was opened, voted or was in office: the leader that it waits for may never come.
func TestWhoFollowsNobodyIsWatched(t *testing.T) {
	const heartbeat = time.Hour
	table, roused := liveness.NewTable(1), new(atomic.Int32)
	nd := newNode(t, "h1@1")
	nd.open(func(o *Options) {
		o.Timing = Timing{Heartbeat: heartbeat}
		o.Liveness = table
		o.Events.Roused = func() { roused.Add(1) }
	})
	p := nd.part
	watched := func(when string, want bool) {
		t.Helper()
		if p.Tick(time.Now()); p.Awake() != want {
			t.Errorf("%s: awake %v", when, p.Awake())
		}
	}
	if !p.Awake() {
		t.Error("opened asleep")
	}
	watched("opened", true)
	p.guard.voted(&raft.RequestVoteRequest{RPCHeader: headerOf("h2@1"), Term: 1},
		raft.RPCResponse{Response: &raft.RequestVoteResponse{Granted: true}}, time.Now())
	watched("voted", true)
	p.guard.stoodDown(time.Now())
	watched("stood down", true)
	p.guard.mu.Lock()
	p.guard.follow("h2@1", 1)
	p.guard.mu.Unlock()
	watched("before the leader's first beat", true)
	table.Heard("h2@1", liveness.Beat{Version: 1, Digest: 1, Listed: true, Pairs: []liveness.Pair{{Partition: 0, Term: 1}}}, time.Now())
	watched("once beats speak for the leader", false)
	p.awake.wake()
	if roused.Load() == 0 {
		t.Error("the host was not told")
	}
	watched("again", false)
}

// TestWhoGaveUpLeadsNobody: a leader that has lost its majority, and given up, knows of no leader any more. Raft itself is slow to see
// it, and who asks this host would be sent back to it meanwhile.
func TestWhoGaveUpLeadsNobody(t *testing.T) { synctest.Test(t, testWhoGaveUpLeadsNobody) }

func testWhoGaveUpLeadsNobody(t *testing.T) {
	var mu sync.Mutex
	told := map[raft.ServerID][]raft.ServerID{}
	g, h := newLiveGroup(t, 3, steady, func(o *Options) {
		self := o.Self
		o.Events.Leader = func(leader raft.ServerID, _ uint64) {
			mu.Lock()
			defer mu.Unlock()
			told[self] = append(told[self], leader)
		}
	})
	l := g.serving()
	must(t, l.create("a"))
	h.isolate(g, l)
	time.Sleep(5 * steady) // the lease, and two heartbeats more
	if leader, term := l.part.Leader(); leader != "" {
		t.Errorf("it says that %s leads in term %d", leader, term)
	}
	_, err := l.append("a", 2, "{}")
	if refused, ok := err.(*NotServingError); !ok || refused.Leader != "" {
		t.Errorf("a write is refused by %#v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if all := told[l.id]; all[len(all)-1] != "" {
		t.Errorf("its host was told of leaders %q", all)
	}
}
