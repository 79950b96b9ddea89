package partition

import (
	"fmt"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// This file and the other model files search the states of one partition exhaustively: a few members, a few commands,
// and every order in which commands, replication, leader changes, markers, truncation, crashes, lost disks, changes of
// the configuration and pulls can happen. The log is Raft's, in small; everything that concerns documents, coverage,
// holes, markers and the configuration is decided by the product's own functions (store/rules.go, store/merge.go,
// store.Compare, harvestPoint, terms.note, matchesMarker, nextStep). The model keeps their arguments and does what they say.
//
//	universe   what states are made of: log entries, documents, sets; each known by a small number
//	world      one state; a comparable value
//	steps      what can happen to a world
//	check      what must be true of every world, and that it heals when the faults end
//	explore    breadth-first search of all worlds, with the shortest story of what it finds

const (
	modelSlots = 5  // members, a newcomer included
	modelDocs  = 2  // documents
	modelMarks = 6  // entries of a document
	modelLast  = 15 // highest index
)

type (
	entryID uint16 // a log entry; 0 is the place before the first
	docID   uint16 // what a member knows of a document; 0: absent, and no delete record
	indexes uint16 // indexes up to modelLast
)

// entry is one log entry. It names its predecessor, so by Log Matching an entry stands for the whole log up to it.
type entry struct {
	parent      entryID
	index, term uint8
	kind        store.Kind // 0: no document; a no-op or a configuration
	doc         uint8
	shown       bool  // to the state machine
	voters      uint8 // the configuration up to here, one bit a slot
	servers     uint8

	mutation store.Mutation
	truth    [modelDocs]docID // what the log prescribes up to here
	terms    terms            // what the state machine notes up to here
}

// docValue is what a docID stands for.
type docValue struct {
	exists  bool
	head    store.Head
	deleted uint64
	n       uint8
	marks   [modelMarks]store.Mark
}

// universe interns entries and documents. What the product's functions answer is remembered, because states ask the same
// again and again.
type universe struct {
	broken  string // the rule to play without; "" none
	buckets int
	keys    [modelDocs]store.Key

	entries  []entry
	entryIDs map[entry0]entryID
	docs     []docValue
	docIDs   map[docValue]docID
	sets     []interval.Set // by indexes; nil: not asked for yet
	replays  map[replayKey]replayed
	merges   map[mergeKey]merged
}

// entry0 is what makes an entry another one.
type entry0 struct {
	parent          entryID
	term            uint8
	kind            store.Kind
	doc             uint8
	voters, servers uint8
}

func newUniverse(broken string, buckets int, voters uint8) *universe {
	u := &universe{broken: broken, buckets: buckets, entryIDs: map[entry0]entryID{}, docIDs: map[docValue]docID{},
		sets: make([]interval.Set, 1<<(modelLast+1)), replays: map[replayKey]replayed{}, merges: map[mergeKey]merged{}}
	for i := range u.keys {
		u.keys[i] = store.Key{Space: "space", Key: fmt.Sprintf("d%d", i)}
	}
	u.docs = append(u.docs, docValue{})
	u.docIDs[docValue{}] = 0
	u.entries = append(u.entries, entry{voters: voters, servers: voters})
	return u
}

func (u *universe) set(b indexes) interval.Set {
	s := u.sets[b]
	if s == nil && b != 0 {
		for i := uint64(1); i <= modelLast; i++ {
			if b>>i&1 == 1 {
				s = s.Union(interval.Of(i, i))
			}
		}
		u.sets[b] = s
	}
	return s
}

func bitsOf(s interval.Set) (b indexes) {
	for _, r := range s {
		for i := r.First; i <= r.Last; i++ {
			b |= 1 << i
		}
	}
	return b
}

func (u *universe) internDoc(v docValue) docID {
	id, ok := u.docIDs[v]
	if !ok {
		id = docID(len(u.docs))
		u.docs = append(u.docs, v)
		u.docIDs[v] = id
	}
	return id
}

// add returns the entry that follows parent. A command is what a leader makes of the state up to parent.
func (u *universe) add(k entry0) entryID {
	if id, ok := u.entryIDs[k]; ok {
		return id
	}
	p := u.entries[k.parent]
	e := entry{parent: k.parent, index: p.index + 1, term: k.term, kind: k.kind, doc: k.doc, voters: k.voters, servers: k.servers,
		truth: p.truth, terms: p.terms}
	if e.index > modelLast {
		panic("log too long for the model")
	}
	if e.shown = k.kind != 0 || k.voters != p.voters || k.servers != p.servers; e.shown { // Raft shows nobody its no-ops
		e.terms = slices.Clone(p.terms).note(uint64(e.index), uint64(e.term))
	}
	if k.kind != 0 {
		before := u.docs[p.truth[k.doc]]
		e.mutation = u.command(k.kind, k.doc, &before.head, uint64(e.index), uint64(e.term))
		after := modelDoc{before}
		if diverged, err := store.Replay(&after, &e.mutation, false); err != nil || diverged {
			panic(fmt.Sprintf("a command contradicts its own log: %v %v", diverged, err))
		}
		e.truth[k.doc] = u.internDoc(after.docValue)
	}
	id := entryID(len(u.entries))
	u.entries = append(u.entries, e)
	u.entryIDs[k] = id
	return id
}

// command is a blind command on a document whose head is h.
func (u *universe) command(kind store.Kind, doc uint8, h *store.Head, index, term uint64) store.Mutation {
	key := u.keys[doc]
	m := store.Mutation{Kind: kind, Key: key, Index: index, Term: term, Generation: h.Generation, HeadSeq: h.HeadSeq, Chain: h.Chain}
	seq := h.HeadSeq + 1
	switch kind {
	case store.Create:
		m.Generation, m.Chain, seq = 0, store.SeedChain(key), 1
	case store.Compact:
		m.Base, m.BaseSeq = []byte{byte(index), byte(term)}, h.HeadSeq
		m.Floor = max(h.Floor, h.HeadSeq-1)
		m.Dropped = h.Dropped || m.Floor > h.Floor
	case store.Replace:
		m.Generation, m.Base, m.BaseSeq, m.Dropped = 0, []byte{byte(index), byte(term)}, 1, true
		m.HeadSeq, m.Floor, m.Chain = 1, 1, store.SeedChain(key).Replaced(1, m.Base)
	}
	if kind == store.Create || kind == store.Append {
		d := store.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte{byte(index), byte(term)}}
		m.Prior, m.Deltas, m.HeadSeq = m.Chain, []store.Delta{d}, seq
		m.Chain = m.Chain.Next(d.AppendBinary(nil))
	}
	if err := m.Validate(); err != nil {
		panic(err)
	}
	return m
}

