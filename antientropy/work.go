package antientropy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

// This file is what the loop's workers do: one request each, and what follows from its reply.

// smallLimit bounds replies to comparisons and listings.
const smallLimit = 4 << 20

// take returns the reply, once: a result goes on to the plan without it.
func (r *result) take() []byte {
	b := r.reply
	r.reply = nil
	return b
}

// exchange sends a request and decodes the reply. The result says how it went, for the plan; the reply is nil unless
// that was well. The caller owes let for it, in any case.
func (l *Loop) exchange(ctx context.Context, host string, partition uint32, r request, limit int) (reply, result, error) {
	p, isPull := r.(*pullRequest)
	if isPull {
		p.compress = l.links.wish(host)
	}
	payload := encodeRequest(r)
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	l.countRequest(r, 1, 0)
	start := time.Now()
	b, err := l.o.Caller.Call(ctx, host, partition, payload)
	res := result{Took: time.Since(start), Bytes: len(b), reply: b}
	l.countRequest(r, 0, int64(len(payload)+len(b)))
	if err != nil {
		res.Failure = unreachable
		var coded interface{ Code() int }
		if errors.As(err, &coded) {
			res.Failure = refused
		}
		return nil, res, err
	}
	bind(b, payload)
	plain, err := l.unpack.decompress(b, limit)
	if err != nil {
		res.Failure = liar
		return nil, res, err
	}
	res.held = len(b)
	packed := len(plain) > 0 && &plain[0] != &b[0]
	if packed {
		res.held += len(plain)
	}
	l.hold(res.held)
	if isPull {
		l.links.saw(host, p.compress, packed, len(plain), res.Took)
	}
	out, err := decodeReply(plain)
	if err != nil {
		res.Failure = liar
		return nil, res, err
	}
	switch out := out.(type) {
	case *refusal, *largeReply:
	default:
		if out.kind() != r.kind() && (r.kind() != kindCompare || out.kind() != kindEqual) {
			res.Failure = liar
			return nil, res, lies("a %s for a %s", out.kind(), r.kind())
		}
	}
	return out, res, nil
}

// failed notes why a request came to nothing.
func (l *Loop) failed(what string, host string, partition uint32, r *result, err error) {
	var lie *liarError
	var beyond *beyondError
	switch {
	case errors.As(err, &lie):
		r.Failure = liar
	case errors.As(err, &beyond):
		r.Failure = refused
	}
	l.countFailure(r.Failure)
	r.Text = fmt.Sprintf("%s of %s: %v", what, host, err)
	l.o.Logger.Warn("repair request failed", "request", what, "peer", host, "partition", partition, "failure", r.Failure.String(), "error", err)
}

// compare answers the plan's question whether this member and a peer were the same at one index.
func (l *Loop) compare(ctx context.Context, m Member, o compare) compared {
	docs := m.Documents()
	before := docs.Coverage()
	index := o.At
	if index == 0 {
		index = docs.Applied()
	}
	mine, ok := docs.PastAt(index)
	if !ok {
		return compared{Outcome: unavailable, Unable: o.At == 0}
	}
	r, res, err := l.exchange(ctx, o.Peer, o.Partition, &compareRequest{index: index, root: mine.Sums.Root()}, smallLimit)
	defer l.let(res.held, res.take())
	c := compared{result: res}
	if err == nil {
		err = c.take(docs, r, mine)
	}
	if err != nil {
		if c.Failure == none {
			c.Failure = refused
		}
		l.failed("compare", o.Peer, o.Partition, &c.result, err)
		return c
	}
	// Only what was covered before and after the sums were read is sure to be in them.
	c.Mine = before.Intersect(docs.Coverage()).Covers(interval.Of(1, c.Index))
	if c.Mine && c.Theirs {
		l.count(func(s *Stats) { s.BucketsDifferent += int64(len(c.Differ)) })
	}
	return c
}

// take works out what a peer's answer says about the two members. mine is of the index asked for.
func (c *compared) take(docs *store.Documents, r reply, mine *store.Past) error {
	if _, ok := r.(*equalReply); ok {
		// What a peer that lacks nothing applies later it will cover, too.
		r = &compareReply{outcome: sameRoot, index: mine.Index, coverage: interval.Of(1, math.MaxUint64)}
	}
	a, ok := r.(*compareReply)
	if !ok {
		if no, ok := r.(*refusal); ok {
			return no
		}
		return lies("a %s for a compare", r.kind())
	}
	c.Outcome, c.Index, c.Coverage, c.Past = a.outcome, a.index, a.coverage, mine
	index := mine.Index
	switch a.outcome {
	case sameRoot, otherRoot:
		if a.index != index {
			return lies("sums of index %d instead of %d", a.index, index)
		}
	case elsewhere:
		if a.index >= index {
			return lies("index %d instead of %d, as if that were ahead", a.index, index)
		}
		at, ok := docs.PastAt(a.index)
		switch {
		case !ok:
			c.Outcome = unavailable
		case at.Sums.Root() == a.root:
			c.Outcome, c.Past = sameRoot, at
		}
	}
	if a.outcome == otherRoot {
		c.Differ = merkle.Diff(mine.Sums, &a.sums)
		if len(c.Differ) == 0 {
			return lies("equal sums called different")
		}
		c.Missing = max(0, a.bytes-docs.Status().Bytes)
		c.Docs = new([merkle.Buckets]int)
		for i := range a.sums {
			c.Docs[i] = int(min(a.sums[i].Count, math.MaxInt32))
		}
	}
	c.Theirs = a.ahead <= c.Index && a.coverage.Covers(interval.Of(1, c.Index))
	return nil
}

