package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// ErrScrubBusy: the bucket is being repaired, so that parts of documents may be on their way. Try later.
var ErrScrubBusy error = &codedError{"store: the bucket is being repaired", CodeStaleRepair}

const (
	scrubPiece    = 64 << 10    // bytes read between two calls of pace
	scrubInstant  = time.Second // for how long one instant of the engine is held; a document is always read within one
	scrubFindings = 16          // that a report names
	scrubMost     = 4096        // damaged documents of a bucket, or keys, after which all of it counts as damaged
)

// Finding is one thing that is not what was written, or does not fit to what is beside it.
type Finding struct {
	Key    Key    // zero for what belongs to no document
	Kind   string // "head", "base", "entry", "delete record", "sum", "key", "engine"
	Reason string
}

func (f Finding) String() string {
	if f.Key == (Key{}) {
		return fmt.Sprintf("%s: %s", f.Kind, f.Reason)
	}
	return fmt.Sprintf("%s of document %s: %s", f.Kind, f.Key, f.Reason)
}

// ScrubReport is the outcome of reading one bucket.
type ScrubReport struct {
	Bucket             uint8
	Documents, Records int64
	Bytes              int64 // of the records, keys included

	Found    int64     // findings; 0: the bucket is sound
	Findings []Finding // the first 16 of them
	Damaged  Damaged   // what Damage would have to remove
}

// ScrubBucket reads everything in a bucket and verifies it: keys and their places, checksums, heads, the order of the
// entries, the chain from one to the next and to the head, counts, bases, records that belong to nothing, and the
// bucket's sum against the sum of its documents at the same index; and indexes, filters and the like of the tables that hold
// them, and, with bucket 0, whether the member's own records and the host's can be read. It changes nothing.
//
// It is exact beside writers: each document is read in one instant of the engine, and so are all heads with the sum, and
// batches are atomic. What differs from the peers' but fits together is not damage; comparing finds that (divergence).
// On a member that is not complete, documents may lack entries.
//
// pace, unless nil, is called after about every 64 KiB with the number of bytes read, and may block; so may a look at
// the context, whose error ends the scrub. Errors: ErrScrubBusy, the context's, those of every read.
func (d *Documents) ScrubBucket(ctx context.Context, bucket uint8, pace func(bytes int)) (*ScrubReport, error) {
	s := d.newScrubber(bucket)
	s.ctx, s.pace = ctx, pace
	err := s.frames()
	if err == nil && bucket == 0 {
		err = s.own()
	}
	if err == nil {
		err = s.heads()
	}
	for more := true; more && err == nil && !s.report.Damaged.Whole; {
		more, err = s.documents()
	}
	var corrupt *CorruptionError
	if errors.As(err, &corrupt) {
		s.find(Finding{Key: corrupt.Key, Kind: "engine", Reason: err.Error()})
		s.report.Damaged.Whole = true
		err = nil
	}
	s.tell(0)
	if err != nil {
		return nil, err
	}
	if s.report.Damaged.recount = s.report.Found > 0; s.report.Damaged.Whole {
		s.report.Damaged = Damaged{Whole: true}
	}
	return s.report, nil
}

func (d *Documents) newScrubber(bucket uint8) *scrubber {
	return &scrubber{d: d, ctx: context.Background(), bucket: bucket, report: &ScrubReport{Bucket: bucket}}
}

// scrubber reads one bucket.
type scrubber struct {
	d      *Documents
	ctx    context.Context
	bucket uint8
	pace   func(int)
	report *ScrubReport
	unpaid int // bytes read that pace was not told of

	done []byte // the name (see rawScan) of the last document that was read
}

// instant is a snapshot with what else is of the same instant.
type instant struct {
	*pebble.Snapshot
	tracked  merkle.Bucket // the bucket's sum in memory
	deletes  uint64
	complete bool
}

