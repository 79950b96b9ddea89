package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's names for the two halves of a vote.
const (
	logKeyVoteTerm      = "LastVoteTerm"
	logKeyVoteCandidate = "LastVoteCand"
)

// Bounds of stable values, which Raft uses for a handful of small numbers.
const (
	maxLogKeys  = 256
	maxLogKey   = 1 << 10
	maxLogValue = 1 << 20
)

// errLogKeyNotFound has the text by which Raft knows a missing key.
var errLogKeyNotFound = errors.New("not found")

// logDisk is one partition's durable state. One call of apply at a time; reads at any time. apply must be atomic, in a
// crash too, and durable when it returns unless the change is lazy.
type logDisk interface {
	// load reads the records and returns a state with first and last, calling visit for each entry from first to last.
	load(visit func(*raft.Log) error) (logState, error)
	entry(index uint64) (l raft.Log, found bool, err error)
	apply(c *logChange) error
	// stage is apply that need not wait: done is called once when it returns nil.
	stage(c *logChange, done func(error)) error
	drop() error
	close() error
}

// logGroup implements LogGroup over a logDisk: both engines share everything but the disk.
type logGroup struct {
	engine    *logEngine
	partition uint32
	disk      logDisk

	// write is held for a durable step, across the disk. It alone changes state, so under it state can be read without mu.
	write  sync.Mutex
	staged *uint64 // a vote's term on its way; guarded by write

	mu      sync.RWMutex // guards the rest; never held across the disk
	flying  int          // durable steps under way
	since   time.Time    // with any: when the oldest of them began, or a later one when others have ended since
	state   logState
	tail    logTail
	cuts    uint64 // counts removals of entries whose indexes can come again
	dropped bool
}

var _ LogGroup = (*logGroup)(nil)

// FirstIndex implements raft.LogStore.
func (g *logGroup) FirstIndex() (uint64, error) {
	s, err := g.snapshot()
	return s.first, err
}

// LastIndex implements raft.LogStore.
func (g *logGroup) LastIndex() (uint64, error) {
	s, err := g.snapshot()
	return s.last, err
}

// Marker implements LogGroup.
func (g *logGroup) Marker() (Marker, bool, error) {
	s, err := g.snapshot()
	if err != nil || s.marker == nil {
		return Marker{}, false, err
	}
	return *s.marker, true, nil
}

// Compacted implements LogGroup.
func (g *logGroup) Compacted() (index, term uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.state.compacted.index, g.state.compacted.term
}

// IsMonotonic implements raft.MonotonicLogStore. Raft must drop the log itself when it moves to a marker: with a gap in its
// place, a stale suffix survives and never-committed entries are applied.
func (g *logGroup) IsMonotonic() bool { return true }

func (g *logGroup) snapshot() (logState, error) {
	if err := g.engine.acquire(); err != nil {
		return logState{}, err
	}
	defer g.engine.release()
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.dropped {
		return logState{}, ErrDropped
	}
	return g.state, nil
}

// GetLog implements raft.LogStore.
func (g *logGroup) GetLog(index uint64, l *raft.Log) error {
	if err := g.engine.acquire(); err != nil {
		return err
	}
	defer g.engine.release()
	found, err := g.get(index, l)
	if err == nil && !found {
		err = raft.ErrLogNotFound
	}
	return err
}

// get is GetLog for a caller that has acquired the engine; found for an index of [compacted, last].
func (g *logGroup) get(index uint64, l *raft.Log) (found bool, err error) {
	for {
		g.mu.RLock()
		s, cuts, dropped := g.state, g.cuts, g.dropped
		recent, hit := g.tail.find(index)
		inside := s.holds(index)
		if hit && inside {
			*l = *recent
		}
		g.mu.RUnlock()
		switch {
		case dropped:
			return false, ErrDropped
		case index > 0 && index == s.compacted.index:
			*l = s.compacted.stub()
			return true, nil
		case !inside:
			return false, nil
		case hit:
			g.engine.reads.Add(1)
			return true, nil
		}
		entry, found, err := g.disk.entry(index)
		g.mu.RLock()
		gone, again := !g.state.holds(index), g.cuts != cuts
		dropped = g.dropped
		g.mu.RUnlock()
		switch {
		case dropped:
			return false, ErrDropped
		case again: // what was read may have been removed, or may be its successor on its way to the disk
			continue
		case err != nil:
			return false, err
		case !found && gone: // truncated meanwhile
			return false, nil
		case !found:
			return false, g.corrupt(fmt.Errorf("entry %d is missing from [%d, %d]", index, s.first, s.last))
		}
		g.engine.reads.Add(1)
		g.engine.readsDisk.Add(1)
		*l = entry
		return true, nil
	}
}

