package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// Listing is a page of a bucket's contents at one instant: enough to find out which documents two members know
// different things about, for 32 bytes a document, and nothing for documents that cannot differ.
//
//	hash  From ├──────────────────────────────┤ To        the page covers this closed span of hashes
//	           row  row       row row      row            documents that changed after Since, or have a gap
//	             └────── Rest: the sum of all others
type Listing struct {
	Bucket   uint8
	Since    uint64
	From, To uint64

	Rows []Row // in order of Hash, LastIndex, Generation
	Rest merkle.Bucket

	// Of the same instant as the rows: what the member holds of the log for this bucket (its coverage and what it has
	// already healed of the bucket), what it has applied, and the highest index visible in what it pulled.
	Coverage       interval.Set
	Applied, Ahead uint64
}

// Row is one document, or one delete record.
type Row struct {
	Hash       uint64
	LastIndex  uint64 // of a delete record: its index
	Generation uint64 // 0 for a delete record
	Leaf       uint64 // one lane of the leaf; equal leaves without gaps mean equal documents
	Gap        bool   // entries are missing, and the leaf does not say which
}

// Deleted reports whether the row is a delete record.
func (r *Row) Deleted() bool { return r.Generation == 0 }

// Last reports whether the page reaches the end of the bucket.
func (l *Listing) Last() bool { return l.To == math.MaxUint64 }

// Hashes returns the hashes of the rows, ascending, each once: the Also of the asker's own listing.
func (l *Listing) Hashes() []uint64 {
	var hashes []uint64
	for i := range l.Rows {
		if i == 0 || l.Rows[i].Hash != l.Rows[i-1].Hash {
			hashes = append(hashes, l.Rows[i].Hash)
		}
	}
	return hashes
}

// ListQuery says what to list.
type ListQuery struct {
	// Since leaves documents that did not change after it to Rest. It must lie below the asker's first hole: only then
	// does an equal Rest mean that nothing can be learned from it. 0 lists everything.
	Since    uint64
	From, To uint64   // span of hashes; To 0 means to the end
	Limit    int      // rows after which the page ends, at a change of hash; 0: no limit
	Also     []uint64 // hashes to list whatever Since says, ascending: those that the other side has listed
}

// List lists a bucket. All of it is read from one snapshot of the engine. When the page does not reach the end of the
// query, To says how far it goes, and the next query starts at To+1. A page holds all rows of a hash.
func (d *Documents) List(bucket uint8, q ListQuery) (*Listing, error) {
	snapshot, known, done, err := d.snapshot(bucket)
	if err != nil {
		return nil, err
	}
	defer done()
	return d.listFrom(snapshot, known, bucket, q)
}

// listFrom reads everything from one reader; known is of its instant.
func (d *Documents) listFrom(r pebble.Reader, known *bucketMeta, bucket uint8, q ListQuery) (*Listing, error) {
	if q.To == 0 {
		q.To = math.MaxUint64
	}
	l := &Listing{Bucket: bucket, Since: q.Since, From: q.From, To: q.To,
		Coverage: known.coverage, Applied: known.applied, Ahead: known.ahead}
	if q.From > q.To {
		return l, nil
	}
	heads, err := newKindScan(r, d.partition, bucket, kindHead, q.From, q.To)
	if err != nil {
		return nil, err
	}
	defer heads.close()
	var deletes *kindScan
	if known.deleteRecords > 0 {
		if deletes, err = newKindScan(r, d.partition, bucket, kindDelete, q.From, q.To); err != nil {
			return nil, err
		}
		defer deletes.close()
	}
	if err := l.fill(heads, deletes, &q); err != nil {
		return nil, err
	}
	slices.SortFunc(l.Rows, compareRows)
	return l, nil
}

func compareRows(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.LastIndex, b.LastIndex),
		cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Leaf, b.Leaf))
}

