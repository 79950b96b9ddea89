package mesh_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// echo replies with who asked, for what, and with what.
var echo = mesh.HandlerFunc(func(from mesh.Identity, r mesh.Request, reply func([]byte, error)) {
	reply(fmt.Appendf(nil, "%s %d %d %d %s", from.ID(), r.Service, r.Class, r.Partition, r.Payload), nil)
})

func TestConformance(t *testing.T) {
	cases := []struct {
		name string
		run  func(t *testing.T, f fabric)
	}{
		{"requests and replies", testEcho},
		{"requests stay in order within a class", testOrder},
		{"errors keep code and text", testErrors},
		{"incarnations", testIncarnations},
		{"payloads have limits", testPayloadLimits},
		{"requests time out", testTimeouts},
		{"payloads are copies", testCopies},
		{"the death of a peer fails what it had", testPeerDies},
		{"closing fails what is pending", testClose},
		{"pending requests are bounded", testPendingBound},
		{"a host can ask itself", testSelf},
		{"peers", testPeers},
		{"many callers", testManyCallers},
	}
	for _, f := range fabrics {
		t.Run(f.name, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, f.make(t))
				})
			}
		})
	}
}

func testEcho(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	b.Handle(mesh.ServiceHost, echo)
	for _, class := range []mesh.Class{mesh.Urgent, mesh.Normal, mesh.Bulk} {
		got, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: class, Partition: 77, Payload: []byte("hello")})
		if want := fmt.Sprintf("a@1 3 %d 77 hello", class); err != nil || string(got) != want {
			t.Fatalf("class %d: %q, %v; want %q", class, got, err, want)
		}
	}
	before := time.Now()
	p := a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost})
	if got, err := done(t, p); err != nil || string(got) != "a@1 3 2 0 " {
		t.Fatalf("empty request of no class: %q, %v", got, err)
	}
	if p.Sent().Before(before) || p.Sent().After(time.Now()) {
		t.Fatal("Sent is not the time of Start")
	}
	big := bytes.Repeat([]byte("0123456789"), 300_000)
	got, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: mesh.Bulk, Payload: big})
	if err != nil || !bytes.HasSuffix(got, big) {
		t.Fatalf("big request: %d bytes, %v", len(got), err)
	}
}

func testOrder(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	var mu sync.Mutex
	next := map[mesh.Class]uint64{}
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		mu.Lock()
		defer mu.Unlock()
		if n := binary.BigEndian.Uint64(r.Payload); n != next[r.Class] {
			reply(nil, fmt.Errorf("class %d: got %d, expected %d", r.Class, n, next[r.Class]))
			return
		}
		next[r.Class]++
		reply(nil, nil)
	}))
	var pending []*mesh.Pending
	for i := range uint64(1000) {
		for _, class := range []mesh.Class{mesh.Normal, mesh.Urgent, mesh.Bulk} {
			payload := make([]byte, 8, 2048)
			binary.BigEndian.PutUint64(payload, i)
			if i%7 == 0 {
				payload = payload[:2048]
			}
			pending = append(pending, a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: class, Payload: payload}))
		}
	}
	for _, p := range pending {
		if _, err := done(t, p); err != nil {
			t.Fatal(err)
		}
	}
}

// codedError is an error as the layers above define them.
type codedError struct{ code int }

func (e codedError) Error() string { return fmt.Sprintf("coded %d", e.code) }
func (e codedError) Code() int     { return e.code }

func testErrors(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	answers := map[string]error{
		"plain": errors.New("plain trouble"), "coded": codedError{621580}, "wrapped": fmt.Errorf("while asked: %w", codedError{9999}),
		"overloaded": mesh.ErrOverloaded, "partition": fmt.Errorf("%w: 3", mesh.ErrUnknownPartition), "malformed": mesh.ErrMalformed,
		"relayed": &mesh.RemoteError{Host: "x", Num: 7, Text: "from afar"},
	}
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		reply(nil, answers[string(r.Payload)])
		reply([]byte("a second reply"), nil) // does nothing
	}))
	for _, c := range []struct {
		payload, text string
		code          int
		is            error
	}{
		{"plain", "host b: plain trouble", mesh.CodeFailed, nil},
		{"coded", "host b: coded 621580", 621580, nil},
		{"wrapped", "host b: while asked: coded 9999", 9999, nil},
		{"overloaded", "host b: mesh: peer overloaded", mesh.CodeOverloaded, mesh.ErrOverloaded},
		{"partition", "host b: mesh: partition not served here: 3", mesh.CodeUnknownPartition, mesh.ErrUnknownPartition},
		{"malformed", "host b: mesh: malformed request", mesh.CodeMalformed, mesh.ErrMalformed},
		{"relayed", "host b: from afar", 7, nil},
	} {
		_, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Payload: []byte(c.payload)})
		var remote *mesh.RemoteError
		if !errors.As(err, &remote) || remote.Code() != c.code || err.Error() != c.text || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: %v, code %v", c.payload, err, remote)
		}
	}
	if _, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceRepair}); !errors.Is(err, mesh.ErrNoHandler) {
		t.Errorf("no handler: %v", err)
	}
	b.Handle(mesh.ServiceHost, nil)
	if _, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost}); !errors.Is(err, mesh.ErrNoHandler) {
		t.Errorf("handler removed: %v", err)
	}
	if _, err := a.Call(t.Context(), mesh.Target{Host: "nobody"}, mesh.Request{Service: mesh.ServiceHost}); !errors.Is(err, mesh.ErrUnknownHost) {
		t.Errorf("unknown host: %v", err)
	}
}

