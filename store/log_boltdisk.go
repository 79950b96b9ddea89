package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// boltLogDisk is one partition's file, which exists from the first change on.
//
// raft-boltdb can change the log or one key in a transaction, not both. So everything but the entries is one record
// under one key, and a step that needs both writes the record first: it says what is to be removed, and loading the
// file finishes a removal that a crash has cut short.
type boltLogDisk struct {
	log       *boltLog
	partition uint32
	path      string
	store     *raftboltdb.BoltStore // nil until the file exists; set under the group's write lock or before it is shared
	record    boltRecord            // as stored; owned by the group's write lock
}

// boltRecord is everything of a partition but its entries.
type boltRecord struct {
	marker    *Marker
	compacted logPoint
	vote      *logVote
	stable    stableValues
	from, to  uint64 // entries that are being removed, besides those up to compacted; none when from is 0
}

const boltRecordVersion = 1

// Flags of a record.
const (
	boltHasMarker    = 1 << 0
	boltHasCompacted = 1 << 1
	boltHasVote      = 1 << 2
	boltHasRemoval   = 1 << 3
)

// encode returns
//
//	version u8 = 1 | flags u8 | [marker] | [compacted] | [vote] | [from uvarint | to uvarint] |
//	count uvarint | count × (length uvarint | key | length uvarint | value), by key | checksum u32
func (r *boltRecord) encode() []byte {
	flags := byte(0)
	if r.marker != nil {
		flags |= boltHasMarker
	}
	if r.compacted.index > 0 {
		flags |= boltHasCompacted
	}
	if r.vote != nil {
		flags |= boltHasVote
	}
	if r.from > 0 {
		flags |= boltHasRemoval
	}
	b := []byte{boltRecordVersion, flags}
	if r.marker != nil {
		b = r.marker.AppendBinary(b)
	}
	if r.compacted.index > 0 {
		b = appendLogPoint(b, r.compacted)
	}
	if r.vote != nil {
		b = appendLogVote(b, r.vote)
	}
	if r.from > 0 {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.from), r.to)
	}
	b = binary.AppendUvarint(b, uint64(len(r.stable)))
	for _, v := range r.stable {
		b = appendLengthed(appendLengthed(b, []byte(v.key)), v.value)
	}
	return seal(b)
}

func decodeBoltRecord(v []byte) (rec boltRecord, err error) {
	body, err := unseal(v)
	if err != nil {
		return rec, err
	}
	r := reader{b: body}
	if version := r.byte(); r.err == nil && version != boltRecordVersion {
		r.fail(fmt.Sprintf("record version %d", version))
	}
	flags := r.byte()
	if flags&boltHasMarker != 0 {
		m := r.marker()
		rec.marker = &m
	}
	if flags&boltHasCompacted != 0 {
		rec.compacted = r.logPoint()
	}
	if flags&boltHasVote != 0 {
		rec.vote = r.logVote()
	}
	if flags&boltHasRemoval != 0 {
		if rec.from, rec.to = r.uvarint(), r.uvarint(); rec.from == 0 || rec.from > rec.to {
			r.fail("removal of nothing")
		}
	}
	count := r.uvarint()
	if count > maxLogKeys || flags >= boltHasRemoval<<1 {
		r.fail(fmt.Sprintf("record with %d keys, flags %#x", count, flags))
	}
	last := ""
	for i := uint64(0); i < count && r.err == nil; i++ {
		k, v := string(r.lengthed(maxLogKey)), r.lengthed(maxLogValue)
		if k <= last {
			r.fail("keys out of order")
		}
		rec = rec.after(&logChange{key: []byte(k), value: v})
		last = k
	}
	return rec, r.end()
}

// after returns the record of the state after c.
func (r boltRecord) after(c *logChange) boltRecord {
	s := logState{compacted: r.compacted, marker: r.marker, vote: r.vote, stable: r.stable}
	s = s.after(&logChange{compacted: c.compacted, marker: c.marker, vote: c.vote, key: c.key, value: c.value})
	r.compacted, r.marker, r.vote, r.stable = s.compacted, s.marker, s.vote, s.stable
	return r
}

// steps returns the transactions of a change, in order. Only the first one decides: before it nothing has happened, after it
// load brings the rest about.
func (d *boltLogDisk) steps(c *logChange) (list []func(*raftboltdb.BoltStore) error) {
	put := func(r boltRecord) {
		list = append(list, func(s *raftboltdb.BoltStore) error { return s.Set(boltKeyRecord, r.encode()) })
	}
	next := d.record.after(c)
	recorded := c.compacted != nil || c.marker != nil || c.vote != nil || c.key != nil
	unfinished := recorded && c.from > 0 && c.to > next.compacted.index
	if unfinished {
		next.from, next.to = c.from, c.to
	}
	if recorded || d.store == nil {
		put(next)
	}
	if c.from > 0 {
		list = append(list, func(s *raftboltdb.BoltStore) error { return s.DeleteRange(c.from, c.to) })
	}
	if unfinished {
		next.from, next.to = 0, 0
		put(next)
	}
	if len(c.entries) > 0 {
		list = append(list, func(s *raftboltdb.BoltStore) error { return s.StoreLogs(d.sealed(c.entries)) })
	}
	d.record = next
	return list
}

