package store

import (
	"fmt"
	"math/rand/v2"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskLog is the log of a schedule with engines, and what it prescribes.
type diskLog struct {
	h       *history
	r       *rand.Rand
	buckets []uint8 // by group: where the documents live
	truth   *modelMember
	states  []*modelMember // after each index, 0 included
	bulk    bool           // whatever is pulled is ingested
}

// newDiskLog spreads the history's documents over one bucket per group, as the pure nodes do.
func newDiskLog(h *history, r *rand.Rand, groups int) *diskLog {
	l := &diskLog{h: h, r: r, truth: newModelMember()}
	l.states = append(l.states, l.truth.clone())
	for g := range groups {
		l.buckets = append(l.buckets, uint8(10+100*g))
	}
	for i := range h.keys {
		h.keys[i] = keyInBucket(FullRange(), l.buckets[i%groups], i)
	}
	return l
}

// keyInBucket finds a key that a bucket holds.
func keyInBucket(r Range, bucket uint8, n int) Key {
	for i := 0; ; i++ {
		k := Key{Space: fmt.Sprintf("space%d", n%2), Key: fmt.Sprintf("doc%d.%d", n, i)}
		if hash := k.Hash(); r.Contains(hash) && r.Bucket(hash) == bucket {
			return k
		}
	}
}

func (l *diskLog) grow() {
	for i := len(l.states) - 1; i < len(l.h.log); i++ {
		if m := l.h.log[i]; m != nil {
			l.truth.apply(m)
		}
		l.truth.applied = uint64(i + 1)
		l.states = append(l.states, l.truth.clone())
	}
}

// diskNode is a member with an engine on a disk that can crash.
type diskNode struct {
	l      *diskLog
	groups int
	fs     *vfs.MemFS
	e      *DocEngine
	d      *Documents
}

// failed leaves a schedule: something returned an error that should not.
type failed struct{ err error }

func try[T any](v T, err error) T {
	if err != nil {
		panic(failed{err})
	}
	return v
}

func newDiskNode(l *diskLog, groups int) *diskNode {
	n := &diskNode{l: l, groups: groups, fs: vfs.NewCrashableMem()}
	n.open()
	return n
}

func (n *diskNode) open() {
	n.e = try(OpenDocs(testOptions(n.fs)))
	if n.l.bulk {
		n.e.bulk.limits = bulkLimits{chunk: 1, table: 150, least: 1, total: 1 << 20}
	}
	n.d = try(n.e.Member(7, FullRange()))
}

func (n *diskNode) applied() uint64        { return n.d.Applied() }
func (n *diskNode) coverage() interval.Set { return n.d.Coverage() }
func (n *diskNode) complete() bool         { return n.d.Status().Complete }
func (n *diskNode) close()                 { try(0, n.e.Close()) }
func (n *diskNode) sync()                  { try(0, n.e.Sync()) }
func (n *diskNode) closeHoles()            { try(n.d.CloseHoles()) }
func (n *diskNode) recordHole(m uint64)    { try(0, n.d.RecordHole(n.d.Applied()+1, m)) }

func (n *diskNode) crash() {
	// Part of what was not synced may survive, but never a later write without an earlier one.
	n.fs = n.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * n.l.r.IntN(3), RNG: n.l.r})
	n.close()
	n.open()
}

func (n *diskNode) apply(upTo uint64) {
	batch := n.l.h.slice(n.d.Applied()+1, upTo)
	for i := range batch {
		if n.l.r.IntN(4) == 0 {
			batch[i].Prior = Chain{} // a leader of which nothing is known but the outcome
		}
	}
	try(0, n.d.Apply(batch, upTo))
}

