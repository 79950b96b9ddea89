package store

import (
	"encoding/binary"
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/cespare/xxhash/v2"
)

// The encodings of what members tell each other during repair. Each begins with a version and ends with the xxhash64 of
// everything before it, computed where the data was read and verified where it is used: it covers the whole way, whatever
// carries it. Decoders accept only what the encoders write, allocate no more than a small multiple of their input, and
// let byte slices alias it.
//
//	listing   version u8 | bucket u8 | since uvarint | from u64 | to u64 | rest: A u64, B u64, count uvarint | knowledge
//	          | rows uvarint, each: hash u64, leaf u64, lastIndex uvarint, generation uvarint, gap u8 | checksum u64
//	query     version u8 | cursor | budget uvarint | wants uvarint, each: hash u64, haves uvarint, each: key, deleted
//	          uvarint, generation uvarint, baseIndex uvarint, upto varint, ranges uvarint, each: first varint,
//	          last−first uvarint, chain 16 | checksum u64
//	chunk     see chunk_codec.go
//	knowledge coverage (interval.Set) | applied uvarint | ahead uvarint
//	cursor    hash u64 | key (empty for the start) | generation uvarint | after varint | baseIndex uvarint
//	key       length uvarint, "space/key"
const repairVersion = 1

const repairSumLen = 8

// openRepair verifies the checksum and the version, and returns a reader of the rest.
func openRepair(b []byte, version byte) reader {
	r := reader{}
	if len(b) < repairSumLen+1 {
		r.fail("truncated")
		return r
	}
	body, sum := b[:len(b)-repairSumLen], binary.BigEndian.Uint64(b[len(b)-repairSumLen:])
	if got := xxhash.Sum64(body); got != sum {
		r.fail(fmt.Sprintf("checksum %016x, sent %016x", got, sum))
		return r
	}
	r.b = body
	if v := r.byte(); r.err == nil && v != version {
		r.fail(fmt.Sprintf("version %d, this program knows %d", v, version))
	}
	return r
}

// list reads a count of things that take at least so many bytes each.
func (r *reader) list(least int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/least) {
		r.fail("more elements than bytes")
		return 0
	}
	return int(n)
}

func (r *reader) flag() bool {
	c := r.byte()
	if c > 1 {
		r.fail("flag")
	}
	return c == 1
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

func (r *reader) chain() (c Chain) {
	copy(c[:], r.take(len(c)))
	return c
}

func appendKey(b []byte, k Key) []byte {
	if k == (Key{}) {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(k.Space)+1+len(k.Key)))
	b = append(b, k.Space...)
	b = append(b, '/')
	return append(b, k.Key...)
}

// key reads a valid key, or the zero key where that is allowed.
func (r *reader) key(zero bool) Key {
	name := r.lengthed(MaxSpace + 1 + MaxKey)
	if r.err != nil || len(name) == 0 && zero {
		return Key{}
	}
	k, err := ParseKey(string(name))
	if err != nil {
		r.fail(err.Error())
	}
	return k
}

func appendKnowledge(b []byte, coverage interval.Set, applied, ahead uint64) []byte {
	b = coverage.AppendBinary(b)
	b = binary.AppendUvarint(b, applied)
	return binary.AppendUvarint(b, ahead)
}

func (r *reader) knowledge() (coverage interval.Set, applied, ahead uint64) {
	coverage = r.intervals()
	return coverage, r.uvarint(), r.uvarint()
}

func (r *reader) intervals() interval.Set {
	if r.err != nil {
		return nil
	}
	s, rest, err := interval.Decode(r.b)
	if err != nil {
		r.fail(err.Error())
		return nil
	}
	r.b = rest
	return s
}

func appendCursor(b []byte, c *Cursor) []byte {
	b = binary.BigEndian.AppendUint64(b, c.Hash)
	b = appendKey(b, c.Key)
	b = binary.AppendUvarint(b, c.Generation)
	b = binary.AppendVarint(b, c.After)
	return binary.AppendUvarint(b, c.BaseIndex)
}

func (r *reader) cursor() Cursor {
	return Cursor{Hash: r.u64(), Key: r.key(true), Generation: r.uvarint(), After: r.varint(), BaseIndex: r.uvarint()}
}