// fill reads heads and delete records together, in order of their hashes, until the page has enough rows.
func (l *Listing) fill(heads, deletes *kindScan, q *ListQuery) error {
	also := q.Also
	for {
		scan := heads
		if deletes.before(heads) {
			scan = deletes
		}
		k, v, ok, err := scan.take()
		if err != nil || !ok {
			return err
		}
		if n := len(l.Rows); q.Limit > 0 && n >= q.Limit && l.Rows[n-1].Hash != k.hash {
			l.To = k.hash - 1
			return nil
		}
		for len(also) > 0 && also[0] < k.hash {
			also = also[1:]
		}
		listed := len(also) > 0 && also[0] == k.hash
		if k.kind == kindDelete {
			err = l.addDelete(k, v, listed)
		} else {
			err = l.addHead(k, v, listed)
		}
		if err != nil {
			return scan.corrupt(k.key, err)
		}
	}
}

func (l *Listing) addHead(k recordKey, v []byte, listed bool) error {
	h, err := decodeHeadValue(v)
	if err != nil {
		return err
	}
	l.AddDocument(k.hash, k.key, &h, listed)
	return nil
}

func (l *Listing) addDelete(k recordKey, v []byte, listed bool) error {
	index, err := decodeDeleteValue(v)
	if err != nil {
		return err
	}
	l.AddDelete(k.hash, index, listed)
	return nil
}

// kindScan reads the records of a kind in a bucket whose hash lies in a closed span, in order.
type kindScan struct {
	partition uint32
	kind      recordKind
	it        *pebble.Iterator
	key       recordKey // of the record that take returns next, if valid
	valid     bool
	err       error
}

func newKindScan(r pebble.Reader, partition uint32, bucket uint8, kind recordKind, from, to uint64) (*kindScan, error) {
	lower, upper := hashSpan(partition, bucket, kind, from, to)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(partition, Key{}, kind, err)
	}
	s := &kindScan{partition: partition, kind: kind, it: it}
	s.load(it.First())
	return s, nil
}

// hashSpan returns the bounds of the records of a kind whose hash lies in a closed span.
func hashSpan(partition uint32, bucket uint8, kind recordKind, from, to uint64) (lower, upper []byte) {
	prefix := appendKind(nil, partition, bucket, kind)
	lower = binary.BigEndian.AppendUint64(slices.Clone(prefix), from)
	return lower, successor(binary.BigEndian.AppendUint64(prefix, to))
}

func (s *kindScan) load(ok bool) {
	s.valid = ok
	switch {
	case !ok:
		if err := s.it.Error(); err != nil {
			s.err = readError(s.partition, Key{}, s.kind, err)
		}
	default:
		var err error
		if s.key, err = decodeRecordKey(s.it.Key()); err != nil {
			s.err = s.corrupt(Key{}, err)
		}
	}
}

// before reports whether s has a record that comes before t's next one. A nil scan has none.
func (s *kindScan) before(t *kindScan) bool {
	return s != nil && (s.err != nil || s.valid && (!t.valid || s.key.hash < t.key.hash))
}

// take returns the next record, in memory of the caller, and moves on; false at the end.
func (s *kindScan) take() (recordKey, []byte, bool, error) {
	if s.err != nil || !s.valid {
		return recordKey{}, nil, false, s.err
	}
	v, err := s.it.ValueAndErr()
	if err != nil {
		return recordKey{}, nil, false, readError(s.partition, s.key.key, s.kind, err)
	}
	k, v := s.key, slices.Clone(v)
	s.load(s.it.Next())
	return k, v, true, nil
}

func (s *kindScan) close() { _ = s.it.Close() } // take has reported its errors

func (s *kindScan) corrupt(key Key, err error) error {
	return &CorruptionError{Partition: s.partition, Key: key, Kind: s.kind.String(), Err: err}
}

// bucketMeta is what a member knows of the log for one bucket, at the instant of a reader.
type bucketMeta struct {
	coverage       interval.Set // the member's, and what is healed of this bucket
	applied, ahead uint64
	deleteRecords  uint64
}

// of returns what is known for a bucket.
func (m *memberMeta) of(bucket uint8) *bucketMeta {
	return &bucketMeta{coverage: m.bucketCoverage(bucket), applied: m.state.applied, ahead: m.state.ahead,
		deleteRecords: m.deletes[bucket]}
}

