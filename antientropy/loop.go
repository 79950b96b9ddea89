package antientropy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant/store"
)

// Loop repairs this host's members and compares them with their peers. Its methods are safe for concurrent use.
//
// One goroutine owns the plan and the transfers; a worker per call in flight does what blocks, at most PerPeer for each
// peer and one for each member's own bookkeeping. Workers end with their call; Run waits for them.
type Loop struct {
	o      Options
	limits limits
	unpack unpacker
	links  links

	mu       sync.Mutex // guards what follows; never held across a call
	woken    map[uint32]bool
	forgiven map[uint32]bool
	wants    []wantedKey
	progress []Progress
	stats    Stats
	poke     chan struct{} // has room for one: look at woken and wants
}

type wantedKey struct {
	partition uint32
	key       store.Key
}

// NewLoop makes a loop; Run lets it work.
func NewLoop(o Options) (*Loop, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Loop{o: o, links: links{mode: o.Compression}, limits: limits{o.Highest, o.LargestBytes, ownRows}, woken: map[uint32]bool{}, forgiven: map[uint32]bool{}, poke: make(chan struct{}, 1)}, nil
}

// Run works until the context ends, and returns when nothing of it is left running. It is called once.
func (l *Loop) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	r := l.newRunner(ctx)
	defer r.end()
	defer cancel()
	r.run()
}

func (l *Loop) newRunner(ctx context.Context) *runner {
	r := &runner{l: l, ctx: ctx, done: make(chan delivery), transfers: map[uint64]*transferState{}, members: map[uint32]seen{},
		wake: time.NewTimer(0)}
	r.plan = newPlan(planOptions{interval: l.o.Interval, quiet: l.o.Quiet, perPeer: l.o.PerPeer, limit: 2 * l.o.ChunkBytes, memory: l.o.MemoryBytes,
		rate: l.o.BytesPerSecond, deadline: l.o.Deadline, random: l.o.Random}, time.Now())
	return r
}

// Wake makes the loop look at a partition at once: a hole appeared, membership changed, the member is new or gone.
func (l *Loop) Wake(partition uint32) {
	l.mu.Lock()
	l.woken[partition] = true
	l.mu.Unlock()
	l.prod()
}

// Forgive makes the loop forget which divergences of a partition it has reported: those that are still there are reported
// again.
func (l *Loop) Forgive(partition uint32) {
	l.mu.Lock()
	l.forgiven[partition] = true
	l.mu.Unlock()
	l.prod()
}

// Want asks for a document that somebody reads on a member that may have to heal it, whether there is something of it here
// or not. It comes before everything else. A document that this member cannot be missing is ignored, and so are wishes beyond a bound.
func (l *Loop) Want(partition uint32, key store.Key) {
	l.mu.Lock()
	if len(l.wants) < mostWants {
		l.wants = append(l.wants, wantedKey{partition, key})
	}
	l.mu.Unlock()
	l.prod()
}

func (l *Loop) prod() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// Progress returns how far the members are that are being repaired.
func (l *Loop) Progress() []Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Progress(nil), l.progress...)
}

// runner is the loop at work. Owned by the goroutine of Run.
type runner struct {
	l         *Loop
	ctx       context.Context
	plan      *plan
	members   map[uint32]seen
	transfers map[uint64]*transferState
	workers   sync.WaitGroup
	done      chan delivery // from workers
	wake      *time.Timer
	shown     bool // some member's progress
}

// transferState says whether a worker uses a transfer now. What is taken from it meanwhile waits until it comes back; a
// bucket that another session has begun with until then is lost for it anyway (store.ErrSessionLost).
type transferState struct {
	t       *transfer
	busy    bool
	dropped bool
	given   []uint8
	ended   []ended          // to be finished
	loose   []*store.Session // to be abandoned
}

// free takes a transfer back from a worker, and returns the buckets of which everything has been answered.
func (s *transferState) free() (buckets []uint8) {
	s.busy = false
	for _, e := range s.t.ended {
		buckets = append(buckets, e.bucket)
	}
	s.ended, s.t.ended = append(s.ended, s.t.ended...), nil
	if s.dropped {
		s.drop()
	}
	s.give()
	return buckets
}

func (s *transferState) give() {
	for _, b := range s.given {
		if session := s.t.release(b); session != nil {
			s.loose = append(s.loose, session)
		}
	}
	for _, e := range s.take(s.given) { // answered too late
		s.loose = append(s.loose, e.session)
	}
	s.given = nil
}

