package antientropy

import (
	"encoding/binary"
	"math"

	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

// The encoding of pages and listings. A request has up to one page for each bucket, nearly always of the same since and of
// the whole bucket, and what the peer knows is the same for nearly all of them: only what differs from the page before is
// said, so that finding d documents in as many buckets costs little more than d rows.
//
//	pages     uvarint, each: bucket u8 | flags u8 | flag 1: since uvarint | flag 2: from u64, to u64
//	listings  uvarint, each: bucket u8 | flags u8 | flag 1: since uvarint | flag 2: from u64, to u64
//	          | flag 4: coverage (interval.Set), applied uvarint, ahead uvarint
//	          | flag 8: rest A u64, B u64, count uvarint
//	          | rows uvarint, each: hash u64 | flags u8 | lastIndex − since varint
//	            | not a delete record: leaf u64, lastIndex − generation uvarint
//
// Differences are modulo 2⁶⁴. Without flag 1 since is that of the page or listing before, at first 0; without 2 the span is the
// whole bucket; without 4 the knowledge is that of the listing before, at first none; without 8 the rest is nothing. A
// row's flags: 1 it has a gap, 2 it is a delete record.
const (
	pageSince     = 1
	pageSpan      = 2
	pageKnowledge = 4
	pageRest      = 8

	rowGap     = 1
	rowDeleted = 2
)

// leastRow is the size of a delete record's row, and of no other's.
const leastRow = 10

// span is what pages and listings begin with.
func appendSpan(b []byte, p page, since uint64, flags byte) []byte {
	if p.since != since {
		flags |= pageSince
	}
	if p.from != 0 || p.to != math.MaxUint64 {
		flags |= pageSpan
	}
	b = append(b, p.bucket, flags)
	if flags&pageSince != 0 {
		b = binary.AppendUvarint(b, p.since)
	}
	if flags&pageSpan != 0 {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, p.from), p.to)
	}
	return b
}

// span reads what appendSpan writes, with flags as far as they are allowed.
func (d *decoder) span(since uint64, allowed byte) (p page, flags byte) {
	p = page{bucket: d.byte(), since: since, to: math.MaxUint64}
	flags = d.byte()
	if flags&^(pageSince|pageSpan|allowed) != 0 {
		d.fail("flags of a page")
	}
	if flags&pageSince != 0 {
		if p.since = d.uvarint(); p.since == since {
			d.fail("since said again")
		}
	}
	if flags&pageSpan != 0 {
		if p.from, p.to = d.u64(), d.u64(); p.from == 0 && p.to == math.MaxUint64 {
			d.fail("the whole bucket said in full")
		}
	}
	if p.from > p.to {
		d.fail("empty span of hashes")
	}
	return p, flags
}

func appendPages(b []byte, pages []page) []byte {
	b = binary.AppendUvarint(b, uint64(len(pages)))
	since := uint64(0)
	for _, p := range pages {
		b = appendSpan(b, p, since, 0)
		since = p.since
	}
	return b
}

func (d *decoder) pages() []page {
	var pages []page
	since := uint64(0)
	for range d.count(maxItems, 2) {
		p, _ := d.span(since, 0)
		since = p.since
		pages = append(pages, p)
	}
	return pages
}

func appendListings(b []byte, listings []*store.Listing) []byte {
	b = binary.AppendUvarint(b, uint64(len(listings)))
	since, known := uint64(0), knowledge{}
	for _, l := range listings {
		flags := byte(0)
		if now := (knowledge{l.Coverage, l.Applied, l.Ahead}); !now.equal(&known) {
			flags, known = pageKnowledge, now
		}
		if l.Rest != (merkle.Bucket{}) {
			flags |= pageRest
		}
		b = appendSpan(b, page{l.Bucket, l.Since, l.From, l.To}, since, flags)
		since = l.Since
		if flags&pageKnowledge != 0 {
			b = binary.AppendUvarint(binary.AppendUvarint(l.Coverage.AppendBinary(b), l.Applied), l.Ahead)
		}
		if flags&pageRest != 0 {
			b = binary.AppendUvarint(appendSum(b, l.Rest.Sum), l.Rest.Count)
		}
		b = binary.AppendUvarint(b, uint64(len(l.Rows)))
		for i := range l.Rows {
			b = appendRow(b, &l.Rows[i], since)
		}
	}
	return b
}

func (d *decoder) listings() []*store.Listing {
	var list []*store.Listing
	since, known := uint64(0), knowledge{}
	for range d.count(maxItems, 3) {
		p, flags := d.span(since, pageKnowledge|pageRest)
		since = p.since
		if flags&pageKnowledge != 0 {
			now := knowledge{d.intervals(), d.uvarint(), d.uvarint()}
			if now.equal(&known) {
				d.fail("knowledge said again")
			}
			known = now
		}
		l := &store.Listing{Bucket: p.bucket, Since: since, From: p.from, To: p.to, Coverage: known.coverage, Applied: known.applied, Ahead: known.ahead}
		if flags&pageRest != 0 {
			if l.Rest = (merkle.Bucket{Sum: d.sum(), Count: d.uvarint()}); l.Rest == (merkle.Bucket{}) {
				d.fail("a rest of nothing")
			}
		}
		if n := d.count(maxRows, leastRow); n > 0 {
			l.Rows = make([]store.Row, n)
		}
		for i := range l.Rows {
			l.Rows[i] = d.row(since)
			if i > 0 && l.Rows[i].Hash < l.Rows[i-1].Hash || l.Rows[i].Hash < l.From || l.Rows[i].Hash > l.To {
				d.fail("a row where it does not belong")
			}
		}
		list = append(list, l)
	}
	return list
}

func appendRow(b []byte, r *store.Row, since uint64) []byte {
	flags := byte(0)
	if r.Gap {
		flags = rowGap
	}
	if r.Deleted() {
		flags = rowDeleted
	}
	b = append(binary.BigEndian.AppendUint64(b, r.Hash), flags)
	b = binary.AppendVarint(b, int64(r.LastIndex-since))
	if r.Deleted() {
		return b
	}
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(b, r.Leaf), r.LastIndex-r.Generation)
}

func (d *decoder) row(since uint64) store.Row {
	r := store.Row{Hash: d.u64()}
	flags := d.byte()
	r.LastIndex = since + uint64(d.varint())
	switch flags {
	case rowDeleted:
		return r
	case 0, rowGap:
	default:
		d.fail("flags of a row")
	}
	r.Gap = flags == rowGap
	r.Leaf = d.u64()
	if r.Generation = r.LastIndex - d.uvarint(); r.Deleted() {
		d.fail("a document without a generation")
	}
	return r
}
