package antientropy

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Bounds of one request of a session.
const (
	listRows     = 4096      // of a reply
	ownRows      = 8192      // of this member's for one page of the peer's
	pullWants    = 1024      // hashes
	pullRequests = 512 << 10 // bytes of a request, about
)

// transfer is the working side of a session: some buckets of one member that are listed and pulled from one peer. The
// plan decides when each request is sent; a transfer knows what it contains and what to do with the reply. It is used by
// one goroutine at a time.
type transfer struct {
	member  Member
	docs    *store.Documents
	peer    string
	limits  *limits
	buckets map[uint8]*store.Session
	open    map[uint8]int // pages and items left

	pages []page  // to list
	items []item  // to pull
	ended []ended // of which everything has been answered; taken by transferState.free

	// What one request came to; collected by the handlers of replies, taken by report.
	failed   []failedBucket
	coverage interval.Set
	counts   counts
	note     string  // what went wrong with a bucket
	damaged  []uint8 // buckets of this member that could not be read; taken by Loop.tellDamage
}

type counts struct {
	documents, entries, alreadyHad int
	bytes                          int64
}

// liarError: a peer's reply cannot be true.
type liarError struct{ err error }

func (e *liarError) Error() string { return "the peer's reply cannot be true: " + e.err.Error() }
func (e *liarError) Unwrap() error { return e.err }

func lies(format string, args ...any) error { return &liarError{fmt.Errorf(format, args...)} }

// limits are what a transfer takes from a peer at most.
type limits struct {
	highest func(partition uint32) uint64 // see Options.Highest
	largest int                           // see Options.LargestBytes
	rows    int                           // of this member's own for one page of the peer's
}

// beyondError: a peer says that it has applied, or learned, more than this host can believe yet. It may be wrong, or this
// host behind.
type beyondError struct{ claim, highest uint64 }

func (e *beyondError) Error() string {
	return fmt.Sprintf("the peer knows index %d, and the log can be at %d at most as far as is known here", e.claim, e.highest)
}

// believe precedes every use of what a peer knows: its index becomes what the member has to reach before it is complete.
func (l *limits) believe(partition uint32, applied, ahead uint64) error {
	claim := max(applied, ahead)
	if highest := l.highest(partition); claim > highest {
		return &beyondError{claim, highest}
	}
	return nil
}

// newTransfer begins a session for each bucket: what is applied here from now on is not healed by it.
func newTransfer(m Member, peer string, buckets []uint8, l *limits) *transfer {
	t := &transfer{member: m, docs: m.Documents(), peer: peer, limits: l, buckets: map[uint8]*store.Session{}, open: map[uint8]int{}}
	for _, b := range buckets {
		t.buckets[b] = t.docs.BeginSession(b)
	}
	// Only now: damage that opens a wider hole later ends the sessions, while one that was met before may have held them up.
	holes := t.docs.Status().Holes
	for _, b := range buckets {
		t.addPage(page{bucket: b, since: since(holes, t.docs.Healed(b)), to: math.MaxUint64})
	}
	return t
}

// since is the index below a bucket's first gap: what did not change after it is the same everywhere, or gone.
func since(holes, healed interval.Set) uint64 {
	missing := holes.Minus(healed)
	if missing.Empty() {
		return 0
	}
	return missing.Min() - 1
}

func (t *transfer) addPage(p page) {
	t.pages = append(t.pages, p)
	t.open[p.bucket]++
}

func (t *transfer) addItem(i item) {
	t.items = append(t.items, i)
	t.open[i.bucket]++
}

// close takes one page or item off; with the last one its bucket has ended.
func (t *transfer) close(bucket uint8) {
	if t.open[bucket]--; t.open[bucket] > 0 {
		return
	}
	if s := t.buckets[bucket]; s != nil {
		delete(t.buckets, bucket)
		t.ended = append(t.ended, ended{bucket: bucket, session: s})
	}
}

// failHere gives a bucket up because of this member.
func (t *transfer) failHere(bucket uint8, err error) {
	t.meet(bucket, err)
	t.fail(bucket, local)
}

// meet notes damage.
func (t *transfer) meet(bucket uint8, err error) {
	if errors.As(err, new(*store.CorruptionError)) {
		t.damaged = append(t.damaged, bucket)
	}
}

// fail gives a bucket up because something went wrong with it; the others go on.
func (t *transfer) fail(bucket uint8, f failure) {
	if t.buckets[bucket] != nil {
		t.giveUp(bucket)
		t.failed = append(t.failed, failedBucket{bucket, f})
	}
}

// giveUp leaves a bucket to others.
func (t *transfer) giveUp(bucket uint8) {
	if s := t.release(bucket); s != nil {
		s.Abandon()
	}
}

