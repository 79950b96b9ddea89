package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Every stored value ends in a checksum: the low 32 bits of the xxhash64 of what precedes it. Pebble checks its own
// blocks; this one finds what went wrong above them, and lets a scrub say which record is damaged.
const checksumLen = 4

// seal appends the checksum of the whole of b.
func seal(b []byte) []byte { return binary.BigEndian.AppendUint32(b, uint32(xxhash.Sum64(b))) }

// appendSum appends the checksum of what follows start: seal for the last part of b.
func appendSum(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(xxhash.Sum64(b[start:])))
}

// unseal verifies and cuts off the checksum.
func unseal(b []byte) ([]byte, error) {
	if len(b) < checksumLen {
		return nil, fmt.Errorf("%w: record of %d bytes", ErrEncoding, len(b))
	}
	body, sum := b[:len(b)-checksumLen], binary.BigEndian.Uint32(b[len(b)-checksumLen:])
	if got := uint32(xxhash.Sum64(body)); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, recorded %08x", ErrEncoding, got, sum)
	}
	return body, nil
}

// Entry is a stored delta with the log position that brought it.
type Entry struct {
	Delta
	Index, Term uint64
	Chain       Chain // after this delta; zero when this member could not know it (see Documents.Apply)
}

// entryOverhead is what an entry's record has besides the canonical delta.
const entryOverhead = 8 + 8 + len(Chain{}) + checksumLen

// appendEntryValue appends the stored form of an entry:
//
//	index u64 | term u64 | chain 16 | canonical delta | checksum u32
func appendEntryValue(b []byte, e *Entry) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, e.Chain[:]...)
	return seal(e.Delta.AppendBinary(b))
}

// decodeEntryValue is the inverse of appendEntryValue. The entry's slices alias v.
func decodeEntryValue(v []byte) (Entry, error) {
	body, err := unseal(v)
	if err != nil {
		return Entry{}, err
	}
	r := reader{b: body}
	e := Entry{Index: r.u64(), Term: r.u64()}
	copy(e.Chain[:], r.take(len(e.Chain)))
	if r.err != nil {
		return Entry{}, r.err
	}
	var rest []byte
	if e.Delta, rest, err = DecodeDelta(r.b); err != nil {
		return Entry{}, err
	}
	if len(rest) > 0 {
		return Entry{}, fmt.Errorf("%w: %d bytes after the delta", ErrEncoding, len(rest))
	}
	return e, nil
}

// entrySize returns the length of the canonical delta in an entry's record, and the number of seqs it spans, without
// decoding the rest.
func entrySize(v []byte) (bytes, span int64, err error) {
	const deltaAt = entryOverhead - checksumLen
	if len(v) <= entryOverhead {
		return 0, 0, fmt.Errorf("%w: entry of %d bytes", ErrEncoding, len(v))
	}
	r := reader{b: v[deltaAt : len(v)-checksumLen]}
	r.byte()
	r.uvarint()
	span = r.nonNegative() + 1
	return int64(len(v) - entryOverhead), span, r.err
}

// appendHeadValue appends the stored form of a head with its checksum.
func appendHeadValue(b []byte, h *Head) []byte { return seal(appendHead(b, h)) }

func decodeHeadValue(v []byte) (Head, error) {
	body, err := unseal(v)
	if err != nil {
		return Head{}, err
	}
	return decodeHeadBody(body)
}

// decodeHeadBody decodes a head whose checksum is verified.
func decodeHeadBody(body []byte) (Head, error) {
	h, rest, err := decodeHead(body)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after the head", ErrEncoding, len(rest))
	}
	return h, err
}

// appendDeleteValue appends the stored form of a delete record: index u64 | checksum u32.
func appendDeleteValue(b []byte, index uint64) []byte {
	return seal(binary.BigEndian.AppendUint64(b, index))
}

func decodeDeleteValue(v []byte) (uint64, error) {
	body, err := unseal(v)
	if err != nil {
		return 0, err
	}
	return decodeDeleteBody(body)
}

// decodeDeleteBody decodes a delete record whose checksum is verified.
func decodeDeleteBody(body []byte) (uint64, error) {
	r := reader{b: body}
	index := r.u64()
	return index, r.end()
}
