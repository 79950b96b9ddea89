package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/store"
)

// claims takes bytes in a goroutine and tells when they are granted.
func claims(ctx context.Context, b *Budget, bytes int64) <-chan error {
	taken := make(chan error, 1)
	go func() { taken <- b.take(ctx, bytes, nil, nil) }()
	synctest.Wait()
	return taken
}

func waits(t *testing.T, what string, taken <-chan error) {
	t.Helper()
	synctest.Wait()
	if len(taken) > 0 {
		t.Errorf("%s does not wait: %v", what, <-taken)
	}
}

func granted(t *testing.T, what string, taken <-chan error) {
	t.Helper()
	synctest.Wait()
	if len(taken) == 0 {
		t.Fatalf("%s still waits", what)
	}
	must(t, <-taken)
}

// TestBudgetServesInOrder: who comes while others wait waits behind them, though there is room for him, so that large commands get
// their turn; and one that is larger than everything is let through alone.
func TestBudgetServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := NewBudget(100)
		if !b.try(60) || !b.try(30) || b.try(11) || !b.try(10) {
			t.Fatal("room for 100 bytes is not what was had")
		}
		large := claims(ctx, b, 1000)
		small := claims(ctx, b, 10)
		b.give(60)
		b.give(30)
		waits(t, "the large one", large)
		waits(t, "the small one behind it", small)
		if b.try(1) {
			t.Error("who does not wait overtakes those who do")
		}
		b.give(10)
		granted(t, "the large one, alone", large)
		waits(t, "the small one", small)
		b.give(1000)
		granted(t, "the small one", small)
		b.give(10)
		if used := b.used.Load(); used != 0 || !b.try(100) {
			t.Errorf("%d bytes are left over", used)
		}
	})
}

// TestBudgetForgetsWhoLeaves: who stops waiting takes nothing, and lets those behind him through.
func TestBudgetForgetsWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		b.try(50)
		ctx, cancel := context.WithCancel(t.Context())
		large, small := claims(ctx, b, 90), claims(t.Context(), b, 50)
		waits(t, "the small one behind the large one", small)
		cancel()
		synctest.Wait()
		if err := <-large; !errors.Is(err, context.Canceled) {
			t.Errorf("the large one: %v", err)
		}
		granted(t, "the small one", small)
		closed := make(chan struct{})
		close(closed)
		if err := b.take(t.Context(), 1, closed, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("the partition is closed: %v", err)
		}
		if err := b.take(t.Context(), 1, nil, closed); !errors.Is(err, errOfficeEnded) {
			t.Errorf("the leadership has ended: %v", err)
		}
		if used, waiting := b.used.Load(), b.waiting.Load(); used != 100 || waiting != 0 {
			t.Errorf("%d bytes taken, %d waiting", used, waiting)
		}
	})
}

// TestBudgetUnderLoad: whoever comes and leaves as he likes, no more is ever taken than there is, nobody waits for ever, and nothing is left
// over.
func TestBudgetUnderLoad(t *testing.T) {
	const limit, workers, rounds = 1000, 8, 3000
	b := NewBudget(limit)
	var held, most atomic.Int64
	var w sync.WaitGroup
	for i := range uint64(workers) {
		w.Go(func() {
			rng := rand.New(rand.NewPCG(i, 1))
			for range rounds {
				n := 1 + rng.Int64N(400)
				if !b.try(n) {
					ctx, cancel := context.WithCancel(context.Background())
					if rng.IntN(4) == 0 {
						go cancel()
					}
					err := b.take(ctx, n, nil, nil)
					cancel()
					if err != nil {
						continue
					}
				}
				for now, was := held.Add(n), most.Load(); now > was && !most.CompareAndSwap(was, now); {
					was = most.Load()
				}
				held.Add(-n)
				b.give(n)
			}
		})
	}
	w.Wait()
	if used, waiting := b.used.Load(), b.waiting.Load(); used != 0 || waiting != 0 || most.Load() > limit {
		t.Errorf("%d bytes left over, %d waiting, %d at the most", used, waiting, most.Load())
	}
}