// release takes a bucket's session out, for its caller to abandon; nil when there is none.
func (t *transfer) release(bucket uint8) *store.Session {
	s := t.buckets[bucket]
	if s == nil {
		return nil
	}
	delete(t.buckets, bucket)
	t.open[bucket] = 0
	t.pages = slices.DeleteFunc(t.pages, func(p page) bool { return p.bucket == bucket })
	t.items = slices.DeleteFunc(t.items, func(i item) bool { return i.bucket == bucket })
	return s
}

// releaseAll takes out all sessions.
func (t *transfer) releaseAll() (list []*store.Session) {
	for b, s := range t.buckets {
		list = append(list, s)
		delete(t.buckets, b)
	}
	for i := range t.ended {
		list = append(list, t.ended[i].session)
	}
	t.ended = nil
	return list
}

// listRequest asks for all pages that are left; the peer answers as many as fit.
func (t *transfer) listRequest() *listRequest {
	return &listRequest{rows: listRows, pages: t.pages[:min(len(t.pages), maxItems)]}
}

// takeListings works through the reply to listRequest.
func (t *transfer) takeListings(r *listReply) error {
	if len(r.listings) == 0 || len(r.listings) > len(t.pages) {
		return lies("%d listings for %d pages", len(r.listings), len(t.pages))
	}
	asked := slices.Clone(t.pages[:len(r.listings)])
	t.pages = slices.Clone(t.pages[len(r.listings):])
	for i, p := range asked {
		l := r.listings[i]
		if l.Bucket != p.bucket || l.Since != p.since || l.From != p.from || l.To < p.from || l.To > p.to {
			return lies("a listing of bucket %d since %d [%x, %x] for a page of bucket %d since %d [%x, %x]", l.Bucket, l.Since, l.From, l.To,
				p.bucket, p.since, p.from, p.to)
		}
		if err := t.takeListing(p, l); err != nil {
			return err
		}
	}
	return nil
}

// takeListing finds out what a listing teaches: further pages, items to pull, or nothing.
func (t *transfer) takeListing(p page, l *store.Listing) error {
	s := t.buckets[p.bucket]
	if s == nil {
		return nil // given up meanwhile, by another page of this reply
	}
	if err := t.limits.believe(t.member.ID(), l.Applied, l.Ahead); err != nil {
		return err
	}
	s.Answer(l.Coverage, l.Applied, l.Ahead)
	t.coverage = l.Coverage
	mine, err := t.docs.List(p.bucket, store.ListQuery{Since: l.Since, From: l.From, To: l.To, Also: l.Hashes(), Limit: t.limits.rows})
	if err != nil {
		t.failHere(p.bucket, err)
		return nil
	}
	if mine.To < l.To { // more here than there: the rest of a narrower page can be compared with as many rows of mine
		t.addPage(page{bucket: p.bucket, since: p.since, from: l.From, to: mine.To})
		t.addPage(page{bucket: p.bucket, since: p.since, from: mine.To + 1, to: p.to})
		t.close(p.bucket)
		return nil
	}
	plan, err := store.Compare(mine, l)
	if err != nil {
		return &liarError{err}
	}
	switch hashes := plan.Hashes(); {
	case plan.FullNeeded && l.Since == 0:
		return lies("documents that did not change after index 0 in bucket %d", p.bucket)
	case plan.FullNeeded:
		t.addPage(page{bucket: p.bucket, from: l.From, to: l.To})
	case len(hashes) > 0:
		t.addItem(item{bucket: p.bucket, hashes: hashes, listed: documentsOf(l), known: knowledge{l.Coverage, l.Applied, l.Ahead}})
	}
	if l.To < p.to {
		t.addPage(page{bucket: p.bucket, since: p.since, from: l.To + 1, to: p.to})
	}
	t.close(p.bucket)
	return nil
}

// documentsOf returns the hashes of a listing's documents, ascending.
func documentsOf(l *store.Listing) []uint64 {
	var hashes []uint64
	for i := range l.Rows {
		if r := &l.Rows[i]; !r.Deleted() && (len(hashes) == 0 || hashes[len(hashes)-1] != r.Hash) {
			hashes = append(hashes, r.Hash)
		}
	}
	return hashes
}

