package demo

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
)

// record is what is known of one document's writes. Its writer owns it until the load has ended.
type record struct {
	script script
	writes int   // acknowledged operations
	deltas int   // acknowledged deltas
	head   int64 // their last seq; 0 when nothing was acknowledged
	// unknown are deltas whose outcome the client never learned: they may be there or not, all or none.
	unknown []adamant.Delta

	left atomic.Int64 // deltas still to be acknowledged; 1 for ever when the script has no end
}

func newRecord(s script) *record {
	r := &record{script: s}
	r.left.Store(int64(max(1, s.length())))
	return r
}

// load drives scripts: every document belongs to one writer, so it has one append in flight.
type load struct {
	client  *client
	records []*record
	writers int
	batch   int // deltas of one append of a replay
	cadence *cadence

	acked atomic.Int64  // deltas acknowledged
	stop  chan struct{} // closed by end
	done  chan struct{} // closed when run returns
	once  sync.Once
}

// gameBatch is the most deltas of one append to a generated document, whose writers wait for each other.
const gameBatch = 3

func newLoad(c *client, scripts []script, writers, batch int) *load {
	l := &load{client: c, writers: max(1, min(writers, len(scripts))), batch: batch, cadence: newCadence(time.Now()), stop: make(chan struct{}), done: make(chan struct{})}
	for _, s := range scripts {
		l.records = append(l.records, newRecord(s))
	}
	// Neighbours in hash order share a partition. A writer gets neighbours, so that a partition without a leader stops
	// the writers of its documents and no others: what independent clients would see.
	slices.SortFunc(l.records, func(a, b *record) int { return cmp.Compare(a.script.key().Hash(), b.script.key().Hash()) })
	return l
}

// end lets the writers finish what they are writing, and the scripts that have an end; the others stop.
func (l *load) end() { l.once.Do(func() { close(l.stop) }) }

func (l *load) ending() bool { return closed(l.stop) }

// over reports whether no writer is at work any more, or one has failed.
func (l *load) over() bool { return closed(l.done) }

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// run writes until every script has ended, or the context does; scripts without an end stop when end is called. The error
// joins what the writers could not do; a record says what is unknown because of it.
func (l *load) run(ctx context.Context) error {
	defer close(l.done)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, l.writers)
	for w := range l.writers {
		wg.Go(func() {
			if err := l.write(ctx, w); err != nil {
				errs[w] = err
				cancel(errStopped)
			}
		})
	}
	wg.Wait()
	return firstCauses(errs)
}

// errStopped ends the other writers when one has failed.
var errStopped = errors.New("another writer failed")

// firstCauses joins the errors, without those that only follow from others.
func firstCauses(errs []error) error {
	var own []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, errStopped) {
			own = append(own, err)
		}
	}
	return errors.Join(own...)
}

// write drives the documents of one writer: first it creates them all, then it picks at random.
func (l *load) write(ctx context.Context, w int) error {
	mine := slices.Clone(l.records[w*len(l.records)/l.writers : (w+1)*len(l.records)/l.writers])
	rng := rand.New(rand.NewPCG(uint64(w), 1))
	created := 0 // the first documents of mine
	for len(mine) > 0 {
		if l.ending() {
			mine = slices.DeleteFunc(mine, func(r *record) bool { return r.script.length() == 0 })
			created = min(created, len(mine))
			if len(mine) == 0 {
				break
			}
		}
		at := created
		if created == len(mine) {
			at = rng.IntN(len(mine))
		}
		more, err := l.step(ctx, mine[at], 1+rng.IntN(gameBatch))
		switch {
		case err != nil:
			return err
		case !more:
			mine = slices.Delete(mine, at, at+1)
			created = min(created, len(mine))
		case at == created:
			created++
		}
	}
	return nil
}

// step writes the next deltas of a document; more is false when its script has ended.
func (l *load) step(ctx context.Context, r *record, batch int) (more bool, err error) {
	if r.script.length() > 0 {
		batch = l.batch // a replay wants to come to its end
	}
	if r.head == 0 {
		batch = 1
	}
	deltas := r.script.next(batch)
	if len(deltas) == 0 {
		return false, nil
	}
	start := time.Now()
	r.unknown = deltas
	if r.head == 0 {
		err = l.client.create(ctx, r.script.key(), deltas[0])
	} else {
		err = l.client.append(ctx, r.script.key(), deltas)
	}
	if err != nil {
		return true, err
	}
	now := time.Now()
	l.cadence.ack(now, now.Sub(start), len(deltas))
	r.unknown = nil
	r.writes++
	r.deltas += len(deltas)
	if n := r.script.length(); n > 0 {
		r.left.Store(int64(n - r.deltas))
	}
	r.head = deltas[len(deltas)-1].SeqEnd
	l.acked.Add(int64(len(deltas)))
	return true, nil
}

// total is how many deltas the scripts have together; 0 when one of them has no end.
func (l *load) total() int64 {
	sum := int64(0)
	for _, r := range l.records {
		n := r.script.length()
		if n == 0 {
			return 0
		}
		sum += int64(n)
	}
	return sum
}

// cadence measures how acknowledgements come in: per second, and the longest that any write had to wait for its own.
type cadence struct {
	start time.Time

	mu      sync.Mutex
	seconds []second
	writes  int64
	longest time.Duration
	since   time.Time // when the write that waited longest was first tried
}

// second is what was acknowledged in one second of the load.
type second struct {
	writes, deltas int
	slowest        time.Duration
}

func (s *second) add(t second) {
	s.writes += t.writes
	s.deltas += t.deltas
	s.slowest = max(s.slowest, t.slowest)
}

func newCadence(start time.Time) *cadence { return &cadence{start: start} }

// ack notes an acknowledgement at a time, of a write that was first tried `waited` before.
func (c *cadence) ack(at time.Time, waited time.Duration, deltas int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := max(0, int(at.Sub(c.start)/time.Second))
	for len(c.seconds) <= i {
		c.seconds = append(c.seconds, second{})
	}
	s := &c.seconds[i]
	s.writes++
	s.deltas += deltas
	s.slowest = max(s.slowest, waited)
	c.writes++
	if waited > c.longest {
		c.longest, c.since = waited, at.Add(-waited)
	}
}

// at returns what was acknowledged in second i of the load.
func (c *cadence) at(i int) second {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || i >= len(c.seconds) {
		return second{}
	}
	return c.seconds[i]
}

// worst returns the longest wait of a write, and when it began after the start of the load.
func (c *cadence) worst() (waited, began time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.longest, c.since.Sub(c.start)
}
