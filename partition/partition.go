package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// MaxInFlight bounds Limits.InFlight, which is also Raft's bound on the entries of one request: it allocates a pointer for each that
// there may be, for each request.
const MaxInFlight = 512

// Partition is one member of one Raft group.
//
// Lock order: mu is taken alone or before the documents' own lock, never while holding the state machine's.
type Partition struct {
	o        Options
	raft     atomic.Pointer[raft.Raft] // set once, before anything reads it but the guard
	guard    *guard
	log      *watchedLog
	strain   atomic.Pointer[strain] // see strained
	fsm      *stateMachine
	outbox   outbox
	notify   chan bool     // Raft: leadership gained, lost
	heard    bool          // the newest of notify; watch's own
	vigil    vigil         // over watch
	slots    chan struct{} // a token per proposal in flight
	bytes    *Budget       // and for their bytes
	closing  chan struct{}
	watching sync.WaitGroup
	verify   verification

	draining atomic.Bool
	awake    alertness   // see Awake
	back     atomic.Bool // Options.Returned no longer holds: a configuration has listed this member
	joined   atomic.Bool // a follower acknowledged for the first time since the last note
	trail    atomic.Pointer[keptTrail]

	markers, alreadyThere, lostWith, candidacies atomic.Uint64

	mu   sync.Mutex
	lead *leadership // non-nil while Raft leads here, as far as watch has heard
	// proposals numbers commands for the life of the process, never anew within a term: two stays in office may be seen
	// under one term when notifications are late.
	proposals uint64
	handing   bool   // leadership is being handed over: no new proposals
	offered   bool   // it was offered: another may lead any moment
	safeMode  string // reason; "" when not in safe mode
	failure   error  // a durable step failed
	closed    bool
	serves    Refusal // as last reported to Events.Serving
	epoch     uint64  // of the newest leadership here
	candidacy candidacy
	servedAt  time.Time     // when this member was last seen to serve
	leaderID  raft.ServerID // as last reported to Events.Leader
	leadTerm  uint64
}

// Open starts the member from what its log and documents hold. A marker beyond the applied index is a hole (design
// §5.4). Documents that cover more than the log and its marker reach mean that the log lost data: an error, because the
// member may have voted for, or acknowledged, what is gone (lemma I2).
func Open(options Options) (*Partition, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Partition{o: o, notify: make(chan bool, 16), vigil: vigil{poke: make(chan struct{}, 1), running: true},
		closing: make(chan struct{}), slots: make(chan struct{}, o.Limits.InFlight), bytes: NewBudget(o.Limits.InFlightBytes), safeMode: o.SafeMode, serves: NotLeader, awake: alertness{roused: o.Events.Roused}}
	p.awake.wake() // nobody is known to lead
	// What a member before this one staged is durable before Raft starts: starting stores the term, which waits.
	p.log = &watchedLog{LogGroup: o.Log, failed: p.fail, now: o.Clock, coming: o.Documents.ReadAhead}
	p.outbox.apply = func(entry []byte) { p.raft.Load().Apply(entry, 0) }
	p.fsm = &stateMachine{docs: o.Documents, awaitLog: p.log.await, complete: p.complete, onConfig: o.Events.Configuration, failed: p.fail}
	if err := p.recoverHole(); err != nil {
		return nil, err
	}
	p.fsm.reach(max(p.fsm.index, p.o.Documents.Applied()))
	term, err := o.Log.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" {
		return nil, fmt.Errorf("partition %d: read the term: %w", o.ID, err)
	}
	p.guard = &guard{partition: o.ID, inner: o.Transport, now: o.Clock, live: o.Liveness, self: o.Self, leaseFor: o.Timing.Lease, restAfter: restAfter * o.Timing.Heartbeat, vetoed: p.vetoed,
		covered: p.covered, term: p.Term, log: p.log, stuck: p.stuck, returned: p.returned, origin: &p.fsm.lineage, founding: p.Founding, inOffice: p.inOffice, vouches: p.vouches, voters: p.voters, joined: func() { p.joined.Store(true); p.awake.wake() },
		stir: func() { p.awake.wake() }, again: p.again,
		committed: func() committed { return p.fsm.committedTerms(p.log) }, reached: p.fsm.reached.Load, contradicted: p.o.Events.Contradicted, replicates: p.replicates}
	p.guard.start(term)
	if err := p.startRaft(); err != nil {
		p.guard.close()
		return nil, fmt.Errorf("partition %d: start Raft: %w", o.ID, err)
	}
	p.watching.Go(p.watch)
	p.watching.Go(func() { p.readTail(p.o.Documents.Applied()) })
	if v := p.voters(); o.Liveness != nil && len(v) == 1 && v[0] == o.Self {
		p.guard.absolve() // nobody else could be promised anything
		p.Stand()
	}
	return p, nil
}