// drop lets go of everything that is unfinished.
func (s *transferState) drop() {
	s.loose = append(s.loose, s.t.releaseAll()...)
	for i := range s.ended {
		s.loose = append(s.loose, s.ended[i].session)
	}
	s.ended = nil
}

// take returns those of the buckets that are to be finished now.
func (s *transferState) take(buckets []uint8) (list []ended) {
	s.ended = slices.DeleteFunc(s.ended, func(e ended) bool {
		now := slices.Contains(buckets, e.bucket)
		if now {
			list = append(list, e)
		}
		return now
	})
	return list
}

// delivery is what a worker comes back with.
type delivery struct {
	event    event
	transfer *transferState   // that it used, or nil
	docs     *store.Documents // of a mark or closeHoles: whose bookkeeping it was
}

func (r *runner) run() {
	defer r.wake.Stop()
	look := time.NewTicker(r.l.o.Observe)
	defer look.Stop()
	r.observeAll()
	for {
		select {
		case <-r.ctx.Done():
			return
		case d := <-r.done:
			r.deliver(d)
		case <-r.l.poke:
			r.poked()
		case <-look.C:
			r.observeAll()
		case <-r.wake.C:
			r.step(tick{})
		}
	}
}

// end waits for the workers, whose context has ended, and lets go of unfinished sessions.
func (r *runner) end() {
	r.workers.Wait()
	for _, t := range r.transfers {
		t.drop()
		abandonAll(t.loose)
	}
}

// letGo abandons what was taken out of a transfer. That writes what the sessions have gathered, so a worker does it: a slow disk holds
// up nothing else. A session of the same bucket that begins meanwhile is none the worse for it.
func (r *runner) letGo(t *transferState) {
	if len(t.loose) == 0 {
		return
	}
	list := t.loose
	t.loose = nil
	r.workers.Go(func() { r.l.o.Pace(func() { abandonAll(list) }) })
}

func abandonAll(list []*store.Session) {
	for _, s := range list {
		s.Abandon()
	}
}

func (r *runner) deliver(d delivery) {
	var ended []uint8
	if d.transfer != nil {
		ended = d.transfer.free()
		r.letGo(d.transfer)
	}
	switch e := d.event.(type) {
	case answered: // what is left, without what was given up
		e.Lists, e.Pulls = len(d.transfer.t.pages), len(d.transfer.t.items)
		e.Ended = ended
		d.event = e
	case marked:
		if r.members[e.Partition].docs != d.docs {
			return
		}
	case closed:
		if r.members[e.Partition].docs == d.docs {
			r.closed(e)
		}
		return
	}
	r.step(d.event)
	if e, ok := d.event.(settled); ok && len(e.Finished) > 0 {
		r.secure(d.docs)
	}
}

// secure makes buckets durable that are finished, beside the pulls that go on. Until somebody syncs, the engine keeps the end of its
// log in the process, and a host that is killed would ask for those buckets again. An engine that fails is the host's concern.
func (r *runner) secure(docs *store.Documents) {
	r.workers.Go(func() {
		if err := docs.Sync(); err != nil {
			r.l.o.Logger.Warn("repaired buckets are not durable yet", "error", err)
		}
	})
}

func (r *runner) closed(c closed) {
	if c.Err != nil {
		r.l.o.Logger.Error("closing holes failed", "partition", c.Partition, "error", c.Err)
	}
	r.step(c)
	if c.Err == nil && c.Holes.Empty() {
		r.l.count(func(s *Stats) { s.Healed++ })
		r.l.o.Logger.Info("member healed", "partition", c.Partition)
		r.l.o.Events.Healed(c.Partition)
	}
}

func (r *runner) poked() {
	r.l.mu.Lock()
	woken, again, wants := r.l.woken, r.l.forgiven, r.l.wants
	r.l.woken, r.l.forgiven, r.l.wants = map[uint32]bool{}, map[uint32]bool{}, nil
	r.l.mu.Unlock()
	for id := range again {
		r.step(forgiven{id})
	}
	if len(woken) > 0 {
		r.observeWoken(woken)
	}
	for _, w := range wants {
		s, ok := r.members[w.partition]
		if !ok || w.key.Validate() != nil {
			continue
		}
		if hash := w.key.Hash(); s.docs.Range().Contains(hash) {
			r.step(wanted{Partition: w.partition, Bucket: s.docs.Range().Bucket(hash), Hash: hash})
		}
	}
}

// step gives an event to the plan and does what it wants.
func (r *runner) step(e event) {
	now := time.Now()
	for _, o := range r.plan.step(e, now) {
		r.do(o)
	}
	list := r.plan.progress()
	if list == nil && !r.shown {
		return
	}
	r.shown = list != nil
	r.l.mu.Lock()
	r.l.progress = list
	r.l.mu.Unlock()
}

