package adamant

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// spoiledNet is a network whose forwarded operations can be spoiled on their way.
type spoiledNet struct {
	mesh.Network
	spoil *atomic.Pointer[func(ctx context.Context, call func(context.Context) ([]byte, error)) ([]byte, error)]
}

func (n spoiledNet) Call(ctx context.Context, to mesh.Target, r mesh.Request) ([]byte, error) {
	call := func(ctx context.Context) ([]byte, error) { return n.Network.Call(ctx, to, r) }
	if spoil := n.spoil.Load(); spoil != nil && len(r.Payload) > 0 && r.Payload[0] == callForward {
		return (*spoil)(ctx, call)
	}
	return call(ctx)
}

// forwarding is a cluster of three hosts that forward, with one partition, on a simulated network.
type forwarding struct {
	*testCluster
	net   *simnet.Net
	spoil atomic.Pointer[func(ctx context.Context, call func(context.Context) ([]byte, error)) ([]byte, error)]
}

func newForwarding(t *testing.T, change func(*Options)) *forwarding {
	sim := newSimulation()
	f := &forwarding{net: sim.net}
	c := &config.Cluster{Name: "test", Version: 1, Hosts: map[string]config.Host{}, Partitions: []config.Partition{{ID: 0}}}
	for i := range 3 {
		name := fmt.Sprintf("h%d", i+1)
		c.Hosts[name] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i), HTTP: fmt.Sprintf("127.0.0.1:%d", 7481+i)}
		c.Partitions[0].Voters = append(c.Partitions[0].Voters, name)
	}
	f.testCluster = &testCluster{t: t, sim: sim, hosts: map[string]*Host{}, config: c}
	f.change = func(o *Options) {
		o.Forward = true
		o.Network = func(id mesh.Identity) mesh.Network { return spoiledNet{f.net.Host(id), &f.spoil} }
		if change != nil {
			change(o)
		}
	}
	t.Cleanup(f.close)
	for _, n := range c.HostNames() {
		f.open(n)
	}
	f.ready()
	return f
}

// sides are the host that leads, once all agree that it serves, and another one.
func (f *forwarding) sides() (leader, other *Host) {
	f.t.Helper()
	f.wait("a leader that everybody knows to serve", func() error {
		name := ""
		for _, h := range f.live() {
			r := h.Routing()[0]
			if !r.Serving || name != "" && name != r.Leader {
				return fmt.Errorf("%s knows %+v", h.name, r)
			}
			name = r.Leader
		}
		for _, h := range f.live() {
			if h.name == name {
				leader = h
			} else {
				other = h
			}
		}
		return nil
	})
	return leader, other
}

// TestForward: every operation at a host that does not lead is what it would be at the leader, result or error, and goes there
// once.
func TestForward(t *testing.T) { synctest.Test(t, testForward) }

