package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/s2"
)

// table is a sorted file of records of one kind, of documents between which the engine holds no records of that kind:
// so it can go to the lowest level, and no memtable has to be flushed before.
type table struct {
	kind         recordKind
	docs         []*bulkDoc
	lower, upper []byte // first key; above the last one
	path         string // once it is written
}

// plan cuts the documents into tables. Documents that are not worth a table, or that have records without a head here,
// are taken out, to be merged.
func (r *bulkRun) plan() ([]*table, error) {
	entries, dirty, err := r.cut(kindEntry, r.docs)
	if err != nil {
		return nil, err
	}
	least := r.d.engine.bulk.limits.least
	var docs []*bulkDoc
	var tables []*table
	for _, t := range entries {
		size := 0
		for i := range t.docs {
			size += t.docs[i].size()
		}
		if size < least {
			dirty = append(dirty, t.docs...)
			continue
		}
		docs = append(docs, t.docs...)
		if slices.ContainsFunc(t.docs, (*bulkDoc).hasEntries) { // the engine takes no table without records, and leaves its file
			tables = append(tables, t)
		}
	}
	bases, unclean, err := r.cut(kindBase, withBases(docs))
	if err != nil {
		return nil, err
	}
	r.docs, r.merged = docs, append(r.merged, dirty...)
	if len(unclean) > 0 { // bases without heads: no ingest made these, so leave the documents to be merged
		r.merged, r.docs = append(r.merged, docs...), nil
		return nil, nil
	}
	return append(tables, bases...), nil
}

func withBases(docs []*bulkDoc) (list []*bulkDoc) {
	for _, m := range docs {
		if m.head.HasBase {
			list = append(list, m)
		}
	}
	return list
}

// prefix of a document's records of the table's kind.
func (r *bulkRun) prefix(b []byte, kind recordKind, m *bulkDoc) []byte {
	return appendGeneration(b, r.d.partition, m.place, kind, m.head.Generation)
}

// cut splits documents wherever the engine holds a record of the kind between them; dirty are those that it holds some of.
func (r *bulkRun) cut(kind recordKind, docs []*bulkDoc) (tables []*table, dirty []*bulkDoc, err error) {
	if len(docs) == 0 {
		return nil, nil, nil
	}
	w, err := newWalker(r.d.engine.db, r.d.partition, r.s.bucket, kind, docs[0].hash, docs[len(docs)-1].hash)
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	var open *table
	for _, m := range docs {
		prefix := r.prefix(r.key[:0], kind, m)
		r.key = prefix
		if open != nil && (!w.it.Valid() || bytes.Compare(prefix, w.it.Key()) < 0) && (!w.it.Valid() || !bytes.HasPrefix(w.it.Key(), prefix)) {
			open.add(m, prefix)
			continue
		}
		there := w.seek(prefix)
		if err := w.failed(m.key); err != nil {
			return nil, nil, err
		}
		if there && bytes.HasPrefix(w.it.Key(), prefix) {
			dirty, open = append(dirty, m), nil
			continue
		}
		open = &table{kind: kind}
		open.add(m, prefix)
		tables = append(tables, open)
	}
	return tables, dirty, nil
}

func (t *table) add(m *bulkDoc, prefix []byte) {
	if t.docs = append(t.docs, m); t.lower == nil {
		t.lower = bytes.Clone(prefix)
	}
	t.upper = successor(append(t.upper[:0], prefix...))
}

// free reports whether the engine holds nothing in the table's span.
func (r *bulkRun) free(t *table) (bool, error) {
	it, err := r.d.engine.db.NewIter(&pebble.IterOptions{LowerBound: t.lower, UpperBound: t.upper})
	if err != nil {
		return false, readError(r.d.partition, Key{}, t.kind, err)
	}
	taken := it.First()
	if err := it.Close(); err != nil {
		return false, readError(r.d.partition, Key{}, t.kind, err)
	}
	return !taken, nil
}

// write writes a table and syncs it. A failure stops the engine, like that of any other write.
func (r *bulkRun) write(t *table) error {
	if err := r.d.acquire(); err != nil {
		return err
	}
	defer r.d.engine.release()
	return r.d.engine.stop.guard(func() error {
		w, err := r.d.engine.newTable(t, r.shrinks(t))
		if err != nil {
			return err
		}
		for _, m := range t.docs {
			if err := r.fill(w, t, m); err != nil {
				_ = w.Close()
				return err
			}
		}
		return w.Close()
	})
}

func (r *bulkRun) fill(w *sstable.Writer, t *table, m *bulkDoc) error {
	key := r.prefix(r.key[:0], t.kind, m)
	r.key = key
	if t.kind == kindBase {
		return w.Set(key, seal(bytes.Clone(m.base)))
	}
	prefix := len(key)
	return m.each(r.records, func(seqEnd int64, value []byte) error {
		key = appendSeq(key[:prefix], seqEnd)
		return w.Set(key, value)
	})
}

// What is tried before a table is compressed: pieces of some of its documents.
const (
	samplePieces = 8
	sampleBytes  = 32 << 10 // all of them
	worthwhile   = 0.9      // of its size: what Pebble keeps compressed has lost an eighth
)

