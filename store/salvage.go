package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/adamantdb/adamant/merkle"
)

// spot is what a cut takes or leaves as a whole: a bucket of a member, or, with ownRecords, its own records or the host's.
type spot struct {
	partition uint32
	bucket    int
}

const ownRecords = -1

// keys returns the bounds of all records of a spot.
func (s spot) keys() (lower, upper []byte) {
	lower = appendPartition(nil, s.partition)
	switch {
	case s.partition == hostPartition:
		return lower, append(appendPartition(nil, s.partition), 0xff) // above all kinds
	case s.bucket == ownRecords:
		return append(lower, sectionMeta), append(appendPartition(nil, s.partition), sectionDocuments)
	}
	return appendBucket(nil, s.partition, uint8(s.bucket)), successor(appendBucket(nil, s.partition, uint8(s.bucket)))
}

// spots lists all places of the engine in the order of their keys. The caller holds e.mu.
func (e *DocEngine) spots() (list []spot) {
	for _, p := range e.partitions() {
		for bucket := ownRecords; bucket < merkle.Buckets; bucket++ {
			list = append(list, spot{p, bucket})
		}
	}
	return append(list, spot{hostPartition, ownRecords})
}

// reach widens a spot to a run between two edges that can be read: cuttable, for the whole engine. The caller holds e.mu.
func (e *DocEngine) reach(from spot) ([]spot, error) {
	spots := e.spots()
	at := slices.Index(spots, from)
	if at < 0 {
		return nil, ErrDropped
	}
	down, err := widen(at, func(by int) (damage, err error) {
		lower, _ := spots[at-by].keys()
		return e.before(lower)
	})
	if err != nil {
		return nil, err
	}
	up, err := widen(len(spots)-1-at, func(by int) (damage, err error) {
		_, upper := spots[at+by].keys()
		return e.behind(upper)
	})
	if err != nil {
		return nil, err
	}
	return spots[at-down : at+up+1], nil
}

// partitions lists those of a run, in order, without the host.
func partitions(run []spot) (list []uint32) {
	for _, s := range run {
		if s.partition != hostPartition && (len(list) == 0 || list[len(list)-1] != s.partition) {
			list = append(list, s.partition)
		}
	}
	return list
}

// bucketsOf is the part of a run that are a partition's buckets; false when there are none.
func bucketsOf(run []spot, partition uint32) (r bucketRun, any bool) {
	for _, s := range run {
		if s.partition != partition || s.bucket == ownRecords {
			continue
		}
		if !any {
			r.first, any = uint8(s.bucket), true
		}
		r.last = uint8(s.bucket)
	}
	return r, any
}

// salvage gets rid of damage that no cut within one partition's documents reaches: a block that holds records of several
// partitions, of a partition's own, or of the host, or a table that cannot be read at all. Documents that lie with it have to
// heal, as after Damage, whosever they are; may is asked before for each partition but the first. Partitions' own records and
// the host's are all in memory, and come back in the same step that cuts the damage out: a crash finds either the damage, with
// the holes that were made for it, or the records.
func (e *DocEngine) salvage(from spot, may func(partition uint32) error) (map[uint32]DamageReport, error) {
	if err := e.acquire(); err != nil {
		return nil, err
	}
	defer e.release()
	reports, err := e.salvageOne(from, may)
	if from.bucket == 0 { // a scrub reports own records by this bucket; where they are sound they are only written anew
		for _, own := range []spot{{from.partition, ownRecords}, {hostPartition, ownRecords}} {
			if err != nil {
				break
			}
			var more map[uint32]DamageReport
			more, err = e.salvageOne(own, may)
			for p, report := range more {
				if len(reports[p].Buckets) > 0 {
					report.Buckets = slices.Compact(slices.Sorted(slices.Values(append(report.Buckets, reports[p].Buckets...))))
				}
				reports[p] = report
			}
		}
	}
	return reports, err
}

func (e *DocEngine) salvageOne(from spot, may func(partition uint32) error) (map[uint32]DamageReport, error) {
	e.mu.Lock()
	planned, err := e.reach(from)
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	allowed := partitions(planned)
	for _, p := range allowed {
		if p == from.partition {
			continue
		}
		if err := may(p); err != nil {
			return nil, fmt.Errorf("store: what cannot be read reaches into partition %d: %w", p, err)
		}
	}
	e.mu.Lock() // no member comes or goes
	defer e.mu.Unlock()
	run, err := e.reach(from)
	if err != nil {
		return nil, err
	}
	members, unlock, err := e.lockMembers(run, allowed)
	if err != nil {
		return nil, err
	}
	defer unlock()
	reports := map[uint32]DamageReport{}
	for _, d := range members {
		buckets, any := bucketsOf(run, d.partition)
		if !any {
			continue
		}
		report, err := d.give(buckets)
		if err != nil {
			return nil, err
		}
		reports[d.partition] = report
	}
	return reports, e.replaceOwn(run, members)
}