func testForward(t *testing.T) {
	f := newForwarding(t, func(o *Options) { o.Limits.DeltaBytes = 1000 })
	leader, h := f.sides()
	ctx, key := testContext(t), testKey(1)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before := h.counts.forwarded.Load()
	must(h.Create(ctx, key, testDelta(1, "a")))
	head, err := h.Append(ctx, key, []Delta{testDelta(2, "b"), testDelta(3, "c")})
	if must(err); head != 3 {
		t.Errorf("head %d", head)
	}
	if head, err = h.Append(ctx, key, []Delta{testDelta(2, "b"), testDelta(3, "c")}); err != nil || head != 3 {
		t.Errorf("the same again: %d, %v", head, err)
	}
	for _, read := range []func(*Host) (Document, error){
		func(h *Host) (Document, error) { return h.Get(ctx, key) },
		func(h *Host) (Document, error) { return h.Get(ctx, key, WithConsistency(ReadQuorum)) },
		func(h *Host) (Document, error) { return h.HeadPatch(ctx, key, 1) },
		func(h *Host) (Document, error) { return h.Rewind(ctx, key, 1) },
	} {
		want, err := read(leader)
		must(err)
		if got, err := read(h); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	epoch, err := leader.Lease(0)
	must(err)
	_, err = h.Append(InEpoch(ctx, epoch.Epoch), key, []Delta{testDelta(4, "d")})
	must(err)
	for _, tc := range []struct {
		do   func() error
		want error
	}{
		{func() error { return h.Create(ctx, key, testDelta(1, "x")) }, &ExistsError{Key: key}},
		{func() error { _, err := h.Append(ctx, key, []Delta{testDelta(9, "x")}); return err }, &SeqMismatchError{Key: key, Head: 4}},
		{func() error { _, err := h.Append(ctx, key, nil); return err }, &InvalidError{Key: key}},
		{func() error {
			_, err := h.Append(ctx, key, []Delta{testDelta(5, strings.Repeat("x", 2000))})
			return err
		}, &TooLargeError{Key: key}},
		{func() error {
			_, err := h.Append(InEpoch(ctx, epoch.Epoch+1), key, []Delta{testDelta(5, "e")})
			return err
		}, &EpochError{0, epoch.Epoch}},
		{func() error { _, err := h.Get(ctx, testKey(2)); return err }, &NotFoundError{Key: testKey(2)}},
		{func() error { _, err := h.HeadPatch(ctx, key, 9); return err }, &FutureError{Key: key, Op: "headpatch", Seq: 9, Head: 4}},
		{func() error { return h.Compact(ctx, key, 2, []byte("{}"), 0) }, &HistoryError{Key: key, History: 0}},
		{func() error { return h.Compact(ctx, key, 9, []byte("{}"), 1) }, &FutureError{Key: key, Op: "compact", Seq: 9, Head: 4}},
	} {
		err := tc.do()
		if reflect.TypeOf(err) != reflect.TypeOf(tc.want) || Code(err) != Code(tc.want) {
			t.Errorf("got %T %v, want %T", err, err, tc.want)
		}
		var mismatch *SeqMismatchError
		if errors.As(err, &mismatch) && mismatch.Head != 4 {
			t.Errorf("%v", err)
		}
	}
	must(h.Compact(ctx, key, 4, []byte(`{"k":1}`), 1))
	must(h.Replace(ctx, key, 0, []byte(`{"z":1}`)))
	if d, err := h.Get(ctx, key); err != nil || string(d.JSON) != `{"z":1}` {
		t.Errorf("%s, %v", d.JSON, err)
	}
	must(h.Delete(ctx, key))
	if n := h.counts.forwarded.Load() - before; n != 21 {
		t.Errorf("21 operations were sent in %d calls", n)
	}
	if d, err := h.Get(ctx, key, WithConsistency(ReadStale)); err == nil && d.Staleness == nil || h.counts.forwarded.Load()-before != 21 {
		t.Errorf("a stale read is served by the member itself: %+v, %v", d, err)
	}
	// Without forwarding, the error says where to go.
	var elsewhere *NotLeaderError
	err = h.Create(Forwarding(ctx, false), key, testDelta(1, "a"))
	want := f.config.Hosts[leader.name]
	if !errors.As(err, &elsewhere) || elsewhere.Leader != leader.name || elsewhere.Addr != want.Addr || elsewhere.HTTP != want.HTTP || elsewhere.Epoch == 0 {
		t.Errorf("not forwarded: %#v", err)
	}
	if l := h.Locate(key); l.HTTP != want.HTTP {
		t.Errorf("%+v", l)
	}
}

// TestForwardedOnce: what was forwarded is never sent on, whatever the options of the host that got it.
func TestForwardedOnce(t *testing.T) { synctest.Test(t, testForwardedOnce) }

func testForwardedOnce(t *testing.T) {
	f := newForwarding(t, nil)
	_, h := f.sides()
	sent := h.counts.forwarded.Load()
	for _, s := range forwardSamples() {
		s.patience = time.Minute
		if s.kind.reads() {
			s.read.level = ReadLease
		}
		if r := h.doForwarded(s); !errors.As(r.err, new(*NotLeaderError)) {
			t.Errorf("%v: %v", s.kind, r.err)
		}
	}
	if n := h.counts.forwarded.Load(); n != sent {
		t.Errorf("%d were sent on", n-sent)
	}
}

// TestForwardedWriteWithoutAnswer: a write whose answer is lost has an unknown outcome and takes effect once when it is repeated;
// one that did not leave is tried again, and a read whose answer is lost, too.
func TestForwardedWriteWithoutAnswer(t *testing.T) { synctest.Test(t, testForwardedWriteWithoutAnswer) }

func testForwardedWriteWithoutAnswer(t *testing.T) {
	f := newForwarding(t, nil)
	_, h := f.sides()
	ctx, key := testContext(t), testKey(1)
	if err := h.Create(ctx, key, testDelta(1, "a")); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	set := func(spoil func(ctx context.Context, n int32, call func(context.Context) ([]byte, error)) ([]byte, error)) {
		calls.Store(0)
		g := func(ctx context.Context, call func(context.Context) ([]byte, error)) ([]byte, error) {
			return spoil(ctx, calls.Add(1), call)
		}
		f.spoil.Store(&g)
	}
	broken := func(unsent bool) error {
		return &mesh.LinkDownError{Host: "x", Cause: errors.New("cut"), Unsent: unsent}
	}
	set(func(ctx context.Context, _ int32, call func(context.Context) ([]byte, error)) ([]byte, error) {
		if _, err := call(ctx); err != nil {
			t.Errorf("the call itself: %v", err)
		}
		return nil, broken(false)
	})
	next := []Delta{testDelta(2, "b")}
	var ambiguous *AmbiguousError
	if _, err := h.Append(ctx, key, next); !errors.As(err, &ambiguous) || ambiguous.Key != key || calls.Load() != 1 {
		t.Errorf("the link broke after the write was sent: %v, sent %d times", err, calls.Load())
	}
	f.spoil.Store(nil)
	if head, err := h.Append(ctx, key, next); err != nil || head != 2 {
		t.Errorf("the same deltas again: %d, %v", head, err)
	}
	for _, unsent := range []bool{true, false} {
		set(func(ctx context.Context, n int32, call func(context.Context) ([]byte, error)) ([]byte, error) {
			if n == 1 {
				return nil, broken(unsent)
			}
			return call(ctx)
		})
		var err error
		if unsent {
			_, err = h.Append(ctx, key, []Delta{testDelta(3, "c")})
		} else {
			_, err = h.Get(ctx, key)
		}
		if err != nil || calls.Load() != 2 {
			t.Errorf("unsent %v: %v after %d calls", unsent, err, calls.Load())
		}
	}
	// A call that is never answered ends with the caller's patience.
	set(func(ctx context.Context, _ int32, _ func(context.Context) ([]byte, error)) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := h.Append(short, key, []Delta{testDelta(4, "d")}); !errors.As(err, &ambiguous) {
		t.Errorf("a write without an answer: %v", err)
	}
	short, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	var unavailable *UnavailableError
	if _, err := h.Get(short, key); !errors.As(err, &unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read without an answer: %v", err)
	}
}

// TestForwardsAreBounded: more than a host serves at once are refused, and nothing is after it closed.
func TestForwardsAreBounded(t *testing.T) {
	g := newGate(2)
	release, running := make(chan struct{}), make(chan struct{}, 2)
	for range 2 {
		if !g.run(func() { running <- struct{}{}; <-release }) {
			t.Fatal("refused within the bound")
		}
	}
	<-running
	<-running
	if g.run(func() {}) {
		t.Error("one too many ran")
	}
	closed := make(chan struct{})
	go func() { g.close(); close(closed) }()
	select {
	case <-closed:
		t.Error("closed while some ran")
	case <-time.After(time.Millisecond):
	}
	close(release)
	<-closed
	if g.run(func() {}) {
		t.Error("one ran after the end")
	}
}

// TestReadsGoOnThroughHandOvers: while leadership is handed from host to host and one is drained, applications that let their
// hosts forward read at every host without any error, never less than what was acknowledged before, and every write is
// acknowledged once.
func TestReadsGoOnThroughHandOvers(t *testing.T) { synctest.Test(t, testReadsGoOnThroughHandOvers) }

func testReadsGoOnThroughHandOvers(t *testing.T) {
	f := newForwarding(t, nil)
	key, ctx := testKey(1), testContext(t)
	_, h := f.sides()
	if err := h.Create(ctx, key, testDelta(1, "a")); err != nil {
		t.Fatal(err)
	}
	var acked, reads atomic.Int64
	acked.Store(1)
	stop := make(chan struct{})
	over := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var wg sync.WaitGroup
	for _, h := range f.live() {
		wg.Go(func() {
			for !over() {
				before := acked.Load()
				d, err := h.Get(ctx, key)
				if err != nil || d.Head < before || d.Staleness != nil {
					t.Errorf("read at %s: head %d of %d, %v", h.name, d.Head, before, err)
					return
				}
				reads.Add(1)
				time.Sleep(time.Millisecond) // or no time would pass
			}
		})
	}
	wg.Go(func() {
		for seq := int64(2); !over(); {
			head, err := h.Append(ctx, key, []Delta{testDelta(seq, "x")})
			time.Sleep(time.Millisecond)
			switch {
			case err == nil && head == seq:
				acked.Store(seq)
				seq++
			case !retriable(err): // sent to one that had just given the leadership away
				t.Errorf("append of %d: head %d, %v", seq, head, err)
				return
			}
		}
	})
	progress := func() {
		seen, written := reads.Load(), acked.Load()
		f.wait("reads and writes", func() error {
			if reads.Load() < seen+6 || acked.Load() < written+2 {
				return fmt.Errorf("%d reads, %d writes", reads.Load()-seen, acked.Load()-written)
			}
			return nil
		})
	}
	progress()
	for i := range 4 {
		leader, other := f.sides()
		if err := leader.Transfer(ctx, 0, other.name); err != nil {
			t.Logf("transfer %d: %v", i, err) // it may have lost the leadership to its preferred host meanwhile
		}
		progress()
	}
	leader, _ := f.sides()
	if err := leader.Drain(ctx); err != nil {
		t.Error(err)
	}
	progress()
	close(stop)
	wg.Wait()
	if d, err := leader.Get(ctx, key); err != nil || d.Head < acked.Load() {
		t.Errorf("in the end: head %d of %d, %v", d.Head, acked.Load(), err)
	}
}