func (p *Partition) startRaft() error {
	r, err := raft.NewRaft(p.raftConfig(), p.fsm, p.log, p.log, &markerStore{log: p.log, install: p.install}, p.guard)
	if err != nil {
		return err
	}
	p.raft.Store(r)
	r.RegisterObserver(raft.NewObserver(nil, false, p.observe))
	p.mu.Lock()
	failure := p.failure
	p.mu.Unlock()
	if failure != nil {
		return errors.Join(failure, r.Shutdown().Error())
	}
	return nil
}

func (p *Partition) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = p.o.Self
	c.HeartbeatTimeout, c.ElectionTimeout = p.o.Timing.Heartbeat, p.o.Timing.Election
	c.LeaderLeaseTimeout = p.o.Timing.Heartbeat
	c.CommitTimeout = p.o.Timing.Commit
	if p.o.Liveness != nil {
		slow := backstop * p.o.Timing.Heartbeat
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = slow, slow, slow/2
		c.CommitTimeout = quietCommit
	}
	c.MaxAppendEntries = p.o.Limits.InFlight + 2
	c.BatchApplyCh = true // holds as many: all that may be in flight, and two barriers, so that Apply never blocks
	c.TrailingLogs = p.o.Trailing
	c.SnapshotThreshold = 1 << 62 // markers are made by Truncate alone
	c.SnapshotInterval = 24 * time.Hour
	c.NotifyCh = p.notify
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(p.o.Logger, p.o.ID)
	return c
}

// recoverHole compares the documents with the marker and the log, before Raft starts.
func (p *Partition) recoverHole() error {
	if err := p.o.Documents.Flush(); err != nil { // what a member before this one staged
		return fmt.Errorf("partition %d: %w", p.o.ID, err)
	}
	m, ok, err := p.o.Log.Marker()
	if err != nil {
		return fmt.Errorf("partition %d: read the marker: %w", p.o.ID, err)
	}
	last, err := p.o.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("partition %d: last index: %w", p.o.ID, err)
	}
	if covered := p.o.Documents.Coverage().Max(); covered > max(last, m.Index) {
		return fmt.Errorf("partition %d: %w: documents hold index %d, log and marker end at %d", p.o.ID, ErrLogLost, covered, max(last, m.Index))
	}
	if !ok {
		return p.recoverFounding(last)
	}
	if applied := p.o.Documents.Applied(); applied < m.Index {
		if err := p.o.Documents.RecordHole(applied+1, m.Index); err != nil {
			return fmt.Errorf("partition %d: record the hole up to the marker: %w", p.o.ID, err)
		}
	}
	h, err := decodePayload(m.Payload)
	if err == nil {
		err = checkConfiguration(m)
	}
	if err != nil {
		return fmt.Errorf("partition %d: stored marker: %w", p.o.ID, err)
	}
	p.fsm.founding, p.fsm.terms, p.fsm.index, p.fsm.term = h.founding, h.terms, m.Index, m.Term
	p.fsm.descend(h)
	p.fsm.configuration, p.fsm.configIndex = m.Configuration, m.ConfigurationIndex
	return nil
}

// recoverFounding finds the group's id in the log of a member without a marker. Only what was applied is known to be
// committed; Raft itself reads it again as soon as a leader tells how far that is, which may be never.
func (p *Partition) recoverFounding(last uint64) error {
	return p.eachCommand(1, min(last, p.o.Documents.Applied()), func(founding uint64, _ bool) bool {
		p.fsm.founding = founding
		return founding == 0
	})
}