// entry is get for a plan.
func (g *logGroup) entry(index uint64) (raft.Log, error) {
	var l raft.Log
	found, err := g.get(index, &l)
	if err == nil && !found {
		err = raft.ErrLogNotFound
	}
	return l, err
}

func (g *logGroup) term(index uint64) (uint64, bool, error) {
	var l raft.Log
	found, err := g.get(index, &l)
	return l.Term, found, err
}

// StoreLog implements raft.LogStore.
func (g *logGroup) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries are copied. Of what is refused nothing is stored.
func (g *logGroup) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	return g.step("store", func(s *logState) (*logChange, error) { return s.store(logs) })
}

// Stage implements LogGroup. The entries are copied.
func (g *logGroup) Stage(logs []*raft.Log, done func(error)) error {
	if err := g.engine.acquire(); err != nil {
		return err
	}
	g.write.Lock()
	defer g.write.Unlock()
	c, err := g.plan("store", func(s *logState) (*logChange, error) { return s.store(logs) })
	if err != nil || len(logs) == 0 {
		g.engine.release()
		if err == nil {
			done(nil)
		}
		return err
	}
	for c != nil && err == nil {
		rest := c.cut()
		ended := done
		if rest != nil {
			ended = nil // the last step comes last, and fails when one before it has failed
		}
		err = g.stage(c, ended)
		c = rest
	}
	if err != nil { // the engine has failed
		g.engine.release()
	}
	return err
}

// stage is one step of Stage; the last one, which has done, lets go of the engine. The caller holds write.
func (g *logGroup) stage(c *logChange, done func(error)) error {
	run := newLogRun(g, c.entries)
	g.mu.Lock()
	g.begin()
	g.state = g.state.after(c)
	g.tail = append(g.tail, run)
	victims := g.engine.recent.stage(run)
	g.mu.Unlock()
	forget(victims)
	err := g.disk.stage(c, func(err error) {
		if err == nil {
			g.engine.count(c)
		}
		g.settle(run)
		if done != nil {
			g.engine.release()
			done(err)
		}
	})
	if err != nil {
		g.settle(run)
	}
	return err
}

// logKeptAtRest is how many bytes of entries a group at rest may keep.
const logKeptAtRest = 1 << 10

// Rest implements LogGroup.
func (g *logGroup) Rest() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flying > 0 {
		return // it does not rest: what is under way may be nowhere else
	}
	keep := len(g.tail)
	if keep > 0 && g.tail[keep-1].bytes <= logKeptAtRest {
		keep--
	}
	g.engine.recent.remove(g.tail[:keep])
	g.tail = slices.Clone(g.tail[keep:])
}

// settle ends a staged step. Only now may its entries leave the memory: until then they are nowhere else.
func (g *logGroup) settle(run *logRun) {
	g.mu.Lock()
	g.end()
	victims := g.engine.recent.add(run)
	g.mu.Unlock()
	forget(victims)
}

// begin and end note that a durable step is under way. The caller holds mu.
func (g *logGroup) begin() {
	if g.flying++; g.flying == 1 {
		g.since = time.Now()
	}
}

func (g *logGroup) end() {
	g.flying--
	g.since = time.Now()
}

// waiting is for how long the oldest durable step under way has been waiting; 0 without one.
func (g *logGroup) waiting(now time.Time) time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.flying == 0 {
		return 0
	}
	return now.Sub(g.since)
}

// DeleteRange implements raft.LogStore.
func (g *logGroup) DeleteRange(low, high uint64) error {
	return g.step("truncate", func(s *logState) (*logChange, error) { return s.deleteRange(low, high, g.entry) })
}

