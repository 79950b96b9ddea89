package store

import "github.com/cockroachdb/pebble/v2"

// pointDeletes is up to how many entries are deleted one by one. A range delete costs every later read of the range a
// look at it, and invalidates Pebble's cache of them.
const pointDeletes = 64

// dropContent deletes the base and all entries of the present generation.
func (b *docBatch) dropContent(s *docState) error {
	if s.head == nil {
		return nil
	}
	if s.head.HasBase {
		b.key = appendGeneration(b.key[:0], b.d.partition, s.place, kindBase, s.head.Generation)
		b.batch.Delete(b.key)
	}
	s.base = recordRef{}
	if err := b.dropAdded(s, s.head.HeadSeq, nil); err != nil {
		return err
	}
	if s.storedLive && s.stored.Entries > 0 {
		lower, upper := prefixRange(appendGeneration(nil, b.d.partition, s.place, kindEntry, s.stored.Generation))
		if err := b.deleteEntries(s, lower, upper, s.stored.Entries, nil); err != nil {
			return err
		}
	}
	s.storedLive = false
	return nil
}

// dropEntries deletes the entries with SeqEnd ≤ upTo and subtracts them from the head's counters.
func (b *docBatch) dropEntries(s *docState, upTo int64) error {
	h := s.head
	dropped := func(e entryStats) {
		h.Span -= e.span
		h.Bytes -= e.bytes
		h.Entries--
	}
	if err := b.dropAdded(s, upTo, dropped); err != nil {
		return err
	}
	if s.storedLive && upTo > s.droppedTo {
		lower := appendEntry(nil, b.d.partition, s.place, s.stored.Generation, s.droppedTo+1)
		upper := append(appendEntry(nil, b.d.partition, s.place, s.stored.Generation, upTo), 0)
		if err := b.deleteEntries(s, lower, upper, s.stored.Entries, dropped); err != nil {
			return err
		}
		s.droppedTo = upTo
	}
	s.dirty = true
	return nil
}

// dropAdded deletes entries that this batch has put.
func (b *docBatch) dropAdded(s *docState, upTo int64, dropped func(entryStats)) error {
	n := 0
	for n < len(s.added) && s.added[n].seq <= upTo {
		e := s.added[n]
		b.key = appendEntry(b.key[:0], b.d.partition, s.place, s.head.Generation, e.seq)
		b.batch.Delete(b.key)
		n++
		if dropped != nil {
			dropped(e.stats)
		}
	}
	s.added = s.added[n:]
	return nil
}

// deleteEntries deletes the engine's entries within bounds. It reads them when their sizes are asked for, or when there
// are few enough for point deletes.
func (b *docBatch) deleteEntries(s *docState, lower, upper []byte, atMost int64, dropped func(entryStats)) error {
	if dropped == nil && atMost > pointDeletes {
		b.batch.DeleteRange(lower, upper)
		return nil
	}
	it, err := b.d.engine.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(b.d.partition, s.key, kindEntry, err)
	}
	var few [][]byte
	n := 0
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if n++; n <= pointDeletes {
			few = append(few, append([]byte{}, it.Key()...))
		}
		if dropped == nil {
			continue
		}
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		var stats entryStats
		if stats.bytes, stats.span, err = entrySize(v); err != nil {
			err = &CorruptionError{Partition: b.d.partition, Key: s.key, Kind: kindEntry.String(), Err: err}
			break
		}
		dropped(stats)
	}
	if !b.learned && readDisk(it) {
		b.d.engine.ahead.late.Add(1)
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = readError(b.d.partition, s.key, kindEntry, closeErr)
	}
	if err != nil {
		return err
	}
	if n > pointDeletes {
		b.batch.DeleteRange(lower, upper)
		return nil
	}
	for _, key := range few {
		b.batch.Delete(key)
	}
	return nil
}
