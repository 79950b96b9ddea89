package mesh

import (
	"sync/atomic"
	"testing"
)

// TestUrgentIsServedBesideWhatIsBeingServed: requests with entries are answered once a disk has them. While that takes long they add up to
// what may be served at a time, and signs of life and votes must get through all the same: they say that their host lives.
func TestUrgentIsServedBesideWhatIsBeingServed(t *testing.T) {
	for name, limit := range map[string]func(*Options){
		"bytes":    func(o *Options) { o.Limits.InFlightBytes = 1 << 20 },
		"requests": func(o *Options) { o.Limits.InFlight = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			bed := newTestbed(t)
			b := bed.start("b", limit)
			var taken atomic.Int32
			b.Handle(ServiceRaft, HandlerFunc(func(Identity, Request, func([]byte, error)) { taken.Add(1) })) // a disk that stalls
			b.Handle(ServiceHost, replyEcho)
			a := bed.start("a")
			for range 2 {
				a.Start(Target{Host: "b"}, Request{Service: ServiceRaft, Class: Normal, Payload: make([]byte, 1<<19)})
			}
			soon(t, "both wait for the disk", func() bool { return taken.Load() == 2 })
			if _, err := call(t, a, "b", Urgent, []byte("beat")); err != nil {
				t.Fatalf("a sign of life behind entries that wait for a disk: %v", err)
			}
		})
	}
}

// TestUrgentIsSentBesideWhatWaitsForReplies is the sender's side of it.
func TestUrgentIsSentBesideWhatWaitsForReplies(t *testing.T) {
	bed := newTestbed(t)
	b := bed.start("b")
	b.Handle(ServiceRaft, never)
	b.Handle(ServiceHost, replyEcho)
	a := bed.start("a", func(o *Options) { o.Limits.Pending = 4 })
	for range 4 {
		a.Start(Target{Host: "b"}, Request{Service: ServiceRaft, Class: Normal})
	}
	if _, err := call(t, a, "b", Urgent, []byte("beat")); err != nil {
		t.Fatalf("a sign of life behind requests that wait for replies: %v", err)
	}
}