// AppendBinary appends the encoding of a listing.
func (l *Listing) AppendBinary(b []byte) []byte {
	start := len(b)
	b = append(b, repairVersion, l.Bucket)
	b = binary.AppendUvarint(b, l.Since)
	b = binary.BigEndian.AppendUint64(b, l.From)
	b = binary.BigEndian.AppendUint64(b, l.To)
	b = binary.BigEndian.AppendUint64(b, l.Rest.Sum.A)
	b = binary.BigEndian.AppendUint64(b, l.Rest.Sum.B)
	b = binary.AppendUvarint(b, l.Rest.Count)
	b = appendKnowledge(b, l.Coverage, l.Applied, l.Ahead)
	b = binary.AppendUvarint(b, uint64(len(l.Rows)))
	for i := range l.Rows {
		row := &l.Rows[i]
		b = binary.BigEndian.AppendUint64(b, row.Hash)
		b = binary.BigEndian.AppendUint64(b, row.Leaf)
		b = binary.AppendUvarint(b, row.LastIndex)
		b = binary.AppendUvarint(b, row.Generation)
		b = appendFlag(b, row.Gap)
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// DecodeListing is the inverse of Listing.AppendBinary, for the whole of b. It verifies the order of the rows.
func DecodeListing(b []byte) (*Listing, error) {
	r := openRepair(b, repairVersion)
	l := &Listing{Bucket: r.byte(), Since: r.uvarint(), From: r.u64(), To: r.u64()}
	l.Rest = merkle.Bucket{Sum: merkle.Sum{A: r.u64(), B: r.u64()}, Count: r.uvarint()}
	l.Coverage, l.Applied, l.Ahead = r.knowledge()
	n := r.list(19)
	for range n {
		row := Row{Hash: r.u64(), Leaf: r.u64(), LastIndex: r.uvarint(), Generation: r.uvarint(), Gap: r.flag()}
		if k := len(l.Rows); k > 0 && compareRows(l.Rows[k-1], row) > 0 || row.Hash < l.From || row.Hash > l.To {
			r.fail("row out of order")
		}
		if r.err != nil {
			break
		}
		l.Rows = append(l.Rows, row)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("store: decode listing: %w", err)
	}
	return l, nil
}

// AppendBinary appends the encoding of a query.
func (q *ExportQuery) AppendBinary(b []byte) []byte {
	start := len(b)
	b = append(b, repairVersion)
	b = appendCursor(b, &q.From)
	b = binary.AppendUvarint(b, uint64(max(0, q.Budget)))
	b = binary.AppendUvarint(b, uint64(len(q.Wants)))
	for i := range q.Wants {
		w := &q.Wants[i]
		b = binary.BigEndian.AppendUint64(b, w.Hash)
		b = binary.AppendUvarint(b, uint64(len(w.Have)))
		for j := range w.Have {
			b = appendHave(b, &w.Have[j])
		}
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

func appendHave(b []byte, h *Have) []byte {
	b = appendKey(b, h.Key)
	b = binary.AppendUvarint(b, h.Deleted)
	b = binary.AppendUvarint(b, h.Generation)
	b = binary.AppendUvarint(b, h.BaseIndex)
	b = binary.AppendVarint(b, h.Upto)
	b = binary.AppendUvarint(b, uint64(len(h.Held)))
	for i := range h.Held {
		s := &h.Held[i]
		b = binary.AppendVarint(b, s.First)
		b = binary.AppendUvarint(b, uint64(s.Last-s.First))
		b = append(b, s.Chain[:]...)
	}
	return b
}

// DecodeExportQuery is the inverse of ExportQuery.AppendBinary, for the whole of b.
func DecodeExportQuery(b []byte) (*ExportQuery, error) {
	r := openRepair(b, repairVersion)
	q := &ExportQuery{From: r.cursor(), Budget: int(min(r.uvarint(), 1<<30))}
	for range r.list(9) {
		w := Want{Hash: r.u64()}
		for range r.list(9) {
			h := r.have()
			if r.err != nil {
				break
			}
			w.Have = append(w.Have, h)
		}
		if r.err != nil {
			break
		}
		q.Wants = append(q.Wants, w)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("store: decode export query: %w", err)
	}
	return q, nil
}

func (r *reader) have() Have {
	h := Have{Key: r.key(false), Deleted: r.uvarint(), Generation: r.uvarint(), BaseIndex: r.uvarint(), Upto: r.varint()}
	for range r.list(18) {
		s := SeqRange{First: r.varint()}
		span := r.nonNegative()
		s.Last, s.Chain = s.First+span, r.chain()
		if s.First < 0 || s.Last < s.First || len(h.Held) > 0 && h.Held[len(h.Held)-1].Last >= s.First {
			r.fail("held range")
		}
		if r.err != nil {
			break
		}
		h.Held = append(h.Held, s)
	}
	return h
}
