package store

import (
	"errors"
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// Damaged says what Damage removes from a bucket. The zero value removes nothing: then only the bucket's sum is counted
// anew and its coverage given up, which is what a wrong sum without a wrong document asks for.
type Damaged struct {
	// Documents go with their heads, bases, entries and delete records, as far as they are there.
	Documents []Key
	// Whole removes everything in the bucket, unread.
	Whole bool

	stray   [][]byte // keys of records that belong to no document of the bucket; only a scrub finds these
	recount bool     // heads cannot be trusted to say how much goes with them
}

// Nothing reports whether nothing is to be removed.
func (w *Damaged) Nothing() bool { return !w.Whole && len(w.Documents) == 0 && len(w.stray) == 0 }

// DamageReport says what Damage did.
type DamageReport struct {
	Documents int64 // that had a head, or were counted to have one, and have none now
	Bytes     int64 // of their deltas and bases
	// Whole: everything in the buckets was removed: asked for, or because the engine could not read the heads.
	Whole bool
	// Buckets are those that have to heal, ascending: the given one and, when it was removed whole, those that lay with it
	// in a block that the engine cannot read.
	Buckets []uint8
	// Unreclaimed says why the engine still holds what it could not read, "" when it does not: the buckets may stay
	// unreadable, and so unhealed, until Reclaim succeeds.
	Unreclaimed string
}

// Damage makes a bucket of this member one to be healed, and removes the given parts of it: what a scrub found damaged,
// or what an operator discards because a peer's version is to win. It decides nothing: nobody but the caller knows
// whether a peer is there to heal from, and without one what is removed here is lost.
//
// In one synced batch, so that a crash leaves all of it or nothing:
//   - the records of the given documents go, and of documents whose head cannot be read;
//   - the bucket's sum, its counts and the member's totals become those of what is left;
//   - the bucket covers nothing of [1, applied] any more: that is a hole, and its progress is void;
//   - all other buckets are recorded to have healed of the hole what they held. They lose nothing.
//
// This is sound because what is left is what an honest peer at the same index could have sent to a member that begins
// from nothing: absence in the bucket proves nothing in either direction until it is healed, documents that are left
// count as held, and delete records only matter to who covers something (design §6). The member is incomplete when
// Damage returns: it must not serve, and gives up its leadership. A repair session of the bucket is lost.
//
// When the engine itself reports the bucket's heads corrupt, or with Whole, everything in the bucket is removed, and then
// cut out of the engine's files unread. A block that cannot be read may hold records of the buckets beside, too. Then all
// buckets up to the first edge that can be read go in the same batch and the same cut, and the above holds for each: one
// that heals before its neighbour is cut out would lie beside an edge that cannot be read again.
//
// Errors: *KeyError for a document of another bucket or partition, which changes nothing; those of every write.
func (d *Documents) Damage(bucket uint8, what Damaged) (DamageReport, error) {
	return d.damage(bucket, what, false)
}

// Reclaim is Damage with Whole for a bucket that an earlier one left unreclaimed. Unless it can be cut out of the engine's
// files now it changes nothing and tells why. What cannot be read may hold records of other members, too: with may, which is
// asked about each of those before and must not call the engine, their buckets go along (see salvage). It returns a report for
// each partition that lost something.
func (d *Documents) Reclaim(bucket uint8, may func(partition uint32) error) (map[uint32]DamageReport, error) {
	report, err := d.damage(bucket, Damaged{Whole: true}, true)
	if err == nil {
		return map[uint32]DamageReport{d.partition: report}, nil
	}
	if may == nil || !errors.Is(err, errBeyond) {
		return nil, err
	}
	return d.engine.salvage(spot{d.partition, int(bucket)}, may)
}

func (d *Documents) damage(bucket uint8, what Damaged, must bool) (DamageReport, error) {
	gone, err := d.placesIn(bucket, what.Documents)
	if err != nil {
		return DamageReport{}, err
	}
	unlock, err := d.lock()
	if err != nil {
		return DamageReport{}, err
	}
	defer unlock()
	b := d.begin()
	defer b.close()
	m := damager{b: b, bucket: bucket, buckets: bucketRun{bucket, bucket}, gone: gone, recount: what.recount, must: must, loud: func() {}}
	defer func() { m.loud() }()
	if err := m.run(&what); err != nil {
		return DamageReport{}, fmt.Errorf("store: partition %d: damage bucket %d: %w", d.partition, bucket, err)
	}
	d.openHoles(b)
	if err := b.commit(true); err != nil {
		return DamageReport{}, err
	}
	for _, other := range m.report.Buckets {
		d.endSession(other)
	}
	if m.report.Whole {
		m.cut()
	}
	return m.report, nil
}

// openHoles makes the batch's holes the member's before anybody can see what the batch removes: who still finds a document
// missing finds the member incomplete as well. The caller holds mu. If the batch can not be written the engine has failed.
func (d *Documents) openHoles(b *docBatch) {
	d.pub.Lock()
	defer d.pub.Unlock()
	d.meta.holes = b.holes
	for bucket, healed := range b.healed {
		d.meta.setHealed(bucket, healed)
	}
}

// placesIn is where documents of a bucket are.
func (d *Documents) placesIn(bucket uint8, keys []Key) (map[Key]place, error) {
	places := make(map[Key]place, len(keys))
	for _, key := range keys {
		p, err := d.place(key)
		if err == nil && p.bucket != bucket {
			err = &KeyError{Key: key, Reason: fmt.Sprintf("it belongs to bucket %d, not %d", p.bucket, bucket)}
		}
		if err != nil {
			return nil, err
		}
		places[key] = p
	}
	return places, nil
}

// damager fills the batch of one Damage. The caller of Damage holds mu.
type damager struct {
	b       *docBatch
	bucket  uint8
	buckets bucketRun // that go; just bucket unless all of it does
	gone    map[Key]place
	report  DamageReport

	recount bool   // all of the member's bytes
	must    bool   // be able to cut, or change nothing
	uncut   error  // why nothing can be cut
	loud    func() // ends the quiet that the cut needs

	kept      bucketState // of what is left
	keptBytes int64
	before    merkle.Bucket // of everything that has a readable head
	lostBytes int64         // by readable heads
}

func (m *damager) run(what *Damaged) error {
	m.report.Whole = what.Whole
	stray := what.stray
	if !m.report.Whole {
		misread, err := m.survey()
		switch {
		case errors.As(err, new(*CorruptionError)):
			m.report.Whole = true
		case err != nil:
			return err
		}
		stray = append(stray[:len(stray):len(stray)], misread...)
	}
	remove := func() error { return m.remove(stray) }
	if m.report.Whole {
		remove = m.removeWhole
	}
	if err := remove(); err != nil {
		return err
	}
	m.account()
	m.open()
	return nil
}

// removeWhole deletes the bucket and what has to go with it.
func (m *damager) removeWhole() error {
	d := m.b.d
	m.kept, m.keptBytes = bucketState{}, 0
	loud, err := d.quiet()
	if err == nil {
		m.loud = loud
	}
	run, damaged := d.cuttable(m.bucket)
	if m.uncut = errors.Join(err, damaged); m.uncut != nil && m.must {
		return m.uncut
	}
	m.buckets = run
	lower, upper := d.keys(run)
	m.b.batch.DeleteRange(lower, upper)
	return nil
}

// cut takes what the batch removed out of the engine's files.
func (m *damager) cut() {
	d := m.b.d
	if m.uncut == nil {
		m.uncut = d.excise(m.buckets)
	}
	if m.uncut != nil {
		m.report.Unreclaimed = m.uncut.Error()
		d.engine.opts.Logger.Error("damaged buckets cannot be cut out of the engine's files", "partition", d.partition,
			"first", m.buckets.first, "last", m.buckets.last, "err", m.uncut)
	}
}

// survey counts what is left of the bucket. Documents whose heads cannot be read join those that go; keys of heads and
// delete records that are no document's are returned. A *CorruptionError means that the engine cannot read the records.
func (m *damager) survey() (misread [][]byte, err error) {
	d := m.b.d
	err = d.scanRaw(d.engine.db, m.bucket, kindHead, func(key, value []byte) {
		k, ok := d.keyIn(m.bucket, key)
		if !ok {
			misread = append(misread, append([]byte{}, key...))
			return
		}
		h, err := decodeHeadValue(value)
		if err != nil {
			m.gone[k.key] = k.place()
			return
		}
		one := merkle.Bucket{Sum: leaf(k.key, &h), Count: 1}
		m.before = m.before.Add(one)
		if _, going := m.gone[k.key]; going {
			m.lostBytes += h.Bytes + h.BaseBytes
			return
		}
		m.kept.Bucket = m.kept.Add(one)
		m.keptBytes += h.Bytes + h.BaseBytes
	})
	if err != nil {
		return nil, err
	}
	err = d.scanRaw(d.engine.db, m.bucket, kindDelete, func(key, value []byte) {
		k, ok := d.keyIn(m.bucket, key)
		if _, err := decodeDeleteValue(value); !ok || err != nil {
			misread = append(misread, append([]byte{}, key...))
			return
		}
		if _, going := m.gone[k.key]; !going {
			m.kept.deleteRecords++
		}
	})
	return misread, err
}

// remove deletes the documents that go, and the given keys.
func (m *damager) remove(stray [][]byte) error {
	partition := m.b.d.partition
	for _, p := range m.gone {
		for _, kind := range []recordKind{kindHead, kindDelete} {
			m.b.batch.Delete(appendDocument(nil, partition, p, kind))
		}
		for _, kind := range []recordKind{kindBase, kindEntry} {
			lower, upper := prefixRange(appendDocument(nil, partition, p, kind))
			m.b.batch.DeleteRange(lower, upper)
		}
	}
	for _, key := range stray {
		m.b.batch.Delete(key)
	}
	return nil
}

// account makes sums, counts and totals those of what is left.
func (m *damager) account() {
	b, d := m.b, m.b.d
	m.report.Buckets = m.buckets.buckets()
	known := !m.report.Whole && !m.recount // what the part of the buckets was
	for _, bucket := range m.report.Buckets {
		s := b.bucket(bucket)
		b.state.documents += int64(m.kept.Count - s.Count)
		b.state.deleteRecords += int64(m.kept.deleteRecords - s.deleteRecords)
		m.report.Documents += max(0, int64(s.Count-m.kept.Count))
		known = known && s.Bucket == m.before
		*s = m.kept
		b.reset = append(b.reset, bucketReset{bucket: bucket, sum: m.kept.Bucket})
	}
	before := b.state.bytes
	if known {
		b.state.bytes -= m.lostBytes
	} else {
		b.state.bytes = m.keptBytes + d.bytesOutside(m.buckets)
	}
	// A counter that was damaged must not make the record impossible.
	b.state.documents, b.state.bytes, b.state.deleteRecords = max(0, b.state.documents), max(0, b.state.bytes), max(0, b.state.deleteRecords)
	m.report.Bytes = max(0, before-b.state.bytes)
}

// open makes the buckets' part of [1, applied] a hole.
func (m *damager) open() {
	b, d := m.b, m.b.d
	holes := b.holes.Union(interval.Of(1, b.state.applied))
	for i := range merkle.Buckets {
		if bucket := uint8(i); m.buckets.contains(bucket) {
			b.setHealed(bucket, nil)
		} else {
			b.setHealed(bucket, d.meta.bucketCoverage(bucket).Intersect(holes))
		}
	}
	b.setHoles(holes)
}

// bytesOutside adds up what the heads of all other buckets say. One that cannot be read counts for nothing: its own
// damage will be found, and counts anew.
func (d *Documents) bytesOutside(run bucketRun) (bytes int64) {
	for i := range merkle.Buckets {
		other := uint8(i)
		if run.contains(other) || d.tracker.Bucket(other).Count == 0 {
			continue
		}
		err := d.scanRaw(d.engine.db, other, kindHead, func(_, value []byte) {
			if h, err := decodeHeadValue(value); err == nil {
				bytes += h.Bytes + h.BaseBytes
			}
		})
		if err != nil {
			d.engine.opts.Logger.Error("heads cannot be counted", "partition", d.partition, "bucket", other, "err", err)
		}
	}
	return bytes
}

// scanRaw visits the records of a kind in a bucket as they are; their memory is not the visitor's. A *CorruptionError
// means that the engine cannot read them.
func (d *Documents) scanRaw(r pebble.Reader, bucket uint8, kind recordKind, visit func(key, value []byte)) error {
	lower, upper := prefixRange(appendKind(nil, d.partition, bucket, kind))
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(d.partition, Key{}, kind, err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			visit(it.Key(), v)
		}
	}
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return readError(d.partition, Key{}, kind, err)
	}
	return nil
}

// keyIn decodes a record's key; false unless it is one that belongs into the bucket.
func (d *Documents) keyIn(bucket uint8, key []byte) (recordKey, bool) {
	k, err := decodeRecordKey(key)
	if err != nil || k.bucket != bucket || k.hash != k.key.Hash() || !d.hashes.Contains(k.hash) || d.hashes.Bucket(k.hash) != bucket {
		return recordKey{}, false
	}
	return k, true
}