// instant takes one, for as long as done is not called.
func (s *scrubber) instant() (i *instant, done func(), err error) {
	d := s.d
	if err := d.acquire(); err != nil {
		return nil, nil, err
	}
	unlock, err := d.lock()
	if err != nil {
		d.engine.release()
		return nil, nil, err
	}
	defer unlock()
	if d.sessions[s.bucket] != nil {
		d.engine.release()
		return nil, nil, ErrScrubBusy
	}
	d.instants.RLock()
	i = &instant{Snapshot: d.engine.db.NewSnapshot(), tracked: d.tracker.Bucket(s.bucket), deletes: d.meta.deletes[s.bucket],
		complete: d.meta.complete()}
	return i, func() {
		_ = i.Close()
		d.instants.RUnlock()
		d.engine.release()
	}, nil
}

func (s *scrubber) find(f Finding) {
	s.report.Found++
	if len(s.report.Findings) < scrubFindings {
		s.report.Findings = append(s.report.Findings, f)
	}
}

// damaged notes a finding that costs its document.
func (s *scrubber) damaged(key Key, kind recordKind, format string, a ...any) {
	s.find(Finding{Key: key, Kind: kind.String(), Reason: fmt.Sprintf(format, a...)})
	w := &s.report.Damaged
	if n := len(w.Documents); n == 0 || w.Documents[n-1] != key {
		w.Documents = append(w.Documents, key)
	}
	w.Whole = w.Whole || len(w.Documents) > scrubMost
}

// stray notes a record that is no document's.
func (s *scrubber) stray(key []byte, reason string) {
	w := &s.report.Damaged
	if slices.ContainsFunc(w.stray, func(k []byte) bool { return bytes.Equal(k, key) }) {
		return // found in the piece before, too
	}
	s.find(Finding{Kind: "key", Reason: fmt.Sprintf("%x: %s", key[:min(len(key), 64)], reason)})
	w.stray = append(w.stray, bytes.Clone(key))
	w.Whole = w.Whole || len(w.stray) > scrubMost
}

// tell accounts for bytes read.
func (s *scrubber) tell(bytes int) {
	s.unpaid += bytes
	if s.unpaid == 0 || bytes > 0 && s.unpaid < scrubPiece {
		return
	}
	if s.pace != nil {
		s.pace(s.unpaid)
	}
	s.unpaid = 0
}

// heads compares the bucket's sum with what it sums up. Heads and delete records are few beside what hangs on them, so
// one instant does for all.
func (s *scrubber) heads() error {
	i, done, err := s.instant()
	if err != nil {
		return err
	}
	defer done()
	var sum merkle.Bucket
	var deletes uint64
	err = s.d.scanRaw(i, s.bucket, kindHead, func(key, value []byte) {
		k, ok := s.d.keyIn(s.bucket, key)
		if h, err := decodeHeadValue(value); ok && err == nil {
			sum = sum.Add(merkle.Bucket{Sum: leaf(k.key, &h), Count: 1})
		}
		s.tell(len(key) + len(value))
	})
	if err == nil {
		err = s.d.scanRaw(i, s.bucket, kindDelete, func(_, _ []byte) { deletes++ })
	}
	if err != nil {
		return err
	}
	stored, err := s.storedSum(i)
	if pebble.IsCorruptionError(err) {
		return metaError(s.d.partition, err)
	}
	switch {
	case err != nil:
		s.find(Finding{Kind: "sum", Reason: err.Error()})
	case stored.Bucket != sum || i.tracked != sum:
		s.find(Finding{Kind: "sum", Reason: fmt.Sprintf("%s of %d documents is recorded, %s of %d in memory, the documents give %s of %d",
			stored.Sum, stored.Count, i.tracked.Sum, i.tracked.Count, sum.Sum, sum.Count)})
	case stored.deleteRecords != deletes || i.deletes != deletes:
		s.find(Finding{Kind: "sum", Reason: fmt.Sprintf("%d delete records are recorded, %d in memory, there are %d",
			stored.deleteRecords, i.deletes, deletes)})
	}
	return nil
}

func (s *scrubber) storedSum(r pebble.Reader) (bucketState, error) {
	v, ok, err := get(r, appendMetaBucket(nil, s.d.partition, metaBucket, s.bucket))
	if err != nil || !ok {
		return bucketState{}, err
	}
	return decodeBucketState(v)
}
