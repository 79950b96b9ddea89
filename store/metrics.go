package store

import "github.com/cockroachdb/pebble/v2"

// DocMetrics are counters and sizes of the document engine since it was opened.
type DocMetrics struct {
	Syncs       uint64 // fsyncs that Sync caused; callers share them
	HeadHits    uint64 // heads that were in the cache
	HeadMisses  uint64
	LateReads   uint64 // heads and entries that commands needed and that had to be read while they were applied; see ReadAhead
	Members     int
	OpenViews   int64 // views, and calls that are running
	DiskBytes   uint64
	LogBytesIn  uint64 // given to the write-ahead log
	LogBytes    uint64 // written by it
	TableBytes  uint64 // written into tables, by flushes and by compactions
	MemTables   int64
	MemTable    uint64 // bytes
	Tables      uint64 // live tables
	Flushes     int64
	Compactions int64
	Debt        uint64 // bytes that compactions will have to rewrite, an estimate
	ReadAmp     int
	CacheBytes  int64
	CacheHits   int64
	CacheMisses int64
	OpenIters   int64
	Tombstones  uint64 // deletes that are not yet compacted away
}

// Metrics returns the engine's counters; the zero value when it is closed or has failed.
func (e *DocEngine) Metrics() DocMetrics {
	if err := e.acquire(); err != nil {
		return DocMetrics{}
	}
	defer e.release()
	p := e.db.Metrics()
	m := DocMetrics{
		Syncs:       e.syncs.total(),
		OpenViews:   e.refs.Load() - 2, // not the engine's own, nor this call
		DiskBytes:   p.DiskSpaceUsage(),
		LogBytesIn:  p.WAL.BytesIn,
		LogBytes:    p.WAL.BytesWritten,
		TableBytes:  tableBytes(p),
		MemTables:   p.MemTable.Count,
		MemTable:    p.MemTable.Size,
		Tables:      p.Table.Local.LiveCount,
		Flushes:     p.Flush.Count,
		Compactions: p.Compact.Count,
		Debt:        p.Compact.EstimatedDebt,
		ReadAmp:     p.ReadAmp(),
		CacheBytes:  p.BlockCache.Size,
		CacheHits:   p.BlockCache.Hits,
		CacheMisses: p.BlockCache.Misses,
		OpenIters:   p.TableIters,
		Tombstones:  p.Keys.TombstoneCount,
	}
	m.HeadHits, m.HeadMisses = e.heads.counts()
	m.LateReads = e.ahead.late.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	m.Members = len(e.members)
	return m
}

// tableBytes is what an engine wrote besides its write-ahead log. Tables that were made elsewhere and ingested do not count.
func tableBytes(m *pebble.Metrics) (sum uint64) {
	for i := range m.Levels {
		l := &m.Levels[i]
		sum += l.TableBytesFlushed + l.TableBytesCompacted + l.BlobBytesFlushed + l.BlobBytesCompacted
	}
	return sum
}