// list sends a session's next list request.
func (l *Loop) list(ctx context.Context, t *transfer) answered {
	partition := t.member.ID()
	r, res, err := l.exchange(ctx, t.peer, partition, t.listRequest(), smallLimit)
	defer l.let(res.held, res.take())
	if err == nil {
		switch r := r.(type) {
		case *listReply:
			err = t.takeListings(r)
		case *refusal:
			err = l.refusedBucket(t, r)
		default:
			err = lies("a %s for a list", r.kind())
		}
	}
	if err != nil {
		l.failed("list", t.peer, partition, &res, err)
	}
	l.countImport(t)
	l.tellDamage(t)
	return t.report(res)
}

// pull sends a session's next pull request and imports the reply.
func (l *Loop) pull(ctx context.Context, t *transfer, limit int) answered {
	partition := t.member.ID()
	q := t.pullRequest(limit)
	if len(q.items) == 0 {
		return t.report(result{})
	}
	r, res, err := l.exchange(ctx, t.peer, partition, q, limit)
	defer l.let(res.held, res.take())
	large := 0
	if err == nil {
		switch r := r.(type) {
		case *pullReply:
			l.o.Pace(func() { err = t.takeChunks(r, len(q.items)) })
		case *largeReply:
			large, err = t.takeLarge(r, limit)
		case *refusal:
			err = l.refusedBucket(t, r)
		default:
			err = lies("a %s for a pull", r.kind())
		}
	}
	if err != nil {
		l.failed("pull", t.peer, partition, &res, err)
	}
	l.countImport(t)
	l.tellDamage(t)
	a := t.report(res)
	a.Large = large
	return a
}

// tellDamage tells of the buckets that a transfer could not read or merge here.
func (l *Loop) tellDamage(t *transfer) {
	for _, bucket := range t.damaged {
		l.o.Events.Damaged(t.member.ID(), bucket)
	}
	t.damaged = nil
}

// takeLarge accepts that the next thing alone is over the limit; it is asked for again with a limit that it fits.
func (t *transfer) takeLarge(r *largeReply, limit int) (int, error) {
	if r.bytes <= limit {
		return 0, lies("%d bytes said to be over the limit of %d", r.bytes, limit)
	}
	need := r.bytes + r.bytes/8 // the document may grow meanwhile
	if need > t.limits.largest {
		t.fail(t.items[0].bucket, local)
		return 0, nil
	}
	return need, nil
}

// refusedBucket gives up the bucket that the peer cannot serve, and lets the others go on.
func (l *Loop) refusedBucket(t *transfer, r *refusal) error {
	if t.buckets[r.bucket] == nil {
		return lies("refused a bucket it was not asked for: %w", r)
	}
	l.countFailure(refused)
	l.o.Logger.Warn("repair of a bucket refused", "peer", t.peer, "partition", t.member.ID(), "bucket", r.bucket, "code", r.code, "error", r.text)
	t.note = fmt.Sprintf("bucket %d of %s: %v", r.bucket, t.peer, r)
	t.fail(r.bucket, refused)
	return nil
}

// fetch pulls one document, within a session or without healing anything.
func (l *Loop) fetch(ctx context.Context, m Member, session *store.Session, o fetch) fetched {
	docs := m.Documents()
	if session == nil {
		session = docs.BeginSession(o.Bucket)
		defer session.Abandon()
	}
	i := item{bucket: o.Bucket, hashes: []uint64{o.Hash}}
	var total result
	for {
		wants, err := docs.Wants(o.Bucket, i.hashes, i.cursor)
		if err != nil || len(wants) == 0 {
			return fetched{total}
		}
		i.ask(wants)
		more, res, err := l.fetchChunk(ctx, m, o, &i, wants, session)
		total.Took, total.Bytes, total.Failure = total.Took+res.Took, total.Bytes+res.Bytes, res.Failure
		if err != nil {
			l.failed("fetch", o.Peer, o.Partition, &total, err)
			return fetched{total}
		}
		if !more {
			return fetched{total}
		}
	}
}

