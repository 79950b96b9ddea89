package antientropy

import "github.com/adamantdb/adamant/store"

// mostDocuments bounds how many documents a divergence names.
const mostDocuments = 64

// differing finds the documents of two full listings of one span that two complete members cannot both have. Each
// listing is of its own instant: a difference that something applied on one side only may explain is undecided.
//
// Up to the lower of the two applied indexes both members have applied the same log. A document's row says when it last
// changed; if that is not above the lower index, the row is also what its member had at the lower index, and so had
// the other member, unless its own row is newer.
func differing(mine, theirs *store.Listing) (hashes []uint64, undecided bool) {
	common := min(mine.Applied, theirs.Applied)
	m, t := mine.Rows, theirs.Rows
	for len(m) > 0 || len(t) > 0 {
		var here, there []store.Row
		hash := lowest(m, t)
		here, m = split(m, hash)
		there, t = split(t, hash)
		switch {
		case same(here, there):
		case newest(here, there) > common,
			len(here) == 0 && mine.Applied > common, // may have been deleted here since
			len(there) == 0 && theirs.Applied > common:
			undecided = true
		default:
			hashes = append(hashes, hash)
		}
	}
	return hashes, undecided
}

func lowest(a, b []store.Row) uint64 {
	if len(b) == 0 || len(a) > 0 && a[0].Hash < b[0].Hash {
		return a[0].Hash
	}
	return b[0].Hash
}

func split(rows []store.Row, hash uint64) (here, rest []store.Row) {
	n := 0
	for n < len(rows) && rows[n].Hash == hash {
		n++
	}
	return rows[:n], rows[n:]
}

func same(a, b []store.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Leaf != b[i].Leaf || a[i].Generation != b[i].Generation || a[i].Gap != b[i].Gap {
			return false
		}
	}
	return true
}

func newest(lists ...[]store.Row) uint64 {
	last := uint64(0)
	for _, rows := range lists {
		for i := range rows {
			last = max(last, rows[i].LastIndex)
		}
	}
	return last
}
