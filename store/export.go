package store

import (
	"cmp"
	"fmt"
	"math"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2"
)

// Want asks for what a peer knows of the documents of one hash.
type Want struct {
	Hash uint64
	Have []Have // what the asker has under this hash, in order of keys; usually one, or none
}

// Have says what the asker has of one document, so that the peer sends nothing twice.
type Have struct {
	Key        Key
	Deleted    uint64 // the asker's delete record, when it has no document; every generation up to it is dead
	Generation uint64 // 0: no document
	BaseIndex  uint64
	Held       []SeqRange // ascending; those after the query's cursor
	// Upto is where Held ends for lack of room: whether the asker has what follows is not said, so nothing of that is
	// to be sent. math.MaxInt64 when Held is the whole truth.
	Upto int64
}

// SeqRange is a run of entries without a gap between them.
type SeqRange struct {
	First, Last int64
	Chain       Chain // after the entry that ends at Last; the zero chain when it is not known
}

// Cursor is a place in the order of a bucket's documents. Everything before it has been sent. The zero cursor is the
// start. It means the same whatever changes in between, and to any peer.
type Cursor struct {
	Hash       uint64
	Key        Key
	Generation uint64
	After      int64  // entries of Generation with SeqEnd ≤ After are done; math.MaxInt64: so is the whole document
	BaseIndex  uint64 // so are its bases up to this one
}

// passed reports whether a document lies before the cursor.
func (c *Cursor) passed(p place) bool {
	if c.Key == (Key{}) {
		return p.hash < c.Hash
	}
	if n := cmp.Or(cmp.Compare(p.hash, c.Hash), compareKeys(p.key, c.Key)); n != 0 {
		return n < 0
	}
	return c.After == math.MaxInt64
}

// within returns up to which seq the document's entries, and up to which index its bases, are done.
func (c *Cursor) within(key Key, generation uint64) (after int64, baseIndex uint64) {
	if key == c.Key && generation == c.Generation {
		return c.After, c.BaseIndex
	}
	return neutralFloor, 0
}

// compareKeys orders keys as the engine does: by their bytes as "space/key".
func compareKeys(a, b Key) int {
	if a.Space == b.Space {
		return cmp.Compare(a.Key, b.Key)
	}
	return cmp.Compare(a.String(), b.String())
}

// ExportQuery asks for a chunk.
type ExportQuery struct {
	Wants  []Want // ascending
	From   Cursor // where the last chunk ended
	Budget int    // bytes after which the chunk ends; it holds at least one thing, whatever its size
}

// Chunk is an answer: what a member knows, at one instant, of the documents asked for, as far as the budget went.
type Chunk struct {
	Bucket uint8

	// Of the chunk's own instant, as in Listing.
	Coverage       interval.Set
	Applied, Ahead uint64

	Docs   []ChunkDoc    // in order of hash and key
	Absent []ChunkAbsent // in the same order

	Done bool   // all that was asked for is answered
	Next Cursor // where to go on otherwise
}

// ChunkDoc is a document, or a part of one: its whole head, and some of the entries that the asker lacks.
type ChunkDoc struct {
	Key     Key
	Head    Head   // without its counts
	Base    []byte // when HasBase
	HasBase bool   // Base is here: the asker's is older, or missing
	Entries []ChunkEntry
}

// ChunkEntry is an entry on its way from one member to another.
type ChunkEntry struct {
	Mark
	Term  uint64
	Delta []byte // canonical, spanning Begin to End

	// Linked: the chain follows from the chain before and the delta, and is not sent. Whoever imports the entry computes
	// it, which verifies the delta at the same time: see ChunkDoc.link.
	Linked bool
}

// ChunkAbsent is a document that the asker has, or has a part of, and the exporting member does not; or one that the
// member remembers to be deleted.
type ChunkAbsent struct {
	Key     Key
	Deleted uint64 // the delete record; 0: none
}

// Export answers a query from one snapshot of the engine. It never holds more than the budget and one entry or base.
func (d *Documents) Export(bucket uint8, q *ExportQuery) (*Chunk, error) {
	return d.export(bucket, q, new(chunkScratch))
}

// AppendExport appends the encoding of the chunk that answers a query, as Export does, and reports whether all that was
// asked for is answered.
func (d *Documents) AppendExport(b []byte, bucket uint8, q *ExportQuery) (_ []byte, all bool, err error) {
	scratch := d.engine.bulk.takeScratch()
	defer d.engine.bulk.giveScratch(scratch)
	c, err := d.export(bucket, q, scratch)
	if err != nil {
		return b, false, err
	}
	return c.AppendBinary(b), c.Done, nil
}

// export is Export into the scratch.
func (d *Documents) export(bucket uint8, q *ExportQuery, scratch *chunkScratch) (*Chunk, error) {
	if err := d.checkWants(bucket, q.Wants); err != nil {
		return nil, err
	}
	snapshot, known, done, err := d.snapshot(bucket)
	if err != nil {
		return nil, err
	}
	defer done()
	return d.exportFrom(snapshot, known, bucket, q, scratch)
}

// exportFrom reads everything from one reader; known is of its instant. The chunk is in the scratch.
func (d *Documents) exportFrom(r pebble.Reader, known *bucketMeta, bucket uint8, q *ExportQuery, scratch *chunkScratch) (*Chunk, error) {
	x := exporter{reader: r, partition: d.partition, bucket: bucket, from: q.From, budget: q.Budget,
		deleteRecords: known.deleteRecords > 0, chunkScratch: scratch,
		chunk: &Chunk{Bucket: bucket, Coverage: known.coverage, Applied: known.applied, Ahead: known.ahead}}
	defer x.close()
	if n := len(q.Wants); n > 0 {
		x.first, x.last = max(q.Wants[0].Hash, q.From.Hash), q.Wants[n-1].Hash
	}
	for i := range q.Wants {
		if w := &q.Wants[i]; w.Hash >= q.From.Hash {
			if err := x.want(w); err != nil {
				return nil, err
			}
		}
		if x.full {
			break
		}
	}
	x.chunk.Docs, x.chunk.Done = x.docs, !x.full
	return x.chunk, nil
}

// checkWants refuses hashes of other buckets: they would be reported absent.
func (d *Documents) checkWants(bucket uint8, wants []Want) error {
	for i := range wants {
		hash := wants[i].Hash
		if !d.hashes.Contains(hash) || d.hashes.Bucket(hash) != bucket {
			return &QueryError{Partition: d.partition, Bucket: bucket, Reason: fmt.Sprintf("the hash %016x is of another bucket", hash)}
		}
		if i > 0 && hash <= wants[i-1].Hash {
			return &QueryError{Partition: d.partition, Bucket: bucket, Reason: "hashes are not ascending"}
		}
		for j := range wants[i].Have {
			if key := wants[i].Have[j].Key; key.Validate() != nil || key.Hash() != hash {
				return &QueryError{Partition: d.partition, Bucket: bucket, Reason: fmt.Sprintf("the key %s has not the hash %016x", clip(key.String()), hash)}
			}
		}
	}
	return nil
}