func (r *runner) do(o output) {
	l, ctx := r.l, r.ctx
	switch o := o.(type) {
	case sleep:
		r.sleep(o.Until)
	case compare:
		m := r.members[o.Partition].member
		r.work(nil, func() event { e := l.compare(ctx, m, o); e.Call = o.Call; return e })
	case list:
		t := r.transfer(&o)
		r.work(t, func() event { e := l.list(ctx, t.t); e.Call = o.Call; return e })
	case pull:
		t := r.transfers[o.Session]
		r.work(t, func() event { e := l.pull(ctx, t.t, o.Limit); e.Call = o.Call; return e })
	case finish:
		r.finish(o)
	case fetch:
		r.fetch(o)
	case diagnose:
		m := r.members[o.Partition].member
		r.work(nil, func() event { e := l.diagnose(ctx, m, o); e.Call = o.Call; return e })
	case drop:
		if t := r.transfers[o.Session]; t != nil {
			delete(r.transfers, o.Session)
			if t.dropped = true; !t.busy {
				t.drop()
				r.letGo(t)
			}
		}
	case giveUp:
		if t := r.transfers[o.Session]; t != nil {
			if t.given = append(t.given, o.Buckets...); !t.busy {
				t.give()
				r.letGo(t)
			}
		}
	case mark:
		docs := r.members[o.Partition].docs
		r.workOn(docs, func() event { return markAll(docs, o) })
	case closeHoles:
		docs := r.members[o.Partition].docs
		r.workOn(docs, func() event { return closeAll(docs, o.Partition) })
	case report:
		if !o.Again {
			l.count(func(s *Stats) { s.Divergences++ })
		}
		l.o.Logger.Error("members diverged", "partition", o.Divergence.Partition, "peer", o.Divergence.Peer, "bucket", o.Divergence.Bucket,
			"index", o.Divergence.Index, "documents", len(o.Divergence.Documents))
		r.members[o.Divergence.Partition].member.Diverged(o.Divergence)
	}
}

// work runs f in a worker.
func (r *runner) work(t *transferState, f func() event) {
	if t != nil {
		t.busy = true
	}
	r.spawn(delivery{transfer: t}, f)
}

// workOn runs f, which writes a member's bookkeeping, in a worker. These events name a partition only. What they say of
// a member that was removed is not to be taken for news of the one that came after it.
func (r *runner) workOn(docs *store.Documents, f func() event) { r.spawn(delivery{docs: docs}, f) }

func (r *runner) spawn(d delivery, f func() event) {
	r.workers.Go(func() {
		d.event = f()
		select {
		case r.done <- d:
		case <-r.ctx.Done():
		}
	})
}

func (r *runner) sleep(until time.Time) {
	if until.IsZero() {
		r.wake.Stop()
		return
	}
	r.wake.Reset(max(0, time.Until(until)))
}

// transfer returns a session's, and makes it when the session begins.
func (r *runner) transfer(o *list) *transferState {
	t := r.transfers[o.Session]
	if t == nil {
		t = &transferState{t: newTransfer(r.members[o.Partition].member, o.Peer, o.Buckets, &r.l.limits)}
		r.transfers[o.Session] = t
		r.l.count(func(s *Stats) { s.Sessions++ })
	}
	return t
}

func (r *runner) fetch(o fetch) {
	m := r.members[o.Partition].member
	r.l.count(func(s *Stats) { s.Fetches++ })
	if t := r.transfers[o.Session]; t != nil {
		r.work(t, func() event {
			e := r.l.fetch(r.ctx, m, t.t.buckets[o.Bucket], o)
			e.Call = o.Call
			return e
		})
		return
	}
	r.work(nil, func() event { e := r.l.fetch(r.ctx, m, nil, o); e.Call = o.Call; return e })
}

// markAll records what a comparison at one index has proven.
func markAll(docs *store.Documents, o mark) marked {
	e := marked{Partition: o.Partition, Buckets: o.Buckets, Healed: o.Healed}
	for _, b := range o.Buckets {
		switch err := docs.MarkProven(b, o.Past); {
		case errors.Is(err, store.ErrProofLost):
			e.Lost = append(e.Lost, b)
		case err != nil:
			e.Err = err
			return e
		}
	}
	return e
}

func closeAll(docs *store.Documents, partition uint32) closed {
	_, err := docs.CloseHoles()
	e := closed{Partition: partition, Err: err}
	e.Holes, _, e.Healed = look(docs)
	return e
}