// heldLeader is a group whose leader's disk stands still.
func heldLeader(t *testing.T, change func(*Options)) (g *gatedGroup, l *node, release func()) {
	g = newGatedGroup(t, change)
	l = g.serving()
	must(t, l.create("first"))
	g.wait("the log to be durable", func() bool { return !l.part.log.landing() })
	return g, l, g.hold(l)
}

func (nd *node) taken() int {
	nd.part.mu.Lock()
	defer nd.part.mu.Unlock()
	if nd.part.lead == nil {
		return 0
	}
	return len(nd.part.lead.waiting)
}

// createLarge creates a document with a delta of a size.
func (nd *node) createLarge(ctx context.Context, k string, size int) error {
	_, err := nd.part.Do(ctx, Operation{Kind: store.Create, Key: key(k), Deltas: []store.Delta{delta(1, strings.Repeat("x", size))}})
	return err
}

// room is what is taken of both budgets.
func (nd *node) room() (own, host int64) {
	return nd.part.bytes.used.Load(), nd.part.o.Budget.used.Load()
}

// TestBytesInFlightAreBounded: while a leader's disk stands still its callers wait, and what it has taken from them does not grow by the number
// of commands alone: with the default limits that would be gigabytes for each partition.
func TestBytesInFlightAreBounded(t *testing.T) { synctest.Test(t, testBytesInFlightAreBounded) }

func testBytesInFlightAreBounded(t *testing.T) {
	_, l, release := heldLeader(t, func(o *Options) { o.Budget = NewBudget(1 << 30) })
	const (
		writers = 96
		size    = 1<<20 - 1<<10 // a delta, by default
		bound   = 64 << 20
	)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	results := make(chan error, writers)
	for i := range writers {
		go func() { results <- l.createLarge(ctx, fmt.Sprint("large", i), size) }()
	}
	synctest.Wait()
	taken := l.taken()
	if taken*size > bound || taken*size < bound*9/10 {
		t.Errorf("the leader took %d commands, %d MB of them, while its disk stood still", taken, taken*size>>20)
	}
	release()
	for range writers {
		must(t, <-results)
	}
	synctest.Wait() // a write is answered before its room is given back
	if own, host := l.room(); own != 0 || host != 0 {
		t.Errorf("%d and %d bytes are left over", own, host)
	}
}

// TestHostsBytesAreBounded: the members of a host share a budget. What one of them has taken of it the others have not, until it is given back;
// a member that does not lead refuses at once all the same.
func TestHostsBytesAreBounded(t *testing.T) { synctest.Test(t, testHostsBytesAreBounded) }

func testHostsBytesAreBounded(t *testing.T) {
	shared := NewBudget(100_000)
	g, l, release := heldLeader(t, func(o *Options) { o.Budget = shared }) // as if all were members of one host
	const size = 30_000
	results := make(chan error, 5)
	shared.try(50_000) // another partition's
	for i := range cap(results) {
		go func() { results <- l.createLarge(t.Context(), fmt.Sprint("large", i), size) }()
	}
	synctest.Wait()
	if n := l.taken(); n != 1 {
		t.Errorf("the leader took %d commands while there was room for one", n)
	}
	var refused *NotServingError
	if err := g.other(l).create("elsewhere"); !errors.As(err, &refused) {
		t.Errorf("a follower without room: %v", err)
	}
	if own := l.part.bytes.used.Load(); own < 5*size {
		t.Errorf("%d bytes are taken of the partition's own", own)
	}
	shared.give(50_000)
	synctest.Wait()
	if n := l.taken(); n != 3 {
		t.Errorf("the leader took %d commands while there was room for three", n)
	}
	release()
	for range cap(results) {
		must(t, <-results)
	}
	synctest.Wait() // a write is answered before its room is given back
	if own, host := l.room(); own != 0 || host != 0 {
		t.Errorf("%d and %d bytes are left over", own, host)
	}
}

// TestWaitForRoomEnds: who waits for room gets his context's error when that ends, and is told who serves when the leadership does. In neither
// case was anything proposed, and nothing stays taken.
func TestWaitForRoomEnds(t *testing.T) { synctest.Test(t, testWaitForRoomEnds) }

