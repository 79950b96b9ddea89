package traces

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// buffer is a text of code points with a gap at the place of the last edit.
// Edits are close to each other in what people type, so moving the gap is
// cheap, and the edit itself costs what it inserts.
//
//	points  [ before the gap | gap | after the gap ]
//	        0              from   to            len
type buffer struct {
	points   []rune
	from, to int // 0 ≤ from ≤ to ≤ len(points)
}

func newBuffer(s string) *buffer {
	points := []rune(s)
	return &buffer{points: points, from: len(points), to: len(points)}
}

func (b *buffer) len() int { return len(b.points) - (b.to - b.from) }

// apply applies the patches in order; after an error the text is unspecified.
func (b *buffer) apply(txn Txn) error {
	for i, p := range txn {
		if err := b.edit(p); err != nil {
			return fmt.Errorf("patch %d: %w", i+1, err)
		}
	}
	return nil
}

func (b *buffer) edit(p Patch) error {
	if n := b.len(); p.Position < 0 || p.Deleted < 0 || p.Position > n || p.Deleted > n-p.Position {
		return fmt.Errorf("deletes %d at %d in a text of %d code points", p.Deleted, p.Position, n)
	}
	b.move(p.Position)
	b.to += p.Deleted
	if n := utf8.RuneCountInString(p.Inserted); n > b.to-b.from {
		b.widen(n)
	}
	for _, r := range p.Inserted {
		b.points[b.from] = r
		b.from++
	}
	return nil
}

// move brings the gap to a position.
func (b *buffer) move(position int) {
	if n := b.from - position; n > 0 {
		copy(b.points[b.to-n:b.to], b.points[position:b.from])
		b.from, b.to = b.from-n, b.to-n
	} else if n = -n; n > 0 {
		copy(b.points[b.from:b.from+n], b.points[b.to:b.to+n])
		b.from, b.to = b.from+n, b.to+n
	}
}

// widen makes the gap take n more, growing by a factor so that many small
// insertions stay linear.
func (b *buffer) widen(n int) {
	after := b.points[b.to:]
	points := slices.Grow(b.points[:b.from:b.from], n+len(after)+len(b.points)/2)
	points = points[:cap(points)]
	b.to = len(points) - len(after)
	copy(points[b.to:], after)
	b.points = points
}

func (b *buffer) String() string {
	var s strings.Builder
	s.Grow(b.len())
	for _, part := range [][]rune{b.points[:b.from], b.points[b.to:]} {
		for _, r := range part {
			s.WriteRune(r)
		}
	}
	return s.String()
}