// shrinks reports whether to compress a table's blocks. Pebble tries each of them, and stores what did not get smaller as it is: a
// tenth of the time that it takes to pull small deltas that are random.
func (r *bulkRun) shrinks(t *table) bool {
	sample := r.d.engine.bulk.buffer(sampleBytes)
	defer r.d.engine.bulk.keep(sample)
	step := (len(t.docs) + samplePieces - 1) / samplePieces
	for i := 0; i < len(t.docs); i += step {
		sample = r.sample(sample, t.kind, t.docs[i], len(sample)+sampleBytes/samplePieces)
	}
	size := s2.EstimateBlockSize(sample)
	return size >= 0 && float64(size) < worthwhile*float64(len(sample))
}

// sample appends a document's values, up to so many bytes in all.
func (r *bulkRun) sample(b []byte, kind recordKind, m *bulkDoc, most int) []byte {
	if kind == kindBase {
		return append(b, m.base[:min(len(m.base), most-len(b))]...)
	}
	full := errors.New("full")
	_ = m.each(r.records, func(_ int64, value []byte) error {
		if b = append(b, value[:min(len(value), most-len(b))]...); len(b) == most {
			return full
		}
		return nil
	})
	return b
}

// tableDir is where tables are written: below the engine's own directory, so that they can be linked into it.
const tableDir = "ingest"

func (e *DocEngine) files() vfs.FS {
	if e.opts.FS != nil {
		return e.opts.FS
	}
	return vfs.Default
}

// clearTables removes what a crash has left.
func (e *DocEngine) clearTables() error {
	fs := e.files()
	if err := fs.RemoveAll(fs.PathJoin(e.opts.Dir, tableDir)); err != nil {
		return fmt.Errorf("store: remove tables that were not finished: %w", err)
	}
	return nil
}

// newTable begins a table. Entries are read from iterators, which ask no filter, or because their heads speak of them; so a filter
// of all their keys would only cost.
func (e *DocEngine) newTable(t *table, compress bool) (*sstable.Writer, error) {
	fs := e.files()
	dir := fs.PathJoin(e.opts.Dir, tableDir)
	if !e.bulk.dirMade.Load() {
		if err := fs.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		e.bulk.dirMade.Store(true)
	}
	t.path = fs.PathJoin(dir, fmt.Sprintf("%d.sst", e.bulk.files.Add(1)))
	f, err := fs.Create(t.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	o := sstable.WriterOptions{TableFormat: e.db.TableFormat(), BlockSize: blockBytes, IndexBlockSize: indexBlockBytes, WritingToLowestLevel: true}
	if !compress {
		o.Compression = sstable.NoCompression
	}
	if t.kind != kindEntry {
		o.FilterPolicy = bloom.FilterPolicy(10)
	}
	return sstable.NewWriter(newTableFile(f, &e.bulk.writers), o), nil
}

// ingest makes the engine take tables, all or none, durably.
func (e *DocEngine) ingest(tables []*table) error {
	paths := make([]string, len(tables))
	for i, t := range tables {
		paths[i] = t.path
	}
	e.bulk.tables.Add(int64(len(tables)))
	return e.stop.guard(func() error { return e.db.Ingest(context.Background(), paths) })
}

// removeTables removes tables that were not ingested; what stays is removed when the engine is opened.
func (e *DocEngine) removeTables(tables []*table) {
	for _, t := range tables {
		if t.path != "" {
			_ = e.files().Remove(t.path)
		}
	}
}

// sweepIngests removes records that a crash has left without heads. Only buckets that were announced can have some.
func (e *DocEngine) sweepIngests(partition uint32, meta *memberMeta) error {
	if len(meta.ingests) == 0 {
		return nil
	}
	b := e.db.NewBatch()
	defer func() { _ = b.Close() }()
	for bucket := range meta.ingests {
		for _, kind := range []recordKind{kindBase, kindEntry} {
			if err := e.sweep(b, partition, bucket, kind); err != nil {
				return err
			}
		}
		if err := b.Delete(appendMetaBucket(nil, partition, metaIngest, bucket), nil); err != nil {
			return fmt.Errorf("store: partition %d: sweep: %w", partition, err)
		}
	}
	if err := e.commit(b, false); err != nil {
		return err
	}
	meta.ingests = nil
	return nil
}

// sweep looks at one record of each document's generation.
func (e *DocEngine) sweep(b *pebble.Batch, partition uint32, bucket uint8, kind recordKind) error {
	lower, upper := prefixRange(appendKind(nil, partition, bucket, kind))
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(partition, Key{}, kind, err)
	}
	defer func() { _ = it.Close() }()
	for ok := it.First(); ok; {
		k, err := decodeRecordKey(it.Key())
		if err != nil {
			ok = it.Next() // damage is for a scrub to find
			continue
		}
		h, here, err := readHead(e.db, partition, k.place())
		if errors.As(err, new(*CorruptionError)) {
			h, here, err = Head{Generation: k.generation}, true, nil
		}
		if err != nil {
			return err
		}
		first, behind := prefixRange(appendGeneration(nil, partition, k.place(), kind, k.generation))
		if !here || h.Generation != k.generation {
			if err := b.DeleteRange(first, behind, nil); err != nil {
				return fmt.Errorf("store: partition %d: sweep: %w", partition, err)
			}
		}
		ok = it.SeekGE(behind)
	}
	if err := it.Error(); err != nil {
		return readError(partition, Key{}, kind, err)
	}
	return nil
}
