package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/block/blockkind"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// withTable opens a table's file beside the engine, whose own reader may have its blocks in memory.
func (e *DocEngine) withTable(t *pebble.SSTableInfo, use func(*sstable.Reader) error) error {
	files := e.opts.FS
	if files == nil {
		files = vfs.Default
	}
	f, err := files.Open(files.PathJoin(e.opts.Dir, fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))))
	if err != nil {
		return err
	}
	source, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	options := &pebble.Options{}
	options.EnsureDefaults()
	table, err := sstable.NewReader(context.Background(), source, options.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, source.Close())
	}
	return errors.Join(use(table), table.Close())
}

// readFrame reads what a table has besides records: footer, indexes, filter, properties, range deletes. Who walks from record to
// record may never meet damage there, and who looks for a single one always does. It returns the number of bytes read.
func readFrame(table *sstable.Reader) (bytes int, err error) {
	layout, err := table.Layout() // reads the indexes
	if err != nil {
		return 0, err
	}
	blocks := append([]block.Handle{layout.TopIndex, layout.RangeDel, layout.RangeKey, layout.Properties, layout.MetaIndex}, layout.Index...)
	for _, f := range layout.Filter {
		blocks = append(blocks, f.Handle)
	}
	for _, b := range blocks {
		if b.Length == 0 {
			continue
		}
		read, err := table.BlockReader().Read(context.Background(), block.NoReadEnv, nil, b, blockkind.Metadata,
			func(*block.Metadata, []byte) error { return nil })
		if err != nil {
			return bytes, err
		}
		read.Release()
		bytes += int(b.Length)
	}
	return bytes, nil
}

// frames reads those of the tables that hold records of the bucket.
func (s *scrubber) frames() error {
	if err := s.d.acquire(); err != nil {
		return err
	}
	defer s.d.engine.release()
	return s.framesOf(s.d.keys(bucketRun{s.bucket, s.bucket}))
}

// framesOf reads those of the tables that hold keys between bounds. The caller has acquired the engine.
func (s *scrubber) framesOf(lower, upper []byte) error {
	e := s.d.engine
	levels, err := e.db.SSTables(pebble.WithKeyRangeFilter(lower, upper))
	if err != nil {
		return &ReadError{Partition: s.d.partition, Kind: "table", Err: err}
	}
	for _, tables := range levels {
		for i := range tables {
			var read int
			err := e.withTable(&tables[i], func(t *sstable.Reader) (err error) {
				read, err = readFrame(t)
				return err
			})
			switch {
			case errors.Is(err, fs.ErrNotExist): // a compaction replaced it meanwhile
			case pebble.IsCorruptionError(err):
				return &CorruptionError{Partition: s.d.partition, Kind: "table", Err: err}
			case err != nil:
				return &ReadError{Partition: s.d.partition, Kind: "table", Err: err}
			}
			s.tell(read)
		}
	}
	return s.ctx.Err()
}

// own reads the member's own records and the host's, which nothing else does before the next start.
func (s *scrubber) own() error {
	if err := s.d.acquire(); err != nil {
		return err
	}
	defer s.d.engine.release()
	for _, place := range []spot{{s.d.partition, ownRecords}, {hostPartition, ownRecords}} {
		lower, upper := place.keys()
		if err := s.framesOf(lower, upper); err != nil { // the engine keeps what it has read of a table
			return err
		}
		it, err := s.d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return metaError(place.partition, err)
		}
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			var v []byte
			v, err = it.ValueAndErr()
			s.tell(len(it.Key()) + len(v))
		}
		if err = errors.Join(err, it.Close()); err != nil {
			return metaError(place.partition, err)
		}
	}
	return nil
}
