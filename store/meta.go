package store

import (
	"encoding/binary"
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// A partition's own records, in section 0 of its range: partition u32 | 00 | name u8 [ | bucket u8 ]. They are a few
// hundred at most and are all read when a member is opened; nothing else is, so opening costs nothing per document.
const (
	metaRange  byte = 1 // the hash range: first u64 | last u64
	metaState  byte = 2 // memberState
	metaHoles  byte = 3 // interval.Set, absent when empty
	metaBucket byte = 4 // per bucket: bucketState, absent when empty
	metaHealed byte = 5 // per bucket: interval.Set, absent when empty
	metaIngest byte = 6 // per bucket: nothing; there while records without heads may be: see ingest.go
	metaScrub  byte = 7 // ScrubProgress, absent before the first bucket
)

// memberState is what changes with every batch. The Documents' mutex guards writing it.
type memberState struct {
	applied       uint64 // highest index whose effect is held or recorded as a hole
	ahead         uint64 // highest index visible in what was pulled; above applied the member is not complete
	documents     int64
	bytes         int64 // stored deltas and bases
	deleteRecords int64
}

// bucketState is a bucket's sum and the number of delete records in it.
type bucketState struct {
	merkle.Bucket
	deleteRecords uint64
}

// memberMeta is everything a member keeps besides its documents.
type memberMeta struct {
	hashRange Range
	hasRange  bool
	state     memberState
	holes     interval.Set
	healed    map[uint8]interval.Set // indexes below which a bucket has been healed; only buckets with progress, else nil
	deletes   map[uint8]uint64       // delete records; only buckets with some, else nil
	ingests   map[uint8]bool         // buckets that may have records without heads; only those, else nil
	// sums is there while a member is opened. Then the tracker has them: a host keeps very many members, and six
	// kilobytes twice for each are too many.
	sums *merkle.Summary
}

// complete implements design §6: no holes, and nothing learned that is not applied.
func (m *memberMeta) complete() bool { return Complete(m.holes, m.state.ahead, m.state.applied) }

// coverage is the set of indexes whose effect is held: [1, applied] minus the holes.
func (m *memberMeta) coverage() interval.Set {
	return Coverage(m.state.applied, m.holes, nil)
}

// setHealed takes over a bucket's progress. A map that was large once stays large, so an empty one goes.
func (m *memberMeta) setHealed(bucket uint8, healed interval.Set) {
	m.healed = setOrDrop(m.healed, bucket, healed, healed.Empty())
}

// setDeletes takes over how many delete records a bucket has.
func (m *memberMeta) setDeletes(bucket uint8, n uint64) {
	m.deletes = setOrDrop(m.deletes, bucket, n, n == 0)
}

// setIngest takes over whether a bucket may have records without heads.
func (m *memberMeta) setIngest(bucket uint8, on bool) {
	m.ingests = setOrDrop(m.ingests, bucket, on, !on)
}

func setOrDrop[V any](m map[uint8]V, bucket uint8, v V, empty bool) map[uint8]V {
	switch {
	case !empty && m == nil:
		return map[uint8]V{bucket: v}
	case !empty:
		m[bucket] = v
	default:
		if delete(m, bucket); len(m) == 0 {
			return nil
		}
	}
	return m
}

func appendMeta(b []byte, partition uint32, name byte) []byte {
	return append(appendPartition(b, partition), sectionMeta, name)
}

func appendMetaBucket(b []byte, partition uint32, name byte, bucket uint8) []byte {
	return append(appendMeta(b, partition, name), bucket)
}

// appendState appends applied, ahead, documents, bytes and deleteRecords as uvarints.
func appendState(b []byte, s *memberState) []byte {
	b = binary.AppendUvarint(b, s.applied)
	b = binary.AppendUvarint(b, s.ahead)
	b = binary.AppendUvarint(b, uint64(s.documents))
	b = binary.AppendUvarint(b, uint64(s.bytes))
	return seal(binary.AppendUvarint(b, uint64(s.deleteRecords)))
}

func decodeState(v []byte) (memberState, error) {
	body, err := unseal(v)
	if err != nil {
		return memberState{}, err
	}
	r := reader{b: body}
	s := memberState{applied: r.uvarint(), ahead: r.uvarint(), documents: r.nonNegative(), bytes: r.nonNegative(),
		deleteRecords: r.nonNegative()}
	return s, r.end()
}

// appendBucketState appends sum A u64 | sum B u64 | documents uvarint | delete records uvarint.
func appendBucketState(b []byte, s *bucketState) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Sum.A)
	b = binary.BigEndian.AppendUint64(b, s.Sum.B)
	b = binary.AppendUvarint(b, s.Count)
	return seal(binary.AppendUvarint(b, s.deleteRecords))
}

func decodeBucketState(v []byte) (bucketState, error) {
	body, err := unseal(v)
	if err != nil {
		return bucketState{}, err
	}
	r := reader{b: body}
	var s bucketState
	s.Sum.A, s.Sum.B = r.u64(), r.u64()
	s.Count, s.deleteRecords = r.uvarint(), r.uvarint()
	return s, r.end()
}

func appendRange(b []byte, r Range) []byte {
	b = binary.BigEndian.AppendUint64(b, r.First)
	return seal(binary.BigEndian.AppendUint64(b, r.Last))
}

func decodeRange(v []byte) (Range, error) {
	body, err := unseal(v)
	if err != nil {
		return Range{}, err
	}
	r := reader{b: body}
	hashes := Range{First: r.u64(), Last: r.u64()}
	return hashes, r.end()
}

func decodeIntervals(v []byte) (interval.Set, error) {
	body, err := unseal(v)
	if err != nil {
		return nil, err
	}
	s, rest, err := interval.Decode(body)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after the intervals", ErrEncoding, len(rest))
	}
	return s, err
}

// readMeta reads all of a partition's records through one iterator, so they are of one instant.
func readMeta(r pebble.Reader, partition uint32) (*memberMeta, error) {
	m := &memberMeta{sums: new(merkle.Summary)}
	lower, upper := prefixRange(append(appendPartition(nil, partition), sectionMeta))
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, metaError(partition, err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = m.load(it.Key()[len(lower):], v)
		}
		if err != nil {
			err = &CorruptionError{Partition: partition, Kind: "meta", Err: err}
		}
	}
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = metaError(partition, closeErr)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// load takes over one record; name is its key after the section.
func (m *memberMeta) load(name, v []byte) (err error) {
	perBucket := len(name) == 2 && (name[0] == metaBucket || name[0] == metaHealed || name[0] == metaIngest)
	if !perBucket && len(name) != 1 {
		return fmt.Errorf("%w: unknown name %x", ErrEncoding, name)
	}
	switch name[0] {
	case metaRange:
		m.hasRange = true
		m.hashRange, err = decodeRange(v)
	case metaState:
		m.state, err = decodeState(v)
	case metaHoles:
		m.holes, err = decodeIntervals(v)
	case metaScrub: // only a scrub wants to know it: see Documents.ScrubProgress
	case metaBucket:
		var s bucketState
		if s, err = decodeBucketState(v); err == nil {
			if m.sums != nil {
				m.sums[name[1]] = s.Bucket
			}
			m.setDeletes(name[1], s.deleteRecords)
		}
	case metaHealed:
		var healed interval.Set
		if healed, err = decodeIntervals(v); err == nil {
			m.setHealed(name[1], healed)
		}
	case metaIngest:
		if _, err = unseal(v); err == nil {
			m.setIngest(name[1], true)
		}
	default:
		return fmt.Errorf("%w: unknown name %x", ErrEncoding, name)
	}
	return err
}