// bucketCoverage is the coverage for one bucket: it is larger than the member's while the bucket is ahead of others in
// being healed.
func (m *memberMeta) bucketCoverage(bucket uint8) interval.Set {
	return Coverage(m.state.applied, m.holes, m.healed[bucket])
}

// Plan is what a comparison of two listings asks for.
type Plan struct {
	Want   []uint64 // hashes of documents of which they may know something that I do not, ascending
	Absent []uint64 // hashes of documents that I have and they do not, ascending; to be asked for too, see Documents.Wants
	// FullNeeded: documents outside of the rows differ. The rows do not tell which, so the span has to be listed again
	// with Since 0.
	FullNeeded bool
}

// Hashes returns everything to ask for, ascending.
func (p *Plan) Hashes() []uint64 {
	hashes := slices.Concat(p.Want, p.Absent)
	slices.Sort(hashes)
	return hashes
}

// Compare finds what there is to learn from them. Both listings must be of the same bucket, Since and span, and mine
// taken after theirs, with their hashes as Also: then a document that only they have in their rows is not in my Rest.
func Compare(mine, theirs *Listing) (Plan, error) {
	if mine.Bucket != theirs.Bucket || mine.Since != theirs.Since || mine.From != theirs.From || mine.To != theirs.To {
		return Plan{}, fmt.Errorf("store: listings of different pages: bucket %d since %d [%x, %x] and bucket %d since %d [%x, %x]",
			mine.Bucket, mine.Since, mine.From, mine.To, theirs.Bucket, theirs.Since, theirs.From, theirs.To)
	}
	p := Plan{FullNeeded: mine.Rest != theirs.Rest}
	m, t := mine.Rows, theirs.Rows
	for len(m) > 0 || len(t) > 0 {
		hash := uint64(math.MaxUint64)
		if len(m) > 0 {
			hash = m[0].Hash
		}
		if len(t) > 0 {
			hash = min(hash, t[0].Hash)
		}
		var mineHere, theirsHere []Row
		mineHere, m = cutHash(m, hash)
		theirsHere, t = cutHash(t, hash)
		switch {
		case len(mineHere) == 0 && allGone(theirsHere, mine.Coverage):
		case len(theirsHere) == 0:
			if slices.ContainsFunc(mineHere, func(r Row) bool { return !r.Deleted() }) {
				p.Absent = append(p.Absent, hash)
			}
		case canLearn(mineHere, theirsHere):
			p.Want = append(p.Want, hash)
		}
	}
	return p, nil
}

// allGone reports whether their documents are all ones that I must have deleted: I have none under this hash, and hold
// the last change of each.
func allGone(theirs []Row, coverage interval.Set) bool {
	return !slices.ContainsFunc(theirs, func(r Row) bool { return r.Deleted() || !coverage.Contains(r.LastIndex) })
}

// cutHash splits off the rows of the lowest hash. Two keys may have one hash, and a key a document here and a delete
// record there.
func cutHash(rows []Row, hash uint64) (here, rest []Row) {
	n := 0
	for n < len(rows) && rows[n].Hash == hash {
		n++
	}
	return rows[:n], rows[n:]
}

// canLearn reports whether their rows of one hash may hold something that mine do not.
func canLearn(mine, theirs []Row) bool {
	if len(mine) == 1 && len(theirs) == 1 {
		return rowTeaches(&mine[0], &theirs[0])
	}
	// Several keys share the hash, and rows do not say which belong together: anything but equality is asked for.
	return !slices.EqualFunc(mine, theirs, func(a, b Row) bool {
		return !a.Gap && !b.Gap && a.Generation == b.Generation && a.Leaf == b.Leaf && (a.LastIndex == b.LastIndex || !a.Deleted())
	})
}

// rowTeaches compares two rows of one hash. They may be of different keys all the same: then they differ in Leaf, and
// the cases that compare indexes only must not conclude too much.
func rowTeaches(m, t *Row) bool {
	switch {
	case t.Deleted() && m.Deleted():
		return m.LastIndex != t.LastIndex
	case t.Deleted() || m.Deleted():
		return true
	}
	return m.Gap || t.Gap || m.Leaf != t.Leaf || m.Generation != t.Generation
}