// kinds are the commands that make sense on a document.
func (u *universe) kinds(doc docID) []store.Kind {
	if !u.docs[doc].exists {
		return []store.Kind{store.Create}
	}
	return []store.Kind{store.Append, store.Compact, store.Replace, store.Delete}
}

// at returns the entry of an index on the way to e, which must not lie before it.
func (u *universe) at(e entryID, index uint8) entryID {
	for u.entries[e].index > index {
		e = u.entries[e].parent
	}
	return e
}

// precedes reports whether a log that ends with b holds, or held, a.
func (u *universe) precedes(a, b entryID) bool {
	return u.entries[a].index <= u.entries[b].index && u.at(b, u.entries[a].index) == a
}

// common is the last entry that two logs agree upon.
func (u *universe) common(a, b entryID) entryID {
	i := min(u.entries[a].index, u.entries[b].index)
	for a, b = u.at(a, i), u.at(b, i); a != b; {
		a, b = u.entries[a].parent, u.entries[b].parent
	}
	return a
}

// modelDoc is a document without an engine.
type modelDoc struct{ docValue }

var _ store.DocTarget = (*modelDoc)(nil)

func (d *modelDoc) Head() *store.Head {
	if !d.exists {
		return nil
	}
	return &d.head
}

func (d *modelDoc) Deleted() uint64 { return d.deleted }
func (d *modelDoc) Changed()        {}

func (d *modelDoc) Restart(h store.Head) error {
	d.docValue = docValue{exists: true, head: h}
	return nil
}

func (d *modelDoc) Remove() error {
	if d.exists {
		d.docValue = docValue{}
	}
	return nil
}

func (d *modelDoc) PutDeleteRecord(index uint64) error {
	d.deleted = max(d.deleted, index)
	return nil
}

func (d *modelDoc) PutBase(seq int64, index uint64, base []byte) error {
	d.head.HasBase, d.head.BaseSeq, d.head.BaseIndex, d.head.BaseBytes = true, seq, index, int64(len(base))
	return nil
}

func (d *modelDoc) PutEntry(e *store.Entry) error {
	i, found := slices.BinarySearchFunc(d.marks[:d.n], e.SeqEnd, func(m store.Mark, end int64) int { return int(m.End - end) })
	if found || e.SeqEnd <= d.head.Floor {
		return nil
	}
	copy(d.marks[i+1:], d.marks[i:d.n])
	d.marks[i] = store.Mark{Begin: e.SeqBegin, End: e.SeqEnd, Index: e.Index, Chain: e.Chain}
	d.n++
	d.head.Span += e.SeqEnd - e.SeqBegin + 1
	d.head.Entries++
	if e.SeqEnd > d.head.HeadSeq {
		d.head.HeadSeq, d.head.Chain = e.SeqEnd, e.Chain
	}
	return nil
}