func testIncarnations(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	b.Handle(mesh.ServiceHost, echo)
	// Before the link is up, and after.
	for range 2 {
		wrong := a.Start(mesh.Target{Host: "b", Incarnation: "3"}, mesh.Request{Service: mesh.ServiceHost})
		right := a.Start(mesh.Target{Host: "b", Incarnation: "2"}, mesh.Request{Service: mesh.ServiceHost})
		_, err := done(t, wrong)
		var w *mesh.WrongIncarnationError
		if !errors.As(err, &w) || w.Want != "3" || w.Have != "2" || w.Host != "b" {
			t.Fatalf("wrong incarnation: %v", err)
		}
		if _, err := done(t, right); err != nil {
			t.Fatalf("right incarnation: %v", err)
		}
	}
}

func testPayloadLimits(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		reply(make([]byte, binary.BigEndian.Uint32(r.Payload)), nil)
	}))
	call := func(class mesh.Class, ask, want int) ([]byte, error) {
		payload := binary.BigEndian.AppendUint32(nil, uint32(want))
		return a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: class, Payload: append(payload, make([]byte, ask-4)...)})
	}
	for class, limit := range map[mesh.Class]int{mesh.Urgent: 64 << 10, mesh.Normal: 8 << 20, mesh.Bulk: 8 << 20} {
		if b, err := call(class, limit, limit); err != nil || len(b) != limit {
			t.Errorf("class %d at the limit: %d bytes, %v", class, len(b), err)
		}
		var big *mesh.TooLargeError
		if _, err := call(class, limit+1, 0); !errors.As(err, &big) || big.Limit != limit {
			t.Errorf("class %d, request over the limit: %v", class, err)
		}
		var remote *mesh.RemoteError
		if _, err := call(class, 4, limit+1); !errors.As(err, &remote) || remote.Num != mesh.CodeTooLarge {
			t.Errorf("class %d, reply over the limit: %v", class, err)
		}
	}
}

func testTimeouts(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	replies := make(chan func([]byte, error), 10)
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		if len(r.Payload) > 0 {
			reply(nil, nil)
			return
		}
		replies <- reply
	}))
	start := time.Now()
	_, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Timeout: 50 * time.Millisecond})
	if took := time.Since(start); !errors.Is(err, mesh.ErrTimeout) || took < 50*time.Millisecond || took > patience/2 {
		t.Fatalf("timeout: %v after %v", err, took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		late := <-replies
		cancel()
		late([]byte("late"), nil)
	}()
	if _, err := a.Call(ctx, mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if _, err := a.Call(ctx, mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled before: %v", err)
	}
	if _, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Payload: []byte{1}}); err != nil {
		t.Fatalf("after a late reply: %v", err)
	}
}

func testCopies(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	inside := make(chan [2][]byte, 1)
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		answer := []byte("answer")
		reply(answer, nil)
		inside <- [2][]byte{r.Payload, answer}
	}))
	payload := []byte("payload")
	got, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	seen := <-inside
	payload[0], seen[1][0] = 'X', 'X'
	if string(seen[0]) != "payload" || string(got) != "answer" {
		t.Fatalf("memory is shared across the network: %q, %q", seen[0], got)
	}
}

func testPeerDies(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	got := make(chan struct{}, 10)
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(mesh.Identity, mesh.Request, func([]byte, error)) { got <- struct{}{} }))
	var pending []*mesh.Pending
	for _, class := range []mesh.Class{mesh.Urgent, mesh.Normal, mesh.Bulk} {
		pending = append(pending, a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost, Class: class}))
		<-got
	}
	f.kill("b")
	for _, p := range pending {
		_, err := done(t, p)
		var down *mesh.LinkDownError
		if !errors.As(err, &down) || down.Host != "b" {
			t.Fatalf("pending at the death of its peer: %v", err)
		}
	}
	_, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost})
	var down *mesh.LinkDownError
	if !errors.As(err, &down) {
		t.Fatalf("request to the dead: %v", err)
	}
	b = f.start(t, "b", "3")
	b.Handle(mesh.ServiceHost, echo)
	eventually(t, "the peer is reached again", func() bool {
		_, err := a.Call(t.Context(), mesh.Target{Host: "b", Incarnation: "3"}, mesh.Request{Service: mesh.ServiceHost})
		return err == nil
	})
	var wrong *mesh.WrongIncarnationError
	if _, err := a.Call(t.Context(), mesh.Target{Host: "b", Incarnation: "2"}, mesh.Request{Service: mesh.ServiceHost}); !errors.As(err, &wrong) {
		t.Fatalf("request to the former incarnation: %v", err)
	}
}

