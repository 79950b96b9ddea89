package antientropy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Server answers the requests of peers' loops. It has no state but encoders and buffers kept for reuse. The zero value is ready; safe
// for concurrent use.
type Server struct {
	encoders sync.Pool // of *zstd.Encoder
	chunks   sync.Pool // of *[]byte, in which chunks come together
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
	var out reply
	wish := false
	switch r := r.(type) {
	case *compareRequest:
		out = serveCompare(docs, r)
	case *listRequest:
		out, err = serveList(ctx, docs, r)
	case *pullRequest:
		buffer, _ := s.chunks.Get().(*[]byte)
		if buffer == nil {
			buffer = new([]byte)
		}
		defer s.keep(buffer)
		out, err = servePull(ctx, docs, r, buffer)
		wish = r.compress
	}
	if err != nil {
		return nil, err
	}
	b := encodeReply(out)
	if wish && out.kind() == kindPull && len(b) >= minCompress {
		e, _ := s.encoders.Get().(*zstd.Encoder)
		if e == nil {
			e = newEncoder()
		}
		b = compress(e, b)
		s.encoders.Put(e)
	}
	bind(b, payload)
	return b, nil
}

// mostKept is the largest buffer that is kept: what most replies fit.
const mostKept = 2 * maxBudget

// keep takes a buffer back once the reply is encoded.
func (s *Server) keep(buffer *[]byte) {
	if cap(*buffer) <= mostKept {
		*buffer = (*buffer)[:0]
		s.chunks.Put(buffer)
	}
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
				out.outcome, out.sums, out.bytes = otherRoot, s, docs.Status().Bytes
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

// servePull puts its chunks into the buffer, which is the reply's until it is encoded.
func servePull(ctx context.Context, docs *store.Documents, r *pullRequest, buffer *[]byte) (reply, error) {
	out := &pullReply{}
	budget := min(max(r.limit/2, minBudget), maxBudget)
	size := replyHeader + checksumLen + 3
	for _, item := range r.items {
		if budget <= 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, done, err := exportItem(docs, item, budget, buffer)
		if err != nil {
			if len(out.chunks) > 0 {
				break
			}
			return refuse(item.bucket, err), nil
		}
		size += len(b) + 5
		if size > r.limit {
			if len(out.chunks) > 0 {
				break
			}
			return &largeReply{bytes: size}, nil
		}
		budget -= len(b)
		out.chunks = append(out.chunks, b)
		if !done {
			break // the asker goes on with this item
		}
	}
	return out, nil
}

// exportItem appends a chunk to the buffer. Chunks before it stay valid when the buffer has to move.
func exportItem(docs *store.Documents, item pullItem, budget int, buffer *[]byte) (chunk []byte, done bool, err error) {
	q, err := store.DecodeExportQuery(item.query)
	if err != nil {
		return nil, false, err
	}
	q.Budget = budget
	start := len(*buffer)
	b, done, err := docs.AppendExport(*buffer, item.bucket, q)
	if err != nil {
		return nil, false, err
	}
	*buffer = b
	return b[start:len(b):len(b)], done, nil
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
