package antientropy

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Falsehood is something that a reply says which is not so, though nothing about its form tells. It is for tests of whole clusters:
// a peer whose program or data are wrong answers like that.
type Falsehood uint8

const (
	// MissingRow is a listing that lacks a document, of a peer that says it does not know the time in which that was written.
	MissingRow Falsehood = iota
	// InventedRow is a listing with a document that does not exist.
	InventedRow
	// LessCoverage is a listing, or documents, of a peer that says it lacks half of what it holds.
	LessCoverage
	// MoreCoverage is one of a peer that says it has applied what nobody ever wrote.
	MoreCoverage
	// OtherDocument is documents of which one has another one's name.
	OtherDocument

	// Falsehoods is how many there are.
	Falsehoods
)

// String names the falsehood.
func (f Falsehood) String() string {
	return [...]string{"missing row", "invented row", "less coverage", "more coverage", "other document"}[f]
}

// Substantial reports whether a reply lists documents or brings some: what a session consists of, once a comparison has
// found that there is something to heal. It looks at the header alone.
func Substantial(reply []byte) bool {
	return len(reply) > replyHeader && (kind(reply[1]) == kindList || kind(reply[1]) == kindPull)
}

// Falsify makes another answer to a request of a server's: well-formed, bound to the request, and false. It returns false when
// there is nothing in the reply to say so with. What it does not do is leave out a document and claim to know everything:
// nobody could tell such an answer from the truth (design §6).
func Falsify(request, answer []byte, f Falsehood, r *rand.Rand) ([]byte, bool) {
	b := slices.Clone(answer)
	bind(b, request)
	b, err := new(unpacker).decompress(b, maxLimit)
	if err != nil {
		return nil, false
	}
	out, err := decodeReply(b)
	if err != nil {
		return nil, false
	}
	done := false
	switch out := out.(type) {
	case *listReply:
		for _, i := range r.Perm(len(out.listings)) {
			done = done || falsifyListing(out.listings[i], f, r)
		}
	case *pullReply:
		for _, i := range r.Perm(len(out.chunks)) {
			c, err := store.DecodeChunk(out.chunks[i])
			if err == nil && !done && falsifyChunk(c, f) {
				out.chunks[i], done = c.AppendBinary(nil), true
			}
		}
	}
	if !done {
		return nil, false
	}
	b = encodeReply(out)
	bind(b, request)
	return b, true
}

func falsifyListing(l *store.Listing, f Falsehood, r *rand.Rand) bool {
	switch f {
	case MissingRow:
		i := slices.IndexFunc(l.Rows, func(r store.Row) bool { return !r.Deleted() })
		if i < 0 {
			return false
		}
		row := l.Rows[i]
		l.Rows = slices.Delete(l.Rows, i, i+1)
		l.Coverage = l.Coverage.Minus(interval.Of(row.Generation, max(row.LastIndex, l.Applied)))
	case InventedRow:
		if l.Applied <= l.Since || l.To-l.From < 2 {
			return false
		}
		row := store.Row{Hash: l.From + 1 + r.Uint64N(l.To-l.From-1), LastIndex: l.Since + 1 + r.Uint64N(l.Applied-l.Since), Leaf: r.Uint64()}
		row.Generation = 1 + r.Uint64N(row.LastIndex)
		at, there := slices.BinarySearchFunc(l.Rows, row.Hash, func(r store.Row, hash uint64) int { return cmp.Compare(r.Hash, hash) })
		if there {
			return false
		}
		l.Rows = slices.Insert(l.Rows, at, row)
	case LessCoverage:
		l.Coverage = l.Coverage.Minus(interval.Of(l.Applied/2+1, max(l.Applied, l.Applied/2+1)))
	case MoreCoverage:
		l.Applied += 1 << 40
		l.Coverage = interval.Of(1, l.Applied)
	default:
		return false
	}
	return true
}

// falsifyChunk renames a document only where its chain tells: where all of it is there, from its first delta on.
func falsifyChunk(c *store.Chunk, f Falsehood) bool {
	switch f {
	case LessCoverage:
		c.Coverage = c.Coverage.Minus(interval.Of(c.Applied/2+1, max(c.Applied, c.Applied/2+1)))
	case MoreCoverage:
		c.Applied += 1 << 40
		c.Coverage = interval.Of(1, c.Applied)
	case OtherDocument:
		i := slices.IndexFunc(c.Docs, func(d store.ChunkDoc) bool {
			return !d.Head.HasBase && d.Head.FloorKnown && len(d.Entries) > 0 && d.Entries[0].Begin == d.Head.Floor+1
		})
		if i < 0 {
			return false
		}
		c.Docs[i].Key.Key += "-not"
	default:
		return false
	}
	return true
}
