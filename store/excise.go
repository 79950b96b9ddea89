package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// exciseWait is how long a cut waits for those who read an instant.
const exciseWait = 250 * time.Millisecond

// errExciseBusy: somebody reads an instant of the member. Try later.
var errExciseBusy error = &codedError{"store: the bucket is being read", CodeStaleRepair}

// errBeyond: no cut within the partition's documents gets rid of the damage.
var errBeyond = errors.New("store: a damaged block reaches beyond the partition's documents")

// bucketRun is a run of adjacent buckets, both ends included.
type bucketRun struct{ first, last uint8 }

func (r bucketRun) contains(bucket uint8) bool { return r.first <= bucket && bucket <= r.last }

// buckets lists the run in order.
func (r bucketRun) buckets() []uint8 {
	list := make([]uint8, 0, int(r.last)-int(r.first)+1)
	for i := int(r.first); i <= int(r.last); i++ {
		list = append(list, uint8(i))
	}
	return list
}

// keys returns the bounds of all records of a run.
func (d *Documents) keys(r bucketRun) (lower, upper []byte) {
	return appendBucket(nil, d.partition, r.first), successor(appendBucket(nil, d.partition, r.last))
}

// quiet waits until nobody reads an instant of the member, and keeps it so until done is called. A cut takes records away
// from open snapshots, too: who reads the coverage of an instant and then documents that are gone from it would take them
// for deleted, and tell a peer so. The caller holds mu, and the wait is short: one of the readers may wait for that.
func (d *Documents) quiet() (done func(), err error) {
	for end := time.Now().Add(exciseWait); !d.instants.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return nil, errExciseBusy
		}
	}
	return d.instants.Unlock, nil
}

// cuttable widens a bucket to a run that can be cut out of the engine's files, as small as damage in one place allows: a block
// that holds records of several buckets takes all of them along when it cannot be read. An error says why there is no such run;
// the run is the bucket alone then, and the damage cannot be cut out now.
func (d *Documents) cuttable(bucket uint8) (bucketRun, error) {
	alone := bucketRun{bucket, bucket}
	if bucket == 0 { // by which a scrub reports these
		if err := d.newScrubber(0).own(); errors.As(err, new(*CorruptionError)) {
			return alone, fmt.Errorf("%w: %w", errBeyond, err)
		}
	}
	down, err := widen(int(bucket), func(by int) (damage, err error) {
		lower, _ := d.keys(bucketRun{bucket - uint8(by), bucket})
		return d.engine.before(lower)
	})
	if err != nil {
		return alone, err
	}
	up, err := widen(merkle.Buckets-1-int(bucket), func(by int) (damage, err error) {
		_, upper := d.keys(bucketRun{bucket, bucket + uint8(by)})
		return d.engine.behind(upper)
	})
	if err != nil {
		return alone, err
	}
	return bucketRun{bucket - uint8(down), bucket + uint8(up)}, nil
}

// widen returns by how many buckets, most at the most, a bound has to move to leave damage behind. Every look at it is dear:
// it reads a block, and tries to find out which bit of it is wrong.
func widen(most int, look func(by int) (damage, err error)) (int, error) {
	damage, err := look(0)
	if damage == nil || err != nil {
		return 0, err
	}
	if damage, err = look(most); err != nil { // most often the end of it is near, or nowhere
		return 0, err
	}
	if damage != nil {
		return 0, fmt.Errorf("%w: %w", errBeyond, damage)
	}
	damaged, sound := 0, most
	for by := 1; by < sound; by *= 2 {
		if damage, err = look(by); err != nil {
			return 0, err
		}
		if damage == nil {
			sound = by
		} else {
			damaged = by
		}
	}
	for sound-damaged > 1 {
		by := (damaged + sound) / 2
		damage, err := look(by)
		switch {
		case err != nil:
			return 0, err
		case damage == nil:
			sound = by
		default:
			damaged = by
		}
	}
	return sound, nil
}

// excise cuts a run, which a batch has removed already, out of the engine's files without reading it. A range delete alone
// leaves a damaged block where it is: reads and compactions go on meeting it. The caller holds mu, and has the member quiet.
//
// What is in memory is flushed before: Pebble would queue the cut behind it, and the files would keep the block meanwhile.
func (d *Documents) excise(run bucketRun) error {
	lower, upper := d.keys(run)
	return d.engine.exciseSpan(lower, upper, nil)
}

// exciseSpan cuts a span out of the engine's files unread, and puts tables in its place in the same step.
func (e *DocEngine) exciseSpan(lower, upper []byte, tables []string) error {
	// Not guarded: a block that cannot be read is no failed write.
	return e.stop.recovered(func() error {
		flushed, err := e.db.AsyncFlush()
		if err != nil {
			return err
		}
		select {
		case <-flushed:
		case <-e.stop.failed:
			return e.stop.check()
		}
		before, err := e.before(lower)
		if err = errors.Join(err, before); err != nil {
			return err
		}
		behind, err := e.behind(upper)
		if err = errors.Join(err, behind); err != nil {
			return err
		}
		span := pebble.KeyRange{Start: lower, End: upper}
		if len(tables) == 0 {
			return e.db.Excise(context.Background(), span)
		}
		_, err = e.db.IngestAndExcise(context.Background(), tables, nil, nil, span)
		return err
	})
}

// before reads, in each table, the last key before a span, and behind the first one behind it. Pebble does so, too, when it
// excises the span, but takes a block that cannot be read for the end of the table: everything beyond would be lost. They
// return what cannot be read there; nil when all can be.
func (e *DocEngine) before(lower []byte) (damage, err error) {
	return e.edge(lower, -1, func(it sstable.Iterator) { it.SeekLT(lower, 0) })
}

func (e *DocEngine) behind(upper []byte) (damage, err error) {
	return e.edge(upper, 1, func(it sstable.Iterator) { it.SeekGE(upper, 0) })
}

// edge looks at the tables that hold keys on both sides of a bound.
func (e *DocEngine) edge(bound []byte, direction int, seek func(sstable.Iterator)) (damage, err error) {
	for try := 0; ; try++ {
		damage, err = e.edgeOnce(bound, direction, seek)
		if !errors.Is(err, fs.ErrNotExist) || try == 8 { // else a compaction replaced a table meanwhile
			return damage, err
		}
	}
}

func (e *DocEngine) edgeOnce(bound []byte, direction int, seek func(sstable.Iterator)) (damage, err error) {
	levels, err := e.db.SSTables()
	if err != nil {
		return nil, err
	}
	for _, tables := range levels {
		for i := range tables {
			t := &tables[i]
			if bytes.Compare(t.Smallest.UserKey, bound) >= 0 || bytes.Compare(t.Largest.UserKey, bound) < 0 {
				continue
			}
			place := edgePlace{uint64(t.BackingSSTNum), string(bound), direction}
			if damage = e.edges.recall(place); damage != nil {
				return damage, nil
			}
			if damage, err = e.readable(t, seek); damage != nil || err != nil {
				e.edges.remember(place, damage)
				return damage, err
			}
		}
	}
	return nil, nil
}

// readable moves to a key of a table. It tells damage from other failures.
func (e *DocEngine) readable(t *pebble.SSTableInfo, seek func(sstable.Iterator)) (damage, err error) {
	err = e.withTable(t, func(table *sstable.Reader) error {
		if _, err := readFrame(table); err != nil {
			return err
		}
		it, err := table.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
		if err != nil {
			return err
		}
		seek(it)
		return errors.Join(it.Error(), it.Close())
	})
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("store: a damaged block reaches beyond the bucket: %w", err), nil
	}
	return nil, err
}
