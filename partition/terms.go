package partition

import (
	"encoding/binary"
	"fmt"
)

// maxTermRanges bounds what a marker carries. Older ranges are forgotten first; what is lost with them is only the
// chance to harvest from a member whose newest matching entry is older than a thousand leaderships.
const maxTermRanges = 1024

// termRange says that the entries First..Last, as far as the state machine saw them, were written in Term.
type termRange struct {
	Term, First, Last uint64
}

// terms is the history of terms of one partition up to the last applied entry: the payload of a marker. Ranges are in
// ascending order of index and term; between two ranges there are only entries that carry no command.
//
//	index  1      7 8      12      15
//	       ├ term 2 ┤├─ 3 ─┤  (no-op) ├─ 5 …
type terms []termRange

// note records that the entry at index was written in term. Entries arrive in order; repeats after a restart are ignored.
func (t terms) note(index, term uint64) terms {
	if n := len(t); n > 0 {
		last := &t[n-1]
		if index <= last.Last {
			return t
		}
		if last.Term == term {
			last.Last = index
			return t
		}
	}
	t = append(t, termRange{Term: term, First: index, Last: index})
	if len(t) > maxTermRanges {
		t = append(terms(nil), t[len(t)-maxTermRanges:]...)
	}
	return t
}

// at returns the term of the range that holds index.
func (t terms) at(index uint64) (term uint64, ok bool) {
	lo, hi := 0, len(t)
	for lo < hi {
		mid := (lo + hi) / 2
		if t[mid].Last < index {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t) && t[lo].First <= index {
		return t[lo].Term, true
	}
	return 0, false
}

// harvestPoint is the largest k ≤ min(marker, last) for which the term of the log's own entry k equals the term the
// marker gives for it. By the Log Matching property everything up to k is then committed (design §5.1). It returns 0
// when there is none above `applied`. termOf answers the term of the log's own entry, false where it has none.
//
// The search walks down: entries between applied and the marker are at most what a log keeps, and it happens once per
// marker.
func harvestPoint(t terms, marker, last, applied uint64, termOf func(index uint64) (uint64, bool)) uint64 {
	for k := min(marker, last); k > applied; k-- {
		want, ok := t.at(k)
		if !ok {
			continue
		}
		if got, ok := termOf(k); ok && got == want {
			return k
		}
	}
	return 0
}

// matchesMarker reports whether a marker at index, of a term, tells a member nothing whose own marker is at own: its log is
// the leader's up to there.
func matchesMarker(own, index, term uint64, termOf func(index uint64) (uint64, bool)) bool {
	if own > 0 && own >= index {
		return true
	}
	have, ok := termOf(index)
	return ok && have == term
}

// payload is what a marker carries beside Raft's own fields.
type payload struct {
	founding uint64 // the group's id, from its first barrier; 0 while there is none
	terms    terms
	former   []uint64 // the ids the group had before an operator recovered it, oldest first (recover.go)
}

const (
	payloadVersion   = 1
	payloadRecovered = 2 // of a group that was recovered: a program that does not know what that means must not go on
)

// maxFormer bounds how many former ids of a group are remembered; the oldest go first.
const maxFormer = 64

// encode: version u8 | founding uvarint | version 2: count uvarint, former ids as uvarint | count uvarint | count × (term, first, last
// as uvarint differences).
func (p payload) encode() []byte {
	b := []byte{payloadVersion}
	if len(p.former) > 0 {
		b[0] = payloadRecovered
	}
	b = binary.AppendUvarint(b, p.founding)
	if len(p.former) > 0 {
		b = binary.AppendUvarint(b, uint64(len(p.former)))
		for _, id := range p.former {
			b = binary.AppendUvarint(b, id)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(p.terms)))
	var term, last uint64
	for _, r := range p.terms {
		b = binary.AppendUvarint(b, r.Term-term)
		b = binary.AppendUvarint(b, r.First-last)
		b = binary.AppendUvarint(b, r.Last-r.First)
		term, last = r.Term, r.Last
	}
	return b
}

// decodePayload is the inverse of encode; it refuses ranges out of order and counts beyond maxTermRanges.
func decodePayload(b []byte) (payload, error) {
	if len(b) == 0 || b[0] != payloadVersion && b[0] != payloadRecovered {
		return payload{}, fmt.Errorf("marker payload: unknown version in %d bytes", len(b))
	}
	r := reader{b: b[1:]}
	p := payload{founding: r.uvarint()}
	if b[0] == payloadRecovered {
		if err := p.decodeFormer(&r); err != nil {
			return payload{}, err
		}
	}
	n := r.uvarint()
	if n > maxTermRanges {
		return payload{}, fmt.Errorf("marker payload: %d ranges, at most %d", n, maxTermRanges)
	}
	p.terms = make(terms, 0, n)
	var term, last uint64
	for range n {
		dt, df, dl := r.uvarint(), r.uvarint(), r.uvarint()
		next := termRange{Term: term + dt, First: last + df, Last: last + df + dl}
		if r.err == nil && (dt == 0 || df == 0 || next.Term < term || next.First < last || next.Last < next.First) {
			return payload{}, fmt.Errorf("marker payload: range %d out of order", len(p.terms))
		}
		p.terms = append(p.terms, next)
		term, last = next.Term, next.Last
	}
	if err := r.end(); err != nil {
		return payload{}, fmt.Errorf("marker payload: %w", err)
	}
	return p, nil
}

func (p *payload) decodeFormer(r *reader) error {
	n := r.uvarint()
	if n == 0 || n > maxFormer {
		return fmt.Errorf("marker payload: %d former ids, at most %d", n, maxFormer)
	}
	for range n {
		id := r.uvarint()
		if r.err == nil && (id == 0 || id == p.founding) {
			return fmt.Errorf("marker payload: the former id %016x", id)
		}
		p.former = append(p.former, id)
	}
	return nil
}
