package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// Requests and replies. Integers are big-endian or uvarints; a checksum is the xxhash64 of everything before it, of the
// uncompressed message, computed by whoever made the message and verified by whoever uses it: it covers the whole way,
// whatever carries it.
//
//	request  version u8 | kind u8 | body | checksum u64
//	compare  index uvarint | root A u64, B u64
//	list     rows uvarint | pages uvarint, each: bucket u8, since uvarint, from u64, to u64
//	pull     limit uvarint | items uvarint, each: bucket u8, length uvarint, store.ExportQuery
//
//	reply    version u8 | kind u8 | compression u8 | body | checksum u64
//	         with compression 1: version u8 | kind u8 | 1 | length of (body | checksum) uvarint | zstd of it
//	compare  outcome u8 | index uvarint | coverage (interval.Set) | ahead uvarint
//	         | outcome differs: merkle.Summary | outcome elsewhere: root A u64, B u64
//	list     listings uvarint, each: length uvarint, store.Listing
//	pull     chunks uvarint, each: length uvarint, store.Chunk
//	large    bytes uvarint
//	refusal  code uvarint | bucket u8 | text to the end
//
// Decoders accept only what the encoders write and allocate no more than a small multiple of their input, or of the
// limit that the asker has set for a compressed reply. Byte slices alias the input.
const messageVersion = 1

type kind uint8

const (
	kindCompare kind = 1
	kindList    kind = 2
	kindPull    kind = 3
	kindLarge   kind = 4 // reply only: a pull's next thing is over the limit
	kindRefusal kind = 5 // reply only: the peer could not answer
)

func (k kind) String() string {
	switch k {
	case kindCompare:
		return "compare"
	case kindList:
		return "list"
	case kindPull:
		return "pull"
	case kindLarge:
		return "large"
	case kindRefusal:
		return "refusal"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Bounds of one request. A server does less than what is asked for when it does not fit, never more.
const (
	maxRows     = 16384   // rows of a list reply
	maxItems    = 256     // pages or items: one for each bucket
	maxBudget   = 1 << 20 // bytes after which a pull reply ends
	minBudget   = 4 << 10
	maxLimit    = 512 << 20 // what a reply may take at most
	maxText     = 256       // bytes of a refusal's text
	checksumLen = 8
)

// ErrMessage: bytes that are not a message of this protocol, or were damaged on their way. errors.Is finds it in what
// the decoders return.
var ErrMessage = errors.New("antientropy: bad message")

// VersionError: a message of a version that this program does not know.
type VersionError struct{ Version uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("antientropy: message of version %d, this program knows %d", e.Version, messageVersion)
}

// request is one of compareRequest, listRequest, pullRequest.
type request interface {
	appendBody(b []byte) []byte
	kind() kind
}

// compareRequest asks whether the peer had the same root at an index.
type compareRequest struct {
	index uint64
	root  merkle.Sum
}

// listRequest asks for rows of several buckets. The reply answers a prefix of the pages, at least one, the last of them
// perhaps in part.
type listRequest struct {
	rows  int
	pages []page
}

// page is a span of hashes of a bucket, to be listed without the documents that did not change after since.
type page struct {
	bucket   uint8
	since    uint64
	from, to uint64
}

// pullRequest asks for documents. The reply answers a prefix of the items, at least one, the last of them perhaps in part.
type pullRequest struct {
	limit int // most bytes of the uncompressed reply; about half of it is the budget
	items []pullItem
}

type pullItem struct {
	bucket uint8
	query  []byte // store.ExportQuery; its budget is overruled
}

func (*compareRequest) kind() kind { return kindCompare }
func (*listRequest) kind() kind    { return kindList }
func (*pullRequest) kind() kind    { return kindPull }

func (r *compareRequest) appendBody(b []byte) []byte {
	return appendSum(binary.AppendUvarint(b, r.index), r.root)
}

func (r *listRequest) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.rows))
	b = binary.AppendUvarint(b, uint64(len(r.pages)))
	for _, p := range r.pages {
		b = binary.AppendUvarint(append(b, p.bucket), p.since)
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, p.from), p.to)
	}
	return b
}

func (r *pullRequest) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.limit))
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	for _, i := range r.items {
		b = appendBytes(append(b, i.bucket), i.query)
	}
	return b
}

func encodeRequest(r request) []byte {
	b := r.appendBody([]byte{messageVersion, byte(r.kind())})
	return appendChecksum(b)
}