func (d *modelDoc) DropEntries(upTo int64) error {
	var kept [modelMarks]store.Mark
	n := uint8(0)
	for _, m := range d.marks[:d.n] {
		if m.End > upTo {
			kept[n] = m
			n++
			continue
		}
		d.head.Span -= m.End - m.Begin + 1
		d.head.Entries--
	}
	d.marks, d.n = kept, n
	return nil
}

type replayKey struct {
	doc  docID
	e    entryID
	sick bool
}

type replayed struct {
	doc      docID
	diverged bool
}

// replay lets a command take effect on a document.
func (u *universe) replay(k replayKey) replayed {
	if r, ok := u.replays[k]; ok {
		return r
	}
	m := &u.entries[k.e].mutation
	d := modelDoc{u.docs[k.doc]}
	if h := d.Head(); u.broken == "regress" && h != nil && h.Generation > m.Generation && m.Generation > 0 {
		older := *m // the command takes effect on a generation that is newer than it knows
		older.Generation, m = h.Generation, &older
	}
	diverged, err := store.Replay(&d, m, k.sick)
	if err != nil {
		panic(err)
	}
	r := replayed{u.internDoc(d.docValue), diverged}
	u.replays[k] = r
	return r
}

type mergeKey struct {
	mine, theirs             docID
	mineCovers, theirsCovers indexes
	highest                  uint8
	complete, records        bool
}

type merged struct {
	doc     docID
	changed bool
	reason  store.DivergenceReason
}

// merge takes their view of a document into mine.
func (u *universe) merge(k mergeKey) merged {
	if r, ok := u.merges[k]; ok {
		return r
	}
	know := store.Knowledge{Mine: u.set(k.mineCovers), Theirs: u.set(k.theirsCovers), MineComplete: k.complete, TheirHighest: uint64(k.highest)}
	if u.broken == "absence" { // absence proves a delete whatever is covered
		know.Theirs = interval.Of(1, modelLast)
	}
	mine, theirs := modelDoc{u.docs[k.mine]}, u.docs[k.theirs]
	d := store.MergeDocument(mine.view(), theirs.view(), &know)
	r := merged{doc: k.mine, changed: d.Action != store.ActionKeep && (d.Action != store.ActionRecord || k.records)}
	if d.Action == store.ActionDiverged {
		r = merged{doc: k.mine, reason: d.Reason}
	} else if err := d.Perform(&mine, k.records, func() error { return mine.take(&theirs, &d) }); err != nil {
		panic(err)
	}
	r.doc = u.internDoc(mine.docValue)
	u.merges[k] = r
	return r
}

func (d *docValue) view() *store.DocView {
	return &store.DocView{Exists: d.exists, Head: d.head, Deleted: d.deleted, Entries: d.marks[:d.n:d.n]}
}

// take stores what a decision wants of theirs.
func (d *modelDoc) take(theirs *docValue, decision *store.Decision) error {
	if decision.TakeBase {
		if err := d.PutBase(theirs.head.BaseSeq, theirs.head.BaseIndex, make([]byte, theirs.head.BaseBytes)); err != nil {
			return err
		}
	}
	for _, i := range decision.Take {
		m := &theirs.marks[i]
		e := store.Entry{Delta: store.Delta{SeqBegin: m.Begin, SeqEnd: m.End}, Index: m.Index, Chain: m.Chain}
		if err := d.PutEntry(&e); err != nil {
			return err
		}
	}
	return nil
}

// differs reports whether comparing listings of one document since an index leads to asking for it.
func (u *universe) differs(doc int, mine, theirs docID, covers indexes, since uint64) bool {
	hash := uint64(doc)
	list := func(id docID, l *store.Listing, also bool) {
		switch d := &u.docs[id]; {
		case d.exists:
			l.AddDocument(hash, u.keys[doc], &d.head, also)
		case d.deleted > 0:
			l.AddDelete(hash, d.deleted, also)
		}
	}
	for {
		t := store.Listing{Since: since}
		list(theirs, &t, false)
		m := store.Listing{Since: since, Coverage: u.set(covers)}
		list(mine, &m, len(t.Rows) > 0)
		plan, err := store.Compare(&m, &t)
		if err != nil {
			panic(err)
		}
		if !plan.FullNeeded {
			return len(plan.Hashes()) > 0
		}
		if since == 0 {
			panic("a full listing leaves a difference")
		}
		since = 0
	}
}
