package antientropy

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// ended is a bucket of which everything has been answered. What is left of it, to write and to sync what was gathered, takes
// longer than the peer took; the transfer's next request does not wait for that.
type ended struct {
	bucket  uint8
	session *store.Session
	healed  interval.Set
	err     error
}

// atOnce is how many buckets of one reply are finished side by side. To finish one is to wait for several fsyncs, which those
// that are side by side share in part; each takes a megabyte to write with. There are
// mostFinishes times as many in all.
const atOnce = 4

// finishAll ends the sessions of buckets.
func finishAll(list []ended) {
	if len(list) == 1 {
		list[0].healed, list[0].err = list[0].session.Finish()
		return
	}
	var workers sync.WaitGroup
	var next atomic.Int32
	for range min(len(list), atOnce) {
		workers.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(list); n = int(next.Add(1)) - 1 {
				list[n].healed, list[n].err = list[n].session.Finish()
			}
		})
	}
	workers.Wait()
}

// finish has a worker end the sessions of buckets. It needs nothing of the transfer, whose next request may be under way.
func (r *runner) finish(o finish) {
	s := r.transfers[o.Session]
	t, list := s.t, s.take(o.Buckets)
	r.workOn(t.docs, func() event { e := r.l.finish(t.member, t.peer, list); e.Session = o.Session; return e })
}

// finish ends the sessions of buckets that a peer has answered for.
func (l *Loop) finish(m Member, peer string, list []ended) settled {
	l.o.Pace(func() { finishAll(list) })
	var e settled
	for i := range list {
		l.takeEnded(m, peer, &list[i], &e)
	}
	return e
}

// takeEnded notes what became of a bucket.
func (l *Loop) takeEnded(m Member, peer string, b *ended, e *settled) {
	if list := b.session.Diverged(); len(list) > 0 {
		e.Text = tellDiverged(m, peer, b.bucket, list)
	}
	switch {
	case b.err == nil:
		e.Finished = append(e.Finished, finishedBucket{b.bucket, b.healed})
	case errors.Is(b.err, store.ErrSessionDiverged):
		l.count(func(s *Stats) { s.Divergences++ })
		e.Failed = append(e.Failed, failedBucket{b.bucket, diverged})
	case errors.As(b.err, new(*store.ChunkError)): // what was gathered of the peer's chunks contradicts what it covers
		e.Failed = append(e.Failed, failedBucket{b.bucket, refused})
	default:
		if errors.As(b.err, new(*store.CorruptionError)) {
			l.o.Events.Damaged(m.ID(), b.bucket)
		}
		e.Failed = append(e.Failed, failedBucket{b.bucket, local})
	}
}