func decodeRequest(b []byte) (request, error) {
	d := decoder{b: b}
	d.version()
	d.verify(b)
	var out request
	switch k := kind(d.byte()); k {
	case kindCompare:
		out = &compareRequest{index: d.uvarint(), root: d.sum()}
	case kindList:
		out = d.listRequest()
	case kindPull:
		out = d.pullRequest()
	default:
		d.fail("request of " + k.String())
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return out, nil
}

func (d *decoder) listRequest() *listRequest {
	r := &listRequest{rows: d.atMost(maxRows)}
	for range d.count(maxItems, 18) {
		p := page{bucket: d.byte(), since: d.uvarint(), from: d.u64(), to: d.u64()}
		if p.from > p.to {
			d.fail("empty span of hashes")
		}
		r.pages = append(r.pages, p)
	}
	return r
}

func (d *decoder) pullRequest() *pullRequest {
	r := &pullRequest{limit: d.atMost(maxLimit)}
	for range d.count(maxItems, 2) {
		r.items = append(r.items, pullItem{bucket: d.byte(), query: d.bytes()})
	}
	return r
}

// outcome says what a comparison found.
type outcome uint8

const (
	sameRoot    outcome = 1 // equal at the index asked for
	otherRoot   outcome = 2 // different there; the sums follow
	elsewhere   outcome = 3 // the peer has not applied as much: its root at its own index follows
	unavailable outcome = 4 // the peer cannot tell its state there: too old, or it learned more than it applied
)

// reply is one of compareReply, listReply, pullReply, largeReply, refusal.
type reply interface {
	appendBody(b []byte) []byte
	kind() kind
}

// compareReply answers for one index. Coverage and ahead were read before the sums, so that coverage ∩ [1, index] is
// not more than the sums stand for.
type compareReply struct {
	outcome  outcome
	index    uint64
	coverage interval.Set
	ahead    uint64
	sums     merkle.Summary // otherRoot
	root     merkle.Sum     // elsewhere
}

type listReply struct{ listings [][]byte } // store.Listing

type pullReply struct{ chunks [][]byte } // store.Chunk

// largeReply: the next thing to be sent alone takes this many bytes, more than the asker's limit.
type largeReply struct{ bytes int }

// refusal: the peer cannot answer, because of something about a bucket. It is an error.
type refusal struct {
	code   int
	bucket uint8
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("refused (%d): %s", r.code, r.text) }

func (*compareReply) kind() kind { return kindCompare }
func (*listReply) kind() kind    { return kindList }
func (*pullReply) kind() kind    { return kindPull }
func (*largeReply) kind() kind   { return kindLarge }
func (*refusal) kind() kind      { return kindRefusal }

func (r *compareReply) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(r.outcome)), r.index)
	b = binary.AppendUvarint(r.coverage.AppendBinary(b), r.ahead)
	switch r.outcome {
	case otherRoot:
		b = r.sums.AppendBinary(b)
	case elsewhere:
		b = appendSum(b, r.root)
	}
	return b
}

func (r *listReply) appendBody(b []byte) []byte { return appendList(b, r.listings) }
func (r *pullReply) appendBody(b []byte) []byte { return appendList(b, r.chunks) }

func (r *largeReply) appendBody(b []byte) []byte { return binary.AppendUvarint(b, uint64(r.bytes)) }

func (r *refusal) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(max(0, r.code)))
	return append(append(b, r.bucket), r.text[:min(len(r.text), maxText)]...)
}

// encodeReply does not compress.
func encodeReply(r reply) []byte {
	return appendChecksum(r.appendBody([]byte{messageVersion, byte(r.kind()), plain}))
}

// decodeReply decodes an uncompressed reply; see decompress.
func decodeReply(b []byte) (reply, error) {
	d := decoder{b: b}
	d.version()
	d.verify(b)
	k := kind(d.byte())
	if d.byte() != plain {
		d.fail("compression")
	}
	var out reply
	switch k {
	case kindCompare:
		out = d.compareReply()
	case kindList:
		out = &listReply{listings: d.list()}
	case kindPull:
		out = &pullReply{chunks: d.list()}
	case kindLarge:
		out = &largeReply{bytes: d.atMost(maxLimit)}
	case kindRefusal:
		out = d.refusal()
	default:
		d.fail("reply of " + k.String())
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return out, nil
}

func (d *decoder) compareReply() *compareReply {
	r := &compareReply{outcome: outcome(d.byte()), index: d.uvarint(), coverage: d.intervals(), ahead: d.uvarint()}
	switch r.outcome {
	case sameRoot, unavailable:
	case otherRoot:
		r.sums = d.summary()
	case elsewhere:
		r.root = d.sum()
	default:
		d.fail("outcome of a comparison")
	}
	return r
}

func (d *decoder) refusal() *refusal {
	r := &refusal{code: d.atMost(1 << 31), bucket: d.byte()}
	r.text = string(d.b)
	if len(d.b) > maxText {
		d.fail("text of a refusal")
	}
	d.b = nil
	return r
}

func appendSum(b []byte, s merkle.Sum) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.A), s.B)
}

func appendBytes(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

func appendList(b []byte, list [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = appendBytes(b, v)
	}
	return b
}

func appendChecksum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b)) }
