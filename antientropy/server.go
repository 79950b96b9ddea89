package antientropy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Server answers the requests of peers' loops. It has no state but encoders kept for reuse. The zero value is ready; safe for
// concurrent use.
type Server struct {
	encoders sync.Pool // of *zstd.Encoder
}

// Serve answers one request; a host that answers many keeps a Server.
func Serve(ctx context.Context, docs *store.Documents, payload []byte) ([]byte, error) {
	return new(Server).Serve(ctx, docs, payload)
}

// Serve answers a request from the documents alone, whatever state the member is in. A sick member says what it covers,
// and its peers take no more than that from it.
//
// A reply never takes more than the asker's limit, nor much more memory than that while it is made. Failures that
// concern the question (damaged documents, a query that makes no sense) travel in the reply; an error is returned for a
// request that is not understood and for a context that has ended.
func (s *Server) Serve(ctx context.Context, docs *store.Documents, payload []byte) ([]byte, error) {
	r, err := decodeRequest(payload)
	if err != nil {
		return nil, err
	}
	var b []byte
	switch r := r.(type) {
	case *compareRequest:
		b = encodeReply(serveCompare(docs, r))
	case *listRequest:
		var out reply
		if out, err = serveList(ctx, docs, r); err == nil {
			b = encodeReply(out)
		}
	case *pullRequest:
		b, err = s.pull(ctx, docs, r)
	}
	if err != nil {
		return nil, err
	}
	bind(b, payload)
	return b, nil
}

// pull answers with documents, compressed if that is wanted and worth it.
func (s *Server) pull(ctx context.Context, docs *store.Documents, r *pullRequest) ([]byte, error) {
	b, other, err := servePull(ctx, docs, r)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return encodeReply(other), nil
	}
	if r.compress && len(b) >= minCompress {
		e, _ := s.encoders.Get().(*zstd.Encoder)
		if e == nil {
			e = newEncoder()
		}
		b = compress(e, b)
		s.encoders.Put(e)
	}
	return b, nil
}

// serveCompare answers at the asker's index when it can be, and otherwise at this member's own.
//
// The coverage is read before and after the sums, and what both hold counts. While no hole is made, coverage ∩ [1, index]
// only grows; holes that appear meanwhile lie above all that was applied before, unless a scrub made them.
func serveCompare(docs *store.Documents, r *compareRequest) reply {
	before := docs.Position()
	out := &compareReply{outcome: unavailable, index: before.Applied, ahead: before.Ahead}
	switch {
	case before.Applied < r.index:
		if s, ok := docs.SummaryAt(before.Applied); ok {
			out.outcome, out.root = elsewhere, s.Root()
		}
	default:
		if s, ok := docs.SummaryAt(r.index); ok {
			out.outcome, out.index = sameRoot, r.index
			if s.Root() != r.root {
				out.outcome, out.sums, out.bytes = otherRoot, *s, docs.Status().Bytes
			}
		}
	}
	after := docs.Coverage()
	out.coverage = interval.Of(1, before.Applied).Minus(before.Holes).Intersect(after)
	if out.outcome == sameRoot && out.ahead <= out.index && out.coverage.Covers(interval.Of(1, out.index)) {
		return &equalReply{}
	}
	return out
}

func serveList(ctx context.Context, docs *store.Documents, r *listRequest) (reply, error) {
	out := &listReply{}
	rows := min(max(r.rows, 1), maxRows)
	for _, p := range r.pages {
		if rows <= 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		q := store.ListQuery{Since: p.since, From: p.from, To: p.to, Limit: rows}
		l, err := docs.List(p.bucket, q)
		if err != nil {
			if len(out.listings) > 0 {
				break // the asker gets what there is, and the failure when it asks for this page alone
			}
			return refuse(p.bucket, err), nil
		}
		rows -= len(l.Rows) + 1
		out.listings = append(out.listings, l)
	}
	return out, nil
}

// servePull returns an encoded pullReply, or what is to be answered instead.
func servePull(ctx context.Context, docs *store.Documents, r *pullRequest) ([]byte, reply, error) {
	out := newPullEncoder()
	budget := min(max(r.limit/2, minBudget), maxBudget)
	size := replyHeader + checksumLen + 3
	for _, item := range r.items {
		if budget <= 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, done, err := out.export(docs, item, budget)
		if err != nil {
			if out.chunks > 0 {
				break
			}
			return nil, refuse(item.bucket, err), nil
		}
		size += n + 5
		if size > r.limit {
			if out.chunks > 0 {
				break
			}
			return nil, &largeReply{bytes: size}, nil
		}
		budget -= n
		out.take(n)
		if !done {
			break // the asker goes on with this item
		}
	}
	return out.end(), nil, nil
}

// pullEncoder writes a pullReply whose chunks are made where they are to be sent from: there are up to a million bytes in them.
//
//	b  header | count | length | chunk | length | chunk | ...
//
// Lengths and the count are known afterwards. The room left for them is what they nearly always take.
type pullEncoder struct {
	b      []byte
	chunks int
}

const (
	countRoom  = 1 // up to 127 chunks
	lengthRoom = 3 // chunks of 16 KiB to 2 MiB; what is smaller is soon moved
)

func newPullEncoder() *pullEncoder {
	b := make([]byte, replyHeader+countRoom, 64)
	b[0], b[1], b[2] = messageVersion, byte(kindPull), plain
	return &pullEncoder{b: b}
}

// export puts the chunk that answers an item behind what is there; it counts once it is taken.
func (p *pullEncoder) export(docs *store.Documents, item pullItem, budget int) (size int, done bool, err error) {
	q, err := store.DecodeExportQuery(item.query)
	if err != nil {
		return 0, false, err
	}
	q.Budget = budget
	at := len(p.b) + lengthRoom
	b, done, err := docs.AppendExport(append(p.b, make([]byte, lengthRoom)...), item.bucket, q)
	if err != nil {
		return 0, false, err
	}
	p.b = b[:at-lengthRoom] // until it is taken
	return len(b) - at, done, nil
}

// take makes the chunk of n bytes that was exported last a part of the reply.
func (p *pullEncoder) take(n int) {
	at := len(p.b)
	p.b = p.b[:at+lengthRoom+n]
	p.b = fill(p.b, at, lengthRoom, uint64(n))
	p.chunks++
}

// end returns the whole reply.
func (p *pullEncoder) end() []byte {
	return appendChecksum(fill(p.b, replyHeader, countRoom, uint64(p.chunks)))
}

// fill writes a number where room was left for it, and moves what follows when it takes another size.
func fill(b []byte, at, room int, v uint64) []byte {
	var number [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(number[:], v)
	if n == room {
		copy(b[at:], number[:n])
		return b
	}
	return slices.Replace(b, at, at+room, number[:n]...)
}

// refuse tells the asker what is wrong with a bucket. An engine that is being closed is no different: another peer will do.
func refuse(bucket uint8, err error) *refusal {
	code := 0
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		code = coded.Code()
	}
	if code < 0 || code > math.MaxInt32 {
		code = 0
	}
	return &refusal{code: code, bucket: bucket, text: fmt.Sprint(err)}
}