// SaveMarker implements LogGroup.
func (g *logGroup) SaveMarker(m Marker, keep bool) error {
	m.Configuration = append([]byte(nil), m.Configuration...)
	m.Payload = append([]byte(nil), m.Payload...)
	return g.step("save marker", func(s *logState) (*logChange, error) { return s.saveMarker(&m, keep, g.term) })
}

// Set implements raft.StableStore.
func (g *logGroup) Set(key, value []byte) error {
	return g.step("set", func(s *logState) (*logChange, error) {
		return s.set(key, value, &g.staged)
	})
}

// SetUint64 implements raft.StableStore.
func (g *logGroup) SetUint64(key []byte, value uint64) error {
	return g.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// Get implements raft.StableStore.
func (g *logGroup) Get(key []byte) ([]byte, error) {
	s, err := g.snapshot()
	if err != nil {
		return nil, err
	}
	v, ok := s.get(string(key))
	if !ok {
		return nil, errLogKeyNotFound
	}
	return append([]byte{}, v...), nil
}

// GetUint64 implements raft.StableStore.
func (g *logGroup) GetUint64(key []byte) (uint64, error) {
	v, err := g.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("store: log of partition %d: %q is not a number", g.partition, key)
	}
	return binary.BigEndian.Uint64(v), nil
}

// step plans a change and brings it to the disk: one atomic step, or several of many large entries.
func (g *logGroup) step(what string, plan func(*logState) (*logChange, error)) error {
	if err := g.engine.acquire(); err != nil {
		return err
	}
	defer g.engine.release()
	g.write.Lock()
	defer g.write.Unlock()
	c, err := g.plan(what, plan)
	for c != nil && err == nil {
		rest := c.cut()
		err = g.carryOut(c)
		c = rest
	}
	return err
}

// carryOut brings one atomic step to the disk. What it adds is shown once it is durable (Stage shows entries before); what it removes is
// hidden before, because from then on the disk may not have it. A failure in between is the end of the engine. The caller holds write.
func (g *logGroup) carryOut(c *logChange) error {
	g.mu.Lock()
	g.begin()
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.end()
		g.mu.Unlock()
	}()
	removal, rest := c.split()
	if removal.from > 0 {
		g.show(&removal)
	}
	if err := g.disk.apply(c); err != nil {
		return err
	}
	g.engine.count(c)
	g.show(&rest)
	return nil
}

// plan asks for a change; nil when there is nothing to do. The caller holds write.
func (g *logGroup) plan(what string, plan func(*logState) (*logChange, error)) (*logChange, error) {
	if g.dropped {
		return nil, ErrDropped
	}
	c, err := plan(&g.state)
	if err != nil {
		return nil, fmt.Errorf("store: log of partition %d: %s: %w", g.partition, what, err)
	}
	return c, nil
}

// show makes a change visible.
func (g *logGroup) show(c *logChange) {
	var run *logRun
	if len(c.entries) > 0 {
		run = newLogRun(g, c.entries)
	}
	g.mu.Lock()
	victims := g.showLocked(c, run)
	g.mu.Unlock()
	forget(victims)
}

// forget takes evicted runs from their groups. The caller holds no lock.
func forget(victims []*logRun) {
	for _, v := range victims {
		v.group.mu.Lock()
		v.group.tail = v.group.tail.forget(v)
		v.group.mu.Unlock()
	}
}

func (g *logGroup) showLocked(c *logChange, run *logRun) (victims []*logRun) {
	var gone []*logRun
	before := g.state
	g.state = before.after(c)
	switch {
	case c.from == 0:
	case c.from == before.first && c.to == before.last:
		gone, g.tail = g.tail, nil
		g.cuts++
	case c.from == before.first:
		g.tail, gone = g.tail.dropFront(c.to)
	default:
		g.tail, gone = g.tail.dropBack(c.from)
		g.cuts++
	}
	g.engine.recent.remove(gone)
	if run == nil {
		return nil
	}
	g.tail = append(g.tail, run)
	return g.engine.recent.add(run)
}

func (g *logGroup) corrupt(err error) error {
	return &CorruptionError{Partition: g.partition, Kind: "log", Err: err}
}