// eachCommand visits the entries of the log that hold commands, until visit returns false: with the id that the entry would found the
// group with, 0 for none, and whether it writes to documents.
func (p *Partition) eachCommand(first, last uint64, visit func(founding uint64, writes bool) bool) error {
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := p.o.Log.GetLog(i, &l); err != nil {
			return fmt.Errorf("partition %d: read entry %d: %w", p.o.ID, i, err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		c, ok, err := barrierIn(l.Data)
		if err != nil {
			return fmt.Errorf("partition %d: entry %d: %w", p.o.ID, i, err)
		}
		founding := uint64(0)
		if ok && c.founds(l.Term) {
			founding = c.Founding
		}
		if !visit(founding, !ok) {
			return nil
		}
	}
	return nil
}

// Recognize takes the group's id from a leader that serves, if this member does not know it and its own log holds an entry of
// that very group. A member that was away before it had applied anything, and was taken out meanwhile, hears of it in no
// other way: nobody replicates to it until it is known to belong to the group.
func (p *Partition) Recognize(founding uint64) (bool, error) {
	if founding == 0 || p.Founding() != 0 {
		return false, nil
	}
	_, found, err := p.inLog(founding)
	if !found || err != nil {
		return false, err
	}
	return p.fsm.recognize(founding), nil
}

// Foreign reports whether what this member holds is of another group than the one with an id, also when it has applied nothing
// of it: then the entries of its log tell. Writes among them may have been acknowledged by another group, unless one of them founds
// this very group. Without any there is nothing to lose: a leader that was never elected again may have tried to found the group.
func (p *Partition) Foreign(founding uint64) (bool, error) {
	if own := p.Founding(); own != 0 {
		return own != founding, nil
	}
	writes, found, err := p.inLog(founding)
	return writes && !found, err
}

// inLog reports whether the log holds anything that was written to documents, and an entry that founds the group with an id.
func (p *Partition) inLog(founding uint64) (writes, found bool, err error) {
	first, err := p.o.Log.FirstIndex()
	if err != nil || first == 0 {
		return false, false, err
	}
	last, err := p.o.Log.LastIndex()
	if err != nil {
		return false, false, err
	}
	err = p.eachCommand(first, last, func(id uint64, write bool) bool {
		writes, found = writes || write, id != 0 && id == founding
		return !found
	})
	return writes, found, err
}

// Seed prepares the empty log of a joining member: it starts from a leader's marker, with a hole up to it, so that Raft
// ships it none of the documents written before (design §10). A member with any state refuses.
func Seed(log store.LogGroup, m store.Marker) error {
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	if _, ok, err := log.Marker(); err != nil || ok || last > 0 {
		return errors.Join(err, fmt.Errorf("seed with a marker at %d: the member has state already", m.Index))
	}
	if m.Index < 2 {
		return fmt.Errorf("seed with a marker at %d: too early", m.Index)
	}
	if _, err := decodePayload(m.Payload); err != nil {
		return err
	}
	if err := checkConfiguration(m); err != nil {
		return err
	}
	return log.SaveMarker(m, false)
}

// checkConfiguration refuses a marker whose configuration Raft would panic on, now and at every start.
func checkConfiguration(m store.Marker) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("configuration of the marker at %d: %v", m.Index, p)
		}
	}()
	raft.DecodeConfiguration(m.Configuration)
	return nil
}

// HasData reports whether a member's log and documents hold anything a first start would not find.
func HasData(log store.LogGroup, docs interface{ Applied() uint64 }) (bool, error) {
	last, err := log.LastIndex()
	if err != nil {
		return false, err
	}
	_, marker, err := log.Marker()
	return last > 0 || marker || docs.Applied() > 0, err
}

// Bootstrap gives an empty member the group's first configuration. DecideBirth says when that is right.
func (p *Partition) Bootstrap(servers []raft.Server) error {
	if err := p.raft.Load().BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return err
	}
	p.Stand()
	return nil
}

// ID is the partition's number in the cluster file.
func (p *Partition) ID() uint32 { return p.o.ID }