// fetchChunk gets one chunk of a document and imports it. There is no more of it also when the document is too large for
// its limit, or the peer does not serve it: then the bucket's session will.
func (l *Loop) fetchChunk(ctx context.Context, m Member, o fetch, i *item, wants []store.Want, session *store.Session) (more bool, res result, err error) {
	q := store.ExportQuery{Wants: wants, From: i.cursor}
	r, res, err := l.exchange(ctx, o.Peer, o.Partition, &pullRequest{limit: o.Limit, items: []pullItem{{o.Bucket, q.AppendBinary(nil)}}}, o.Limit)
	defer l.let(res.held, res.take())
	if err != nil {
		return false, res, err
	}
	p, ok := r.(*pullReply)
	if !ok {
		return false, res, nil
	}
	if len(p.chunks) != 1 {
		return false, res, lies("%d chunks for one document", len(p.chunks))
	}
	c, err := store.DecodeChunk(p.chunks[0])
	if err != nil {
		return false, res, &liarError{err}
	}
	if err := l.limits.believe(o.Partition, c.Applied, c.Ahead); err != nil {
		return false, res, err
	}
	if err := i.stops(c); err != nil {
		return false, res, err
	}
	report, err := session.ImportAtOnce(c)
	l.countFetch(c, &report)
	if len(report.Divergent) > 0 {
		m.Diverged(divergenceOf(o.Partition, o.Peer, o.Bucket, report.Divergent))
	}
	var bad *store.ChunkError
	switch {
	case errors.As(err, &bad):
		return false, res, &liarError{err}
	case err != nil:
		if errors.As(err, new(*store.CorruptionError)) {
			l.o.Events.Damaged(o.Partition, o.Bucket)
		}
		res.Failure = local
		return false, res, err
	}
	return i.advance(c, report.Entries) && !c.Done, res, nil
}

// diagnose lists a bucket on both sides, whole, and names the documents that differ.
func (l *Loop) diagnose(ctx context.Context, m Member, o diagnose) diagnosed {
	docs := m.Documents()
	d := diagnosed{}
	for next := (page{bucket: o.Bucket, to: math.MaxUint64}); len(d.Documents) < mostDocuments; {
		r, res, err := l.exchange(ctx, o.Peer, o.Partition, &listRequest{rows: listRows, pages: []page{next}}, smallLimit)
		d.Took, d.Bytes, d.Failure = d.Took+res.Took, d.Bytes+res.Bytes, res.Failure
		var theirs *store.Listing
		if err == nil {
			theirs, err = oneListing(r, next)
		}
		l.let(res.held, res.take())
		if err != nil {
			if d.Failure == none {
				d.Failure = refused
			}
			l.failed("diagnose", o.Peer, o.Partition, &d.result, err)
			return d
		}
		mine, err := docs.List(o.Bucket, store.ListQuery{From: theirs.From, To: theirs.To, Limit: l.limits.rows})
		if err != nil {
			d.Failure = local
			return d
		}
		if mine.To < theirs.To {
			theirs.To = mine.To
			theirs.Rows = slices.DeleteFunc(theirs.Rows, func(r store.Row) bool { return r.Hash > mine.To })
		}
		hashes, undecided := differing(mine, theirs)
		d.Undecided = d.Undecided || undecided
		for _, hash := range hashes[:min(len(hashes), mostDocuments-len(d.Documents))] {
			d.Documents = append(d.Documents, l.name(ctx, docs, o, hash))
		}
		if theirs.To == math.MaxUint64 {
			return d
		}
		next.from = theirs.To + 1
	}
	return d
}

func oneListing(r reply, p page) (*store.Listing, error) {
	if no, ok := r.(*refusal); ok {
		return nil, no
	}
	a, ok := r.(*listReply)
	if !ok || len(a.listings) != 1 {
		return nil, lies("a %s for one page", r.kind())
	}
	l := a.listings[0]
	if l.Bucket != p.bucket || l.Since != 0 || l.From != p.from || l.To < p.from {
		return nil, lies("a listing of another page")
	}
	return l, nil
}

// name finds the key behind a hash: here, or else at the peer.
func (l *Loop) name(ctx context.Context, docs *store.Documents, o diagnose, hash uint64) Document {
	d := Document{Hash: hash, Seq: -1, Reason: "different at one index"}
	wants, err := docs.Wants(o.Bucket, []uint64{hash}, store.Cursor{})
	if err == nil && len(wants) == 1 && len(wants[0].Have) > 0 {
		d.Key = wants[0].Have[0].Key
		return d
	}
	d.Reason = "only the peer has it"
	const limit = 64 << 10
	q := store.ExportQuery{Wants: []store.Want{{Hash: hash}}}
	r, res, err := l.exchange(ctx, o.Peer, o.Partition, &pullRequest{limit: limit, items: []pullItem{{o.Bucket, q.AppendBinary(nil)}}}, limit)
	defer l.let(res.held, res.take())
	if err != nil {
		return d
	}
	if p, ok := r.(*pullReply); ok && len(p.chunks) == 1 {
		if c, err := store.DecodeChunk(p.chunks[0]); err == nil && len(c.Docs) > 0 {
			d.Key = c.Docs[0].Key
		}
	}
	return d
}