func testWaitForRoomEnds(t *testing.T) {
	g, l, _ := heldLeader(t, func(o *Options) {
		o.Limits.InFlightBytes, o.Budget = 50_000, NewBudget(70_000)
	})
	const size = 40_000
	first, late := make(chan error, 1), make(chan error, 2)
	go func() { first <- l.createLarge(t.Context(), "large", size) }()
	synctest.Wait()
	for _, budget := range []*Budget{l.part.bytes, l.part.o.Budget} {
		if budget == l.part.o.Budget {
			l.part.bytes.limit = 1 << 20 // now the host's is what is short
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		before := l.part.proposals
		err := l.createLarge(ctx, "late", size)
		if cancel(); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*AmbiguousError)) || l.part.proposals != before {
			t.Errorf("the wait for room ended: %v, and %d were proposed", err, l.part.proposals-before)
		}
		if own, host := l.room(); own > size+300 || host > size+300 {
			t.Errorf("%d and %d bytes are taken by one command", own, host)
		}
	}
	for i := range 2 {
		go func() { late <- l.createLarge(t.Context(), fmt.Sprint("late", i), size) }()
	}
	synctest.Wait()
	g.isolate(l)
	for range 2 {
		if err := <-late; !errors.As(err, new(*NotServingError)) {
			t.Errorf("the leadership ended: %v", err)
		}
	}
	if err := <-first; !errors.As(err, new(*AmbiguousError)) {
		t.Errorf("what was in flight: %v", err)
	}
	synctest.Wait()
	if own, host := l.room(); own != 0 || host != 0 {
		t.Errorf("%d and %d bytes are left over", own, host)
	}
}

// TestRoomAfterALook: an operation that had to look at stored entries and then had no room is proposed as it was evaluated.
func TestRoomAfterALook(t *testing.T) { synctest.Test(t, testRoomAfterALook) }

func testRoomAfterALook(t *testing.T) {
	g := newGatedGroup(t, func(o *Options) { o.Budget = NewBudget(10_000) })
	l := g.serving()
	must(t, l.create("a"))
	for seq := int64(2); seq <= 5; seq++ {
		if _, err := l.append("a", seq, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	l.part.o.Budget.try(9_950)
	done := make(chan error, 1)
	go func() {
		_, err := l.part.Do(t.Context(), Operation{Kind: store.Compact, Key: key("a"), Seq: 4, JSON: []byte("{}"), History: 1})
		done <- err
	}()
	synctest.Wait()
	if len(done) > 0 {
		t.Fatalf("there was no room: %v", <-done)
	}
	l.part.o.Budget.give(9_950)
	must(t, <-done)
	h, _, err := l.part.o.Documents.Head(key("a"))
	if err != nil || h.BaseSeq != 4 || h.Floor != 3 || h.HeadSeq != 5 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestRoomOfWhatIsRefused: what had to wait for room, and then is refused, or has to wait for something else, gives the room back.
func TestRoomOfWhatIsRefused(t *testing.T) { synctest.Test(t, testRoomOfWhatIsRefused) }

func testRoomOfWhatIsRefused(t *testing.T) {
	g := newGatedGroup(t, func(o *Options) { o.Budget = NewBudget(10_000) })
	l := g.serving()
	must(t, l.create("a"))
	l.part.o.Budget.try(9_950)
	results := make(chan error, 2)
	for range cap(results) {
		go func() { results <- l.create("b") }() // both find that there is no such document, and one of them will be wrong
	}
	synctest.Wait()
	if len(results) > 0 {
		t.Fatalf("there was no room: %v", <-results)
	}
	l.part.o.Budget.give(9_950)
	refused := 0
	for range cap(results) {
		if err := <-results; errors.As(err, new(*store.ExistsError)) {
			refused++
		} else {
			must(t, err)
		}
	}
	synctest.Wait()
	if own, host := l.room(); refused != 1 || own != 0 || host != 0 {
		t.Errorf("%d were refused, %d and %d bytes are left over", refused, own, host)
	}
}

// BenchmarkBudget is what a command costs that finds room.
func BenchmarkBudget(b *testing.B) {
	own, host := NewBudget(64<<20), NewBudget(256<<20)
	b.ReportAllocs()
	for b.Loop() {
		if !own.try(300) || !host.try(300) {
			b.Fatal("no room")
		}
		own.give(300)
		host.give(300)
	}
}