// Term is Raft's current term; 0 until Raft runs.
func (p *Partition) Term() uint64 {
	if r := p.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// vetoed keeps a sick or draining member from campaigning until its grace period is over: another member shall win. Not
// for ever: the sick one may hold the only copy of the newest entries (design §9).
func (p *Partition) vetoed(now, lastContact time.Time) bool {
	return (p.draining.Load() || !p.o.Documents.Complete()) && now.Sub(lastContact) < p.o.Timing.Grace
}

// Drain makes the member leave leadership to others from now on: it takes no offer and campaigns late.
func (p *Partition) Drain() { p.draining.Store(true) }

// covered reports whether a marker tells this member nothing: its log already matches the leader's at the marker. When that can not be read
// the member has stopped: to take the marker for news would drop what the log holds above it.
func (p *Partition) covered(req *raft.InstallSnapshotRequest) bool {
	m, _, err := p.o.Log.Marker()
	if err != nil {
		p.fail(fmt.Errorf("read the marker: %w", err))
		return false
	}
	return matchesMarker(m.Index, req.LastLogIndex, req.LastLogTerm, termOf(p.log))
}

// install takes over a marker received from a leader.
func (p *Partition) install(m store.Marker) error {
	if err := p.log.refusal(); err != nil {
		return err
	}
	before := p.o.Documents.Applied()
	if err := p.fsm.skip(m, p.o.Log); err != nil {
		p.fail(err)
		return err
	}
	if err := p.o.Log.SaveMarker(m, false); err != nil {
		p.fail(err)
		return err
	}
	p.markers.Add(1)
	if !p.o.Documents.Complete() {
		p.o.Events.Hole()
	}
	p.o.Logger.Info("marker taken over", "partition", p.o.ID, "index", m.Index, "applied", before, "holes", p.o.Documents.Status().Holes.String())
	p.wake()
	return nil
}

// Installing reports whether a marker is being taken over: its hole is recorded, and it is not stored yet, perhaps because of a
// crash in between. To heal such a hole would be too early: after another crash the documents would cover what neither log nor
// marker reach, like those of a member whose log was lost.
func (p *Partition) Installing() (bool, error) {
	applied := p.o.Documents.Applied()
	m, _, err := p.o.Log.Marker()
	if err != nil {
		return false, err
	}
	last, err := p.o.Log.LastIndex()
	return applied > max(m.Index, last), err
}

// Truncate makes a marker and truncates the log when enough entries, commands or bytes were applied since the last one.
// The host calls it for all partitions at once, so that their syncs of the document engine share one fsync (design §4).
// Room is how many bytes of entries stay behind the marker, and half of it how many may be applied until the next one is due, where that
// is less than Options.TrailingBytes and ThresholdBytes: the member's share of what the host has for all of its logs. 0 leaves it to these.
func (p *Partition) Truncate(ctx context.Context, room int64) error {
	threshold, trailing := p.o.ThresholdBytes, p.o.TrailingBytes
	if room > 0 {
		threshold, trailing = min(threshold, (room+1)/2), min(trailing, room)
	}
	m, _, err := p.o.Log.Marker()
	if err != nil {
		return err
	}
	if err := p.o.Documents.Flush(); err != nil { // of what was acknowledged
		p.fail(fmt.Errorf("write what was applied: %w", err))
		return fmt.Errorf("partition %d: %w", p.o.ID, err)
	}
	applied := p.o.Documents.Applied()
	commands, bytes := p.fsm.since(m.Index)
	enough := applied >= m.Index+p.o.Threshold || commands >= p.o.Threshold || bytes >= threshold
	if !enough || applied <= m.Index {
		return nil
	}
	if err := p.fitTrail(applied-m.Index, commands, bytes, trailing); err != nil {
		return err
	}
	return p.Mark(ctx)
}

// fitTrail chooses how many entries stay behind the marker, given how much was applied lately, so that large ones do not fill the
// disk: as many as hold Trailing commands, and so many bytes, but always more than may be in flight.
func (p *Partition) fitTrail(entries, commands uint64, bytes, trailing int64) error {
	trail := p.o.Trailing
	if commands > entries {
		trail = uint64(float64(trail) * float64(entries) / float64(commands))
	}
	if entryBytes := bytes / int64(entries); entryBytes > 0 {
		trail = min(trail, uint64(trailing/entryBytes))
	}
	trail = max(trail, uint64(p.o.Limits.InFlight)+1)
	if kept := p.trail.Load(); kept != nil && p.o.Clock().Before(kept.until) {
		trail = max(trail, kept.entries)
	}
	r := p.raft.Load()
	c := r.ReloadableConfig()
	if c.TrailingLogs == trail {
		return nil
	}
	c.TrailingLogs = trail
	return r.ReloadConfig(c)
}

// Mark makes a marker now.
func (p *Partition) Mark(ctx context.Context) error {
	err := p.await(ctx, p.raft.Load().Snapshot())
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// await bounds the wait for a future of Raft, which may never be answered after a shutdown. The goroutine ends with the
// future; Raft answers administrative futures or closes them down.
func (p *Partition) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return raft.ErrRaftShutdown
	}
}

// fail stops the member after a durable step failed: nothing is acknowledged any more, and no fsync is tried again
// (design §10). From the moment it returns nothing that Raft does reaches the documents or another host; Raft itself is
// told to end.
func (p *Partition) fail(err error) {
	p.fsm.stopped.Store(true)
	if p.guard != nil {
		p.guard.die()
	}
	p.log.abandon(err)
	p.mu.Lock()
	first := p.failure == nil && !p.closed
	if first {
		p.failure = err
	}
	p.mu.Unlock()
	if !first {
		return
	}
	p.o.Logger.Error("member stopped", "partition", p.o.ID, "error", err)
	if r := p.raft.Load(); r != nil {
		r.Shutdown()
	}
	p.wake()
	p.o.Events.Failed(err)
}

// Fail stops the member because the host's storage failed.
func (p *Partition) Fail(err error) { p.fail(err) }

// Failure is what stopped the member, nil while nothing did.
func (p *Partition) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// Close stops the member. It does not hand leadership over: Transfer does.
func (p *Partition) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.closing)
	p.wake() // watch ends the leadership
	f := p.raft.Load().Shutdown()
	p.log.abandon(ErrClosed)
	p.guard.close()
	err := f.Error()
	p.outbox.close()
	p.watching.Wait()
	p.guard.leave()
	return err
}