// lockMembers locks the members of a run, in order, and has nobody read an instant of them until unlock is called.
func (e *DocEngine) lockMembers(run []spot, allowed []uint32) (members []*Documents, unlock func(), err error) {
	var undo []func()
	unlock = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	for _, p := range partitions(run) {
		d := e.members[p]
		if d == nil || !slices.Contains(allowed, p) {
			unlock()
			return nil, nil, fmt.Errorf("%w: into partition %d, which is not open", errBeyond, p)
		}
		one, err := d.lock()
		if err == nil {
			undo = append(undo, one)
			one, err = d.quiet()
		}
		if err != nil {
			unlock()
			return nil, nil, err
		}
		undo = append(undo, one)
		members = append(members, d)
	}
	return members, unlock, nil
}

// give is Damage with Whole of a run of buckets, without the cut. The caller holds mu.
func (d *Documents) give(run bucketRun) (DamageReport, error) {
	b := d.begin()
	defer b.close()
	m := damager{b: b, bucket: run.first, buckets: run, report: DamageReport{Whole: true}}
	lower, upper := d.keys(run)
	b.batch.DeleteRange(lower, upper)
	m.account()
	m.open()
	d.openHoles(b)
	if err := b.commit(true); err != nil {
		return DamageReport{}, err
	}
	for _, bucket := range m.report.Buckets {
		d.endSession(bucket)
	}
	return m.report, nil
}

// record is a key with its value.
type record struct{ key, value []byte }

// replaceOwn cuts a run out of the engine's files and puts the own records of its members and of the host in its place. The
// caller has locked the members, and nobody reads an instant of them.
func (e *DocEngine) replaceOwn(run []spot, members []*Documents) error {
	e.hostMu.Lock()
	defer e.hostMu.Unlock()
	var records []record
	for _, d := range members {
		if slices.Contains(run, spot{d.partition, ownRecords}) {
			records = append(records, d.ownRecords()...)
		}
	}
	if run[len(run)-1].partition == hostPartition {
		records = append(records, e.hostRecords()...)
	}
	lower, _ := run[0].keys()
	_, upper := run[len(run)-1].keys()
	if len(records) == 0 {
		return e.exciseSpan(lower, upper, nil)
	}
	t := &table{}
	defer e.removeTables([]*table{t})
	if err := e.stop.guard(func() error { return e.writeRecords(t, records) }); err != nil {
		return err
	}
	return e.exciseSpan(lower, upper, []string{t.path})
}

func (e *DocEngine) writeRecords(t *table, records []record) error {
	w, err := e.newTable(t, true)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := w.Set(r.key, r.value); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// ownRecords are the member's, in the order of their keys. The caller holds mu.
func (d *Documents) ownRecords() []record {
	m, p := d.meta, d.partition
	list := []record{{appendMeta(nil, p, metaRange), appendRange(nil, d.hashes)}, {appendMeta(nil, p, metaState), appendState(nil, &m.state)}}
	if !m.holes.Empty() {
		list = append(list, record{appendMeta(nil, p, metaHoles), seal(m.holes.AppendBinary(nil))})
	}
	perBucket := func(name byte, value func(bucket uint8) []byte) {
		for i := range merkle.Buckets {
			if v := value(uint8(i)); v != nil {
				list = append(list, record{appendMetaBucket(nil, p, name, uint8(i)), v})
			}
		}
	}
	perBucket(metaBucket, func(bucket uint8) []byte {
		s := bucketState{Bucket: d.tracker.Bucket(bucket), deleteRecords: m.deletes[bucket]}
		if s == (bucketState{}) {
			return nil
		}
		return appendBucketState(nil, &s)
	})
	perBucket(metaHealed, func(bucket uint8) []byte {
		if m.healed[bucket].Empty() {
			return nil
		}
		return seal(m.healed[bucket].AppendBinary(nil))
	})
	perBucket(metaIngest, func(bucket uint8) []byte {
		if !m.ingests[bucket] {
			return nil
		}
		return seal(nil)
	})
	// A scrub's progress is not in memory. One that cannot be read is none.
	key := appendMeta(nil, p, metaScrub)
	if v, ok, err := get(d.engine.db, key); err == nil && ok {
		list = append(list, record{key, v})
	}
	return list
}

// hostRecords are the host's, in the order of their keys. The caller holds hostMu.
func (e *DocEngine) hostRecords() []record {
	list := []record{{hostKey(hostStamp, ""), encodeStamp(e.opts.Cluster, e.opts.Host, e.opts.Incarnation)}}
	for _, name := range slices.Sorted(maps.Keys(e.host)) {
		list = append(list, record{hostKey(hostMeta, name), e.host[name]})
	}
	return list
}