func testClose(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	got := make(chan struct{})
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(mesh.Identity, mesh.Request, func([]byte, error)) { got <- struct{}{} }))
	p := a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost})
	<-got
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := done(t, p); !errors.Is(err, mesh.ErrClosed) {
		t.Fatalf("pending at Close: %v", err)
	}
	if _, err := done(t, a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost})); !errors.Is(err, mesh.ErrClosed) {
		t.Fatalf("started after Close: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

func testPendingBound(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	b.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(mesh.Identity, mesh.Request, func([]byte, error)) {}))
	b.Handle(mesh.ServiceRepair, echo)
	var full error
	var pending []*mesh.Pending
	for range 20_000 {
		p := a.Start(mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost})
		select {
		case <-p.Done():
			_, full = p.Result()
		default:
			pending = append(pending, p)
		}
		if full != nil {
			break
		}
	}
	if !errors.Is(full, mesh.ErrQueueFull) {
		t.Fatalf("after %d requests: %v", len(pending), full)
	}
	// Giving requests up makes room.
	for _, p := range pending {
		p.Abandon(context.Canceled)
	}
	eventually(t, "there is room again", func() bool {
		_, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceRepair, Class: mesh.Bulk})
		return err == nil
	})
}

func testSelf(t *testing.T, f fabric) {
	a := f.start(t, "a", "1")
	a.Handle(mesh.ServiceHost, echo)
	got, err := a.Call(t.Context(), mesh.Target{Host: "a", Incarnation: "1"}, mesh.Request{Service: mesh.ServiceHost, Payload: []byte("me")})
	if err != nil || string(got) != "a@1 3 2 0 me" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Call(t.Context(), mesh.Target{Host: "a"}, mesh.Request{Service: mesh.ServiceRepair}); !errors.Is(err, mesh.ErrNoHandler) {
		t.Fatalf("no handler: %v", err)
	}
	var wrong *mesh.WrongIncarnationError
	if _, err := a.Call(t.Context(), mesh.Target{Host: "a", Incarnation: "2"}, mesh.Request{Service: mesh.ServiceHost}); !errors.As(err, &wrong) {
		t.Fatalf("wrong incarnation: %v", err)
	}
}

func peerOf(n mesh.Network, host string) mesh.PeerState {
	for _, p := range n.Peers() {
		if p.Host == host {
			return p
		}
	}
	return mesh.PeerState{}
}

func testPeers(t *testing.T, f fabric) {
	a, b := f.start(t, "a", "1"), f.start(t, "b", "2")
	f.start(t, "c", "3")
	b.Handle(mesh.ServiceHost, echo)
	if _, err := a.Call(t.Context(), mesh.Target{Host: "b"}, mesh.Request{Service: mesh.ServiceHost}); err != nil {
		t.Fatal(err)
	}
	if p := peerOf(a, "b"); !p.Alive || !p.LinkUp || p.Incarnation != "2" || p.Addr == "" {
		t.Fatalf("a connected peer: %+v", p)
	}
	eventually(t, "all know all", func() bool {
		return len(a.Peers()) == 2 && peerOf(a, "c").Alive && peerOf(b, "c").Alive && peerOf(b, "a").Alive && peerOf(a, "c").Incarnation == "3"
	})
	f.kill("b")
	eventually(t, "a death is noticed", func() bool { return !peerOf(a, "b").Alive && !peerOf(a, "b").LinkUp })
	if p := peerOf(a, "c"); !p.Alive {
		t.Fatalf("another peer's death: %+v", p)
	}
}

func testManyCallers(t *testing.T, f fabric) {
	hosts := []mesh.Network{f.start(t, "a", "1"), f.start(t, "b", "2"), f.start(t, "c", "3")}
	var served atomic.Int64
	for _, h := range hosts {
		h.Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
			served.Add(1)
			go reply(r.Payload, nil)
		}))
	}
	var wg sync.WaitGroup
	for i, from := range hosts {
		for j, to := range hosts {
			if i == j {
				continue
			}
			for k := range 8 {
				wg.Go(func() {
					for n := range 50 {
						payload := bytes.Repeat([]byte{byte(i), byte(j), byte(k)}, 1+n*n)
						class := mesh.Class(1 + n%3)
						got, err := from.Call(t.Context(), mesh.Target{Host: to.Self().Host}, mesh.Request{Service: mesh.ServiceHost, Class: class, Payload: payload})
						if err != nil || !bytes.Equal(got, payload) {
							t.Errorf("%d to %d: %v", i, j, err)
							return
						}
					}
				})
			}
		}
	}
	wg.Wait()
	if n := served.Load(); n != 3*2*8*50 {
		t.Errorf("served %d requests", n)
	}
}