// sealed returns entries as they are stored: bolt checksums nothing, so each one carries the xxhash64 of what this
// engine would write elsewhere, in front of its extensions.
func (d *boltLogDisk) sealed(logs []*raft.Log) []*raft.Log {
	out, copies := make([]*raft.Log, len(logs)), make([]raft.Log, len(logs))
	var buf []byte
	for i, l := range logs {
		copies[i] = *l
		var sum uint64
		sum, buf = logEntrySum(l, buf)
		d.log.engine.bytes.Add(uint64(len(buf)))
		copies[i].Extensions = append(binary.BigEndian.AppendUint64(nil, sum), l.Extensions...)
		out[i] = &copies[i]
	}
	return out
}

// logEntrySum leaves out the time, which means nothing and need not come back as exactly.
func logEntrySum(l *raft.Log, buf []byte) (uint64, []byte) {
	buf = appendLogEntry(buf[:0], &raft.Log{Index: l.Index, Term: l.Term, Type: l.Type, Data: l.Data, Extensions: l.Extensions})
	return xxhash.Sum64(buf), buf
}

// unsealBoltEntry verifies an entry that was stored for index.
func unsealBoltEntry(l *raft.Log, index uint64) error {
	if len(l.Extensions) < 8 {
		return fmt.Errorf("%w: entry %d without a checksum", ErrEncoding, index)
	}
	want := binary.BigEndian.Uint64(l.Extensions)
	if l.Extensions = l.Extensions[8:]; len(l.Extensions) == 0 {
		l.Extensions = nil
	}
	if len(l.Data) == 0 {
		l.Data = nil
	}
	if got, _ := logEntrySum(l, nil); got != want || l.Index != index {
		return fmt.Errorf("%w: entry %d is not what was stored", ErrEncoding, index)
	}
	return nil
}

// stage waits: a transaction of bolt is durable or nothing.
func (d *boltLogDisk) stage(c *logChange, done func(error)) error {
	if err := d.apply(c); err != nil {
		return err
	}
	done(nil)
	return nil
}

func (d *boltLogDisk) apply(c *logChange) error {
	store := d.store
	steps := d.steps(c)
	if store == nil {
		return d.create(steps)
	}
	for i, step := range steps {
		if i > 0 && d.log.hooks.between != nil {
			d.log.hooks.between()
		}
		if err := d.write(func() error { return step(store) }); err != nil {
			return err
		}
	}
	return nil
}

// write runs a transaction; any failure, panics of bolt included, is the engine's.
func (d *boltLogDisk) write(op func() error) error {
	return d.log.engine.stop.guard(func() (err error) {
		defer recoverBolt(&err)
		if err = op(); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		d.log.commits.Add(1)
		return nil
	})
}

// create makes the file under another name and gives it its final one when it holds its first state, durably.
func (d *boltLogDisk) create(steps []func(*raftboltdb.BoltStore) error) error {
	newborn := d.path + boltNewborn
	if err := removeBolt(newborn); err != nil {
		return d.log.engine.stop.fail(err)
	}
	var store *raftboltdb.BoltStore
	err := d.write(func() (err error) { store, err = d.log.open(newborn); return err })
	if err != nil {
		return err
	}
	steps = append([]func(*raftboltdb.BoltStore) error{
		func(s *raftboltdb.BoltStore) error { return s.Set(boltKeyStamp, d.log.stamp()) }}, steps...)
	for _, step := range steps {
		if err := d.write(func() error { return step(store) }); err != nil {
			return err
		}
	}
	if d.log.hooks.between != nil {
		d.log.hooks.between()
	}
	if err = d.log.engine.stop.guard(func() error { return nameBolt(newborn, d.path) }); err == nil {
		d.store = store
	}
	return err
}

// entry reads one entry; a read needs no lock, bolt's transactions see one state of the file.
func (d *boltLogDisk) entry(index uint64) (l raft.Log, found bool, err error) {
	defer func() {
		if err != nil {
			err = &CorruptionError{Partition: d.partition, Kind: "log", Err: fmt.Errorf("%s: %w", d.path, err)}
		}
	}()
	defer recoverBolt(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page that the disk does not give
	if err = d.store.GetLog(index, &l); errors.Is(err, raft.ErrLogNotFound) {
		return raft.Log{}, false, nil
	}
	if err == nil {
		err = unsealBoltEntry(&l, index)
	}
	return l, err == nil, err
}

func (d *boltLogDisk) close() error {
	if d.store == nil {
		return nil
	}
	return d.store.Close()
}

func (d *boltLogDisk) drop() error {
	err := d.log.engine.stop.guard(func() error {
		if err := d.close(); err != nil {
			return err
		}
		if err := removeBolt(d.path); err != nil {
			return err
		}
		return syncLogDir(vfs.Default, d.log.engine.opts.Dir)
	})
	return err
}