func (n *diskNode) check() error {
	n.l.grow()
	want := n.l.states[n.d.Applied()]
	got, _ := n.d.Summary()
	if summary := want.summary(n.d.Range()); got != summary {
		return fmt.Errorf("root %s, should be %s", got.Root(), summary.Root())
	}
	for i := n.d.Applied(); i > 0; i-- { // what it would be compared by
		past, ok := n.d.SummaryAt(i)
		if !ok {
			break
		}
		if *past != n.l.states[i].summary(n.d.Range()) {
			return fmt.Errorf("the past at %d, told at %d, is not what the log prescribes", i, n.d.Applied())
		}
	}
	status := n.d.Status()
	if status.Documents != int64(len(want.docs)) || status.DeleteRecords != 0 {
		return fmt.Errorf("%d documents, should be %d; %d delete records", status.Documents, len(want.docs), status.DeleteRecords)
	}
	for key, doc := range want.docs {
		h, _, err := n.d.Head(key)
		if err != nil {
			return err
		}
		// The leaf does not cover LastIndex, and a comparison does not ask for documents because of it alone.
		same := doc.clone()
		if h.LastIndex > same.last || h.Generation > h.LastIndex {
			return fmt.Errorf("%s: last index %d, should be at most %d", key, h.LastIndex, same.last)
		}
		same.last = h.LastIndex
		if err := same.check(n.d, key); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	same := *want
	same.deleted = nil
	return same.checkRecords(n.d)
}

// diskSession pulls one group of buckets: the one with documents by a Session, the empty ones by marking them alike.
type diskSession struct {
	x, y   *diskNode
	group  int
	bucket uint8
	s      *Session
	since  uint64
	listed uint64 // hashes up to here, if begun
	begun  bool
	done   bool // listing
	hashes []uint64
	from   Cursor

	applied  uint64       // here, when the session began
	answered bool         // and
	covered  interval.Set // what the peer covered in all of its answers
}

// answer keeps the books that the Session should keep.
func (s *diskSession) answer(coverage interval.Set) {
	if !s.answered {
		s.answered, s.covered = true, coverage
	}
	s.covered = s.covered.Intersect(coverage)
}

func (n *diskNode) begin(peer node, group int) pulling {
	s := &diskSession{x: n, y: peer.(*diskNode), group: group, bucket: n.l.buckets[group], applied: n.d.Applied()}
	s.s = n.d.BeginSession(s.bucket)
	if holes := n.d.Status().Holes; !holes.Empty() && n.l.r.IntN(3) > 0 {
		s.since = holes.Min() - 1
	}
	return s
}

// step is one round trip, or the end.
func (s *diskSession) step() bool {
	if !s.done {
		s.list()
		return false
	}
	if len(s.hashes) > 0 {
		if err := s.pull(); err == ErrSessionLost {
			return true
		} else if err != nil {
			panic(failed{err})
		}
		return false
	}
	healed, err := s.s.Finish()
	if err == ErrSessionLost {
		return true
	}
	try(0, err)
	if want := s.covered.Intersect(interval.Of(1, s.applied)); !healed.Equal(want) {
		panic(failed{fmt.Errorf("healed %s: the peer covered %s, and %d was applied when the session began", healed, s.covered, s.applied)})
	}
	for b := range 256 {
		if b%s.x.groups == s.group && uint8(b) != s.bucket && !s.isUsed(uint8(b)) {
			try(0, s.x.d.markHealed(uint8(b), healed, s.s.answers.Seen))
		}
	}
	return true
}

func (s *diskSession) isUsed(bucket uint8) bool {
	for _, b := range s.x.l.buckets {
		if b == bucket {
			return true
		}
	}
	return false
}

// list asks for a page, over the wire, and compares it.
func (s *diskSession) list() {
	q := ListQuery{Since: s.since, Limit: s.x.l.r.IntN(3)}
	if s.begun {
		q.From = s.listed + 1
	}
	theirs := try(DecodeListing(try(s.y.d.List(s.bucket, q)).AppendBinary(nil)))
	q.To, q.Limit, q.Also = theirs.To, 0, theirs.Hashes()
	s.s.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
	s.answer(theirs.Coverage)
	plan := try(Compare(try(s.x.d.List(s.bucket, q)), theirs))
	if plan.FullNeeded {
		s.since, s.begun, s.hashes = 0, false, nil
		return
	}
	s.hashes = append(s.hashes, plan.Hashes()...)
	s.begun, s.listed, s.done = true, theirs.To, theirs.Last()
}

// pull asks for a chunk, over the wire.
func (s *diskSession) pull() error {
	wants := try(s.x.d.Wants(s.bucket, s.hashes, s.from))
	q := try(DecodeExportQuery((&ExportQuery{Wants: wants, From: s.from, Budget: 1 + s.x.l.r.IntN(400)}).AppendBinary(nil)))
	chunk := try(DecodeChunk(try(s.y.d.Export(s.bucket, q)).AppendBinary(nil)))
	s.answer(chunk.Coverage)
	report, err := s.s.Import(chunk)
	if err != nil {
		return err
	}
	if len(report.Divergent) > 0 {
		return fmt.Errorf("diverged: %s", report.Divergent[0].String())
	}
	s.from = chunk.Next
	if chunk.Done {
		s.hashes, s.from = s.hashes[len(wants):], Cursor{}
	}
	return nil
}

func playDisk(seed int64, members int, verbose bool) (w *world, err error) {
	return playDiskWith(seed, members, verbose, false)
}

func playDiskWith(seed int64, members int, verbose, damages bool) (w *world, err error) {
	const groups = 2
	r := newRand(seed)
	h := repairHistory(r, groups)
	l := newDiskLog(h, r, groups)
	l.bulk = seed%3 == 0
	w = &world{r: r, h: h, groups: groups, crashes: true, proves: seed%2 == 1, damages: damages, verbose: verbose, logged: make([]uint64, members)}
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(failed)
			if !ok {
				panic(p)
			}
			err = f.err
		}
		for _, n := range w.nodes {
			n.close()
		}
	}()
	for range members {
		w.nodes = append(w.nodes, newDiskNode(l, groups))
	}
	if err := w.run(140, 25); err != nil {
		return w, err
	}
	return w, l.witness(w)
}

// witness applies everything and compares roots, and what the ring says about the past, with the log.
func (l *diskLog) witness(w *world) error {
	l.grow()
	n := newDiskNode(l, w.groups)
	defer n.close()
	for i := range l.h.log {
		n.apply(uint64(i + 1))
	}
	for x, other := range w.nodes {
		if a, b := n.d.Status(), other.(*diskNode).d.Status(); a.Root != b.Root || a.Applied != b.Applied {
			return fmt.Errorf("m%d ends with root %s at %d, a witness with %s at %d", x, b.Root, b.Applied, a.Root, a.Applied)
		}
	}
	for i, state := range l.states {
		if got, ok := n.d.SummaryAt(uint64(i)); !ok || *got != state.summary(n.d.Range()) {
			return fmt.Errorf("summary at %d: ok %v, but not what the log prescribes", i, ok)
		}
	}
	return nil
}
