package lincheck

import (
	"github.com/anishathalye/porcupine"
	"github.com/cespare/xxhash/v2"
)

// state is a document as the sequential model has it; it is never changed. Only the newest entry is held, and it knows the
// one before.
type state struct {
	last  *entry // nil: there is no such document
	ended bool
}

type entry struct {
	seq    int64
	id     string
	before *entry // nil for the first
	chain  uint64
}

func (e *entry) next(seq int64, id string) *entry {
	var chain uint64
	if e != nil {
		chain = e.chain
	}
	return &entry{seq: seq, id: id, before: e, chain: xxhash.Sum64String(id)*31 + chain*1099511628211 + uint64(seq)}
}

// extend adds entries from seq on.
func (e *entry) extend(seq int64, ids []string) *entry {
	for i, id := range ids {
		e = e.next(seq+int64(i), id)
	}
	return e
}

// holds reports whether exactly these entries are there from seq on: a repeated append finds itself done.
func (e *entry) holds(seq int64, ids []string) bool {
	last := seq + int64(len(ids)) - 1
	for e != nil && e.seq > last {
		e = e.before
	}
	for i := len(ids) - 1; i >= 0; i-- {
		if e == nil || e.seq != seq+int64(i) || e.id != ids[i] {
			return false
		}
		e = e.before
	}
	return true
}

func (e *entry) equal(o *entry) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.seq == o.seq && e.chain == o.chain
}

// apply is the model. An operation of unknown outcome takes effect at some moment, or after the end, where nothing sees it
// any more.
func (s state) apply(o Op) (state, bool) {
	if !o.Known && s.ended {
		return s, true
	}
	switch o.Kind {
	case Create:
		if s.last != nil {
			return s, false
		}
		return state{last: s.last.extend(o.Seq, o.IDs)}, true
	case Append:
		if s.last == nil {
			return s, false
		}
		if s.last.seq+1 == o.Seq {
			return state{last: s.last.extend(o.Seq, o.IDs)}, true
		}
		return s, o.Known && s.last.holds(o.Seq, o.IDs)
	case Replace:
		if s.last == nil {
			return s, false
		}
		return state{last: (*entry)(nil).extend(o.Seq, o.IDs)}, true
	case Delete:
		return state{}, true
	case Read:
		if !o.Found {
			return s, s.last == nil
		}
		return s, s.last != nil && s.last.equal((*entry)(nil).extend(o.Seq, o.IDs))
	case Tail:
		if !o.Found {
			return s, s.last == nil
		}
		return s, s.last != nil && s.last.seq == o.Seq+int64(len(o.IDs))-1 && s.last.holds(o.Seq, o.IDs)
	case Mismatch: // an append that was done before is told from one that was not, unless its entries were compacted away
		return s, s.last != nil && s.last.seq == o.Head && o.Seq != o.Head+1
	case Missing:
		return s, s.last == nil
	case Exists:
		return s, s.last != nil
	default:
		return state{last: s.last, ended: true}, true
	}
}

var document = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, _ any) (bool, any) {
		next, ok := s.(state).apply(in.(Op))
		return ok, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(state), b.(state)
		return x.ended == y.ended && x.last.equal(y.last)
	},
	Hash: func(s any) uint64 {
		if e := s.(state).last; e != nil {
			return e.chain
		}
		return 0
	},
}