// pullRequest asks for as many items as fit into a request. Those that need nothing more are closed on the way, so the
// request may be empty.
func (t *transfer) pullRequest(limit int) *pullRequest {
	r := &pullRequest{limit: limit}
	size, wants := 0, 0
	for n := 0; n < len(t.items) && len(r.items) < maxItems && size < pullRequests && wants < pullWants; {
		i := &t.items[n]
		list, err := t.docs.Wants(i.bucket, i.hashes, i.cursor)
		if err != nil {
			if n == 0 {
				t.failHere(i.bucket, err)
				continue
			}
			break // it fails when it is first: until then, what is asked for must stay the first items
		}
		if list = list[:min(len(list), pullWants-wants)]; len(list) == 0 {
			bucket := i.bucket
			t.items = slices.Delete(t.items, n, n+1)
			t.close(bucket)
			continue
		}
		i.ask(list)
		wants += len(list)
		q := store.ExportQuery{Wants: list, From: i.cursor}
		r.items = append(r.items, pullItem{bucket: i.bucket, query: q.AppendBinary(nil)})
		size += len(r.items[len(r.items)-1].query)
		n++
	}
	return r
}

// takeChunks imports the reply to pullRequest.
func (t *transfer) takeChunks(r *pullReply, asked int) error {
	if len(r.chunks) == 0 || len(r.chunks) > asked {
		return lies("%d chunks for %d items", len(r.chunks), asked)
	}
	answered := slices.Clone(t.items[:len(r.chunks)])
	t.items = slices.Clone(t.items[len(r.chunks):])
	decoder := t.docs.ChunkDecoder()
	defer decoder.Close()
	for n := range answered {
		i := answered[n]
		if t.buckets[i.bucket] == nil {
			continue // given up by a chunk before
		}
		c, err := decoder.Decode(r.chunks[n])
		if err != nil {
			return &liarError{err}
		}
		if c.Bucket != i.bucket {
			return lies("a chunk of bucket %d for an item of bucket %d", c.Bucket, i.bucket)
		}
		if err := t.takeChunk(i, c); err != nil {
			return err
		}
	}
	return nil
}

// diverged tells of documents that contradict the peer's, if there are any.
func (t *transfer) diverged(bucket uint8, list []store.Divergence) {
	if len(list) > 0 {
		t.note = tellDiverged(t.member, t.peer, bucket, list)
	}
}

// tellDiverged tells a member of documents that contradict a peer's, and returns what operators are told.
func tellDiverged(m Member, peer string, bucket uint8, list []store.Divergence) string {
	m.Diverged(divergenceOf(m.ID(), peer, bucket, list))
	return fmt.Sprintf("diverged from %s: %s", peer, &list[0])
}

func (t *transfer) takeChunk(i item, c *store.Chunk) error {
	if err := t.limits.believe(t.member.ID(), c.Applied, c.Ahead); err != nil {
		return err
	}
	if hash, found := i.unanswered(c); found {
		return lies("nothing about a document %016x of bucket %d that it listed or was told of", hash, i.bucket)
	}
	if err := i.stops(c); err != nil {
		return err
	}
	t.coverage = c.Coverage
	report, err := t.buckets[i.bucket].Import(c)
	t.count(&report)
	if err != nil {
		var bad *store.ChunkError
		if errors.As(err, &bad) {
			return &liarError{err}
		}
		t.failHere(i.bucket, err)
		return nil
	}
	t.counts.alreadyHad += sentEntries(c) - report.Entries
	t.diverged(i.bucket, report.Divergent)
	rest, _ := slices.BinarySearch(i.hashes, i.asked+1)
	switch {
	case !i.advance(c, report.Entries):
		t.fail(i.bucket, refused)
		return nil
	case !c.Done:
	case rest < len(i.hashes) && i.asked < math.MaxUint64:
		i.hashes = i.hashes[rest:]
		i.cursor = store.Cursor{Hash: i.hashes[0]}
	default:
		t.close(i.bucket)
		return nil
	}
	t.items = append([]item{i}, t.items...)
	return nil
}

func (t *transfer) count(r *store.ImportReport) {
	t.counts.documents += r.Documents
	t.counts.entries += r.Entries
	t.counts.bytes += r.Bytes
}

func sentEntries(c *store.Chunk) int {
	n := 0
	for i := range c.Docs {
		n += len(c.Docs[i].Entries)
	}
	return n
}

// report tells the plan what a request came to, and begins the next account.
func (t *transfer) report(r result) answered {
	a := answered{result: r, Failed: t.failed, Lists: len(t.pages), Pulls: len(t.items), Coverage: t.coverage,
		Documents: t.counts.documents, Entries: t.counts.entries, Imported: t.counts.bytes}
	if a.Text == "" {
		a.Text = t.note
	}
	t.failed, t.counts, t.note = nil, counts{}, ""
	return a
}

func divergenceOf(partition uint32, peer string, bucket uint8, list []store.Divergence) Divergence {
	d := Divergence{Partition: partition, Peer: peer, Bucket: bucket}
	for i := range list[:min(len(list), mostDocuments)] {
		v := &list[i]
		d.Documents = append(d.Documents, Document{Key: v.Key, Hash: v.Key.Hash(), Seq: v.Seq, Reason: string(v.Reason)})
	}
	return d
}
