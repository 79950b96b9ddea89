package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

// Requests and replies. Integers are big-endian or uvarints; a checksum is the xxhash64 of everything before it, of the
// uncompressed message, computed by whoever made the message and verified by whoever uses it: it covers the whole way,
// whatever carries it. The two messages that healthy members exchange all the time, compare and equal, are a few bytes and
// carry the lower half of it: with two frames' headers (32 bytes each) a comparison takes less than 100 bytes.
//
//	request  version u8 | kind u8 | body | checksum u64; of compare u32
//	compare  index uvarint | root A u64, B u64
//	list     rows uvarint | pages, see message_list.go
//	pull     limit uvarint | compress u8 | items uvarint, each: bucket u8, length uvarint, store.ExportQuery
//
//	reply    version u8 | kind u8 | compression u8 | body | checksum u64; of equal u32
//	         with compression 1: version u8 | kind u8 | 1 | length of (body | checksum) uvarint | zstd of it
//	equal    nothing: the same root at the index asked for, which the peer holds the truth of
//	compare  outcome u8 | index uvarint | coverage (interval.Set) | ahead uvarint
//	         | outcome differs: bytes uvarint, merkle.Summary (compact) | outcome elsewhere: root A u64, B u64
//	list     listings, see message_list.go
//	pull     chunks uvarint, each: length uvarint, store.Chunk
//	large    bytes uvarint
//	refusal  code uvarint | bucket u8 | text to the end
//
// The last four bytes of a reply are combined with those of the request that it answers (bind), so that the answer to another
// question is none: equal says nothing of what it is about.
//
// Decoders accept only what the encoders write and allocate no more than a small multiple of their input, or of the
// limit that the asker has set for a compressed reply. Byte slices alias the input.
const messageVersion = 3

type kind uint8

const (
	kindCompare kind = 1
	kindList    kind = 2
	kindPull    kind = 3
	kindLarge   kind = 4 // reply only: a pull's next thing is over the limit
	kindRefusal kind = 5 // reply only: the peer could not answer
	kindEqual   kind = 6 // reply only, to a compare
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
	case kindEqual:
		return "equal"
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
	smallSumLen = 4
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
	limit    int  // most bytes of the uncompressed reply; about half of it is the budget
	compress bool // the reply, if that makes it smaller
	items    []pullItem
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
	return appendPages(binary.AppendUvarint(b, uint64(r.rows)), r.pages)
}

func (r *pullRequest) appendBody(b []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(r.limit)), 0)
	if r.compress {
		b[len(b)-1] = 1
	}
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	for _, i := range r.items {
		b = appendBytes(append(b, i.bucket), i.query)
	}
	return b
}

func encodeRequest(r request) []byte {
	b := r.appendBody([]byte{messageVersion, byte(r.kind())})
	if r.kind() == kindCompare {
		return appendSmallSum(b)
	}
	return appendChecksum(b)
}

func decodeRequest(b []byte) (request, error) {
	d := decoder{b: b}
	d.version()
	k := d.verified(b, kindCompare)
	var out request
	switch k {
	case kindCompare:
		out = &compareRequest{index: d.uvarint(), root: d.sum()}
	case kindList:
		out = &listRequest{rows: d.atMost(maxRows), pages: d.pages()}
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

func (d *decoder) pullRequest() *pullRequest {
	r := &pullRequest{limit: d.atMost(maxLimit), compress: d.atMost(1) == 1}
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

// reply is one of equalReply, compareReply, listReply, pullReply, largeReply, refusal.
type reply interface {
	appendBody(b []byte) []byte
	kind() kind
}

// equalReply answers most comparisons: the root is the same at the index asked for, all of [1, index] is covered, and nothing
// beyond was learned.
type equalReply struct{}

// compareReply answers for one index. Coverage and ahead were read before the sums, so that coverage ∩ [1, index] is
// not more than the sums stand for.
type compareReply struct {
	outcome  outcome
	index    uint64
	coverage interval.Set
	ahead    uint64
	bytes    int64          // otherRoot: that the peer's documents take
	sums     merkle.Summary // otherRoot
	root     merkle.Sum     // elsewhere
}

type listReply struct{ listings []*store.Listing }

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

func (*equalReply) kind() kind   { return kindEqual }
func (*compareReply) kind() kind { return kindCompare }
func (*listReply) kind() kind    { return kindList }
func (*pullReply) kind() kind    { return kindPull }
func (*largeReply) kind() kind   { return kindLarge }
func (*refusal) kind() kind      { return kindRefusal }

func (*equalReply) appendBody(b []byte) []byte { return b }

func (r *compareReply) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(r.outcome)), r.index)
	b = binary.AppendUvarint(r.coverage.AppendBinary(b), r.ahead)
	switch r.outcome {
	case otherRoot:
		b = r.sums.AppendCompact(binary.AppendUvarint(b, uint64(r.bytes)))
	case elsewhere:
		b = appendSum(b, r.root)
	}
	return b
}

func (r *listReply) appendBody(b []byte) []byte { return appendListings(b, r.listings) }
func (r *pullReply) appendBody(b []byte) []byte { return appendList(b, r.chunks) }

func (r *largeReply) appendBody(b []byte) []byte { return binary.AppendUvarint(b, uint64(r.bytes)) }

func (r *refusal) appendBody(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(max(0, r.code)))
	return append(append(b, r.bucket), r.text[:min(len(r.text), maxText)]...)
}

// bind ties an encoded reply to its request, in place; to do it twice is to undo it. Where the reply ends there is its checksum, or
// the last of what was compressed together with that; where the request ends there is its own.
func bind(reply, request []byte) {
	n := min(len(reply), len(request), smallSumLen)
	for i := 1; i <= n; i++ {
		reply[len(reply)-i] ^= request[len(request)-i]
	}
}

// encodeReply does not compress.
func encodeReply(r reply) []byte {
	size := 64
	if p, ok := r.(*pullReply); ok {
		for _, c := range p.chunks {
			size += binary.MaxVarintLen32 + len(c)
		}
	}
	b := r.appendBody(append(make([]byte, 0, size), messageVersion, byte(r.kind()), plain))
	if r.kind() == kindEqual {
		return appendSmallSum(b)
	}
	return appendChecksum(b)
}

// decodeReply decodes an uncompressed reply; see decompress.
func decodeReply(b []byte) (reply, error) {
	d := decoder{b: b}
	d.version()
	k := d.verified(b, kindEqual)
	if d.byte() != plain {
		d.fail("compression")
	}
	var out reply
	switch k {
	case kindEqual:
		out = &equalReply{}
	case kindCompare:
		out = d.compareReply()
	case kindList:
		out = &listReply{listings: d.listings()}
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
		r.bytes, r.sums = int64(d.atMost(math.MaxInt64)), d.summary()
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

// appendSmallSum is for messages so small that the rest of the checksum would be a good part of them.
func appendSmallSum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(xxhash.Sum64(b)))
}

func appendChecksum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b)) }
