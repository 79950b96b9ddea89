package interval

import (
	"math"
	"slices"
	"strconv"
)

// Range is the closed range of indexes First..Last, First ≤ Last.
type Range struct{ First, Last uint64 }

// Set is a set of indexes in the canonical form the package describes.
type Set []Range

// Of is the set of first..last; empty when first > last.
func Of(first, last uint64) Set {
	if first > last {
		return nil
	}
	return Set{{first, last}}
}

// Contains reports whether i is a member.
func (s Set) Contains(i uint64) bool {
	_, found := slices.BinarySearchFunc(s, i, func(r Range, i uint64) int {
		switch {
		case r.Last < i:
			return -1
		case r.First > i:
			return 1
		}
		return 0
	})
	return found
}

// Union is the set of what is in s, in t or in both.
func (s Set) Union(t Set) Set {
	if len(s)+len(t) == 0 {
		return nil
	}
	u := make(Set, 0, len(s)+len(t))
	for len(s) > 0 || len(t) > 0 {
		var r Range
		if len(t) == 0 || len(s) > 0 && s[0].First <= t[0].First {
			r, s = s[0], s[1:]
		} else {
			r, t = t[0], t[1:]
		}
		// Adjacency is asked as a difference, so that the largest index
		// does not overflow.
		if n := len(u); n > 0 && (r.First <= u[n-1].Last || r.First-u[n-1].Last == 1) {
			u[n-1].Last = max(u[n-1].Last, r.Last)
		} else {
			u = append(u, r)
		}
	}
	return u
}

// Intersect is the set of what is in both.
func (s Set) Intersect(t Set) Set {
	var u Set
	for len(s) > 0 && len(t) > 0 {
		first, last := max(s[0].First, t[0].First), min(s[0].Last, t[0].Last)
		if first <= last {
			u = append(u, Range{first, last})
		}
		// Only the range that ends first is used up. Pieces cut from one
		// range are separated by a gap of the other set: never adjacent.
		if s[0].Last <= t[0].Last {
			s = s[1:]
		} else {
			t = t[1:]
		}
	}
	return u
}

// Minus is the set of what is in s and not in t.
func (s Set) Minus(t Set) Set {
	var u Set
	for _, r := range s {
		for len(t) > 0 && t[0].Last < r.First {
			t = t[1:]
		}
		left := true // something of r is left
		for _, c := range t {
			if c.First > r.Last {
				break
			}
			if c.First > r.First {
				u = append(u, Range{r.First, c.First - 1})
			}
			if c.Last >= r.Last {
				left = false
				break
			}
			r.First = c.Last + 1
		}
		if left {
			u = append(u, r)
		}
	}
	return u
}

// Equal reports whether both hold the same indexes.
func (s Set) Equal(t Set) bool { return slices.Equal(s, t) }

// Covers reports whether every index of t is in s.
func (s Set) Covers(t Set) bool {
	for _, r := range t {
		for len(s) > 0 && s[0].Last < r.First {
			s = s[1:]
		}
		// Ranges of s are not adjacent, so one of them has to hold all of r.
		if len(s) == 0 || s[0].First > r.First || s[0].Last < r.Last {
			return false
		}
	}
	return true
}

// Empty reports whether there is no member.
func (s Set) Empty() bool { return len(s) == 0 }

// Min is the smallest member, 0 of an empty set.
func (s Set) Min() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[0].First
}

// Max is the largest member, 0 of an empty set.
func (s Set) Max() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].Last
}

// Len is the number of members. The set of all 2^64 indexes, the only one
// whose number has no uint64, answers the largest.
func (s Set) Len() uint64 {
	if len(s) == 1 && s[0] == (Range{0, math.MaxUint64}) {
		return math.MaxUint64
	}
	var n uint64
	for _, r := range s {
		n += r.Last - r.First + 1
	}
	return n
}

// String is like "[1,5] [9,9]", "" for the empty set.
func (s Set) String() string {
	var b []byte
	for i, r := range s {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, r.First, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, r.Last, 10)
		b = append(b, ']')
	}
	return string(b)
}
