package mesh

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// Options configure Listen. Identity and Addr are required.
type Options struct {
	Identity
	Addr string // host:port to listen on, TCP and UDP; port 0 picks one

	// Advertise is the host:port other hosts reach this one at, when it is
	// neither Addr nor what Resolve says of this host's own name.
	Advertise string

	// Resolve says where a host listens; false means that it is not part of
	// the cluster, and nothing is sent to it. Hosts lists the hosts to join.
	// Both may be called at any time, from any goroutine, and must not call
	// the Mesh.
	Resolve func(host string) (addr string, ok bool)
	Hosts   func() []string

	// Admit says whose links and gossip are taken; nil: everybody's who has
	// the cluster's name and what TLS and GossipKey ask for. It is asked again
	// and again of those that have links, and may change its mind. Like
	// Resolve it must not call the Mesh, and it must not block.
	Admit func(host string) bool

	// Insecure allows plain connections beyond the loopback interface.
	Insecure bool
	TLS      *TLSOptions // nil: plain

	// GossipKey encrypts the membership protocol (AES: 16, 24 or 32 bytes).
	// GossipKeys are older keys still understood, for a change of keys.
	GossipKey  []byte
	GossipKeys [][]byte

	Limits Limits
	Timing Timing
	Logger *slog.Logger // nil: discard

	// OnConflict hears of every *DuplicateHostError, OnPeer of every change of
	// a peer's state but its round trip. Each runs on a goroutine of its own,
	// one call at a time; neither may call Close.
	OnConflict func(error)
	OnPeer     func(PeerState)
}

// Limits bound memory, per link unless said otherwise. Zero fields get the default.
type Limits struct {
	FrameBytes    int // payload of a normal or bulk frame: 8 MB
	UrgentBytes   int // payload of an urgent frame: 64 KB
	QueueFrames   int // frames waiting to be sent, per class: 16384
	QueueBytes    int // bytes waiting to be sent, per class: 64 MB (urgent: an eighth)
	Pending       int // requests without a reply, per class: 16384
	InFlight      int // requests of the peer being served, per class: 16384
	InFlightBytes int // and their payloads: 64 MB
	Connections   int // inbound connections of the whole host: 2048
	Handshakes    int // those of them that have not said who they are: 256
	GossipStreams int // those of them that carry gossip: 128
}

// Timing holds every interval. Zero fields get the default.
type Timing struct {
	Dial        time.Duration // to connect: 2 s
	Handshake   time.Duration // from connected to known, either side: 3 s
	Write       time.Duration // for 256 KB to leave: 5 s
	Ping        time.Duration // between pings on a quiet main link, in proportion to Silence on others: 500 ms
	Silence     time.Duration // without a sign of life, a main link is broken: 2.5 s
	BulkSilence time.Duration // the same for a bulk link: 10 s
	Idle        time.Duration // without a request, a link is closed: 5 min
	Request     time.Duration // for a reply, when the request does not say: 60 s
	BackoffMin  time.Duration // after the first failed dial: 50 ms
	BackoffMax  time.Duration // the longest: 2 s
	Join        time.Duration // between attempts to join missing hosts: 1 s
	Probe       time.Duration // gossip's probe interval; death takes about five: 1 s
	Tick        time.Duration // of the maintainer, the grain of all timeouts: 100 ms
}

func orInt(v *int, def int) {
	if *v == 0 {
		*v = def
	}
}

func orTime(v *time.Duration, def time.Duration) {
	if *v == 0 {
		*v = def
	}
}

// WithDefaults fills the zero fields in.
func (l Limits) WithDefaults() Limits {
	orInt(&l.FrameBytes, 8<<20)
	orInt(&l.UrgentBytes, 64<<10)
	orInt(&l.QueueFrames, 16384)
	orInt(&l.QueueBytes, 64<<20)
	orInt(&l.Pending, 16384)
	orInt(&l.InFlight, 16384)
	orInt(&l.InFlightBytes, 64<<20)
	orInt(&l.Connections, 2048)
	orInt(&l.Handshakes, 256)
	orInt(&l.GossipStreams, 128)
	return l
}

func (l Limits) frames() frameLimits { return frameLimits{urgent: l.UrgentBytes, other: l.FrameBytes} }

// Payload is the largest payload of a request or reply of a class.
func (l Limits) Payload(c Class) int {
	if c == Urgent {
		return l.UrgentBytes
	}
	return l.FrameBytes
}

func (l Limits) lanes() [classes]laneLimits {
	normal := laneLimits{l.QueueFrames, l.QueueBytes}
	return [classes]laneLimits{{l.QueueFrames, max(l.QueueBytes/8, 1)}, normal, normal}
}

func (t Timing) withDefaults() Timing {
	orTime(&t.Dial, 2*time.Second)
	orTime(&t.Handshake, 3*time.Second)
	orTime(&t.Write, 5*time.Second)
	orTime(&t.Ping, 500*time.Millisecond)
	orTime(&t.Silence, 2500*time.Millisecond)
	orTime(&t.BulkSilence, 10*time.Second)
	orTime(&t.Idle, 5*time.Minute)
	orTime(&t.Request, time.Minute)
	orTime(&t.BackoffMin, 50*time.Millisecond)
	orTime(&t.BackoffMax, 2*time.Second)
	orTime(&t.Join, time.Second)
	orTime(&t.Probe, time.Second)
	orTime(&t.Tick, 100*time.Millisecond)
	return t
}

// ticks is how many ticks of the maintainer make up d, one at least.
func (t Timing) ticks(d time.Duration) int { return max(int(d/t.Tick), 1) }

// pingTicks are those between two pings: the same share of the silence that a connection is allowed, whatever its kind.
func (t Timing) pingTicks(kind linkKind) int {
	if kind == linkBulk {
		return t.ticks(time.Duration(float64(t.Ping) * float64(t.BulkSilence) / float64(t.Silence)))
	}
	return t.ticks(t.Ping)
}

func (t Timing) silenceTicks(kind linkKind) int {
	if kind == linkBulk {
		return t.ticks(t.BulkSilence)
	}
	return t.ticks(t.Silence)
}

// Validate reports every problem of the options at once; it does no I/O.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, n := range []struct{ what, value string }{{"cluster", o.Cluster}, {"host", o.Host}, {"incarnation", o.Incarnation}} {
		if n.value == "" {
			bad("mesh: %s is empty", n.what)
		}
		if len(n.value) > maxNameBytes {
			bad("mesh: %s is longer than %d bytes", n.what, maxNameBytes)
		}
	}
	for _, a := range []struct{ what, value string }{{"address", o.Addr}, {"advertised address", o.Advertise}} {
		if a.value == "" && a.what != "address" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			bad("mesh: %s %q: %w", a.what, a.value, err)
		}
	}
	keys := o.GossipKeys
	if len(o.GossipKey) > 0 {
		keys = append(keys[:len(keys):len(keys)], o.GossipKey)
	} else if len(keys) > 0 {
		bad("mesh: older gossip keys without a gossip key")
	}
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			bad("mesh: gossip key: %w", err)
		}
	}
	l := o.Limits.WithDefaults()
	if l.FrameBytes < 64<<10 || l.FrameBytes > 1<<30 || l.UrgentBytes < 1<<10 || l.UrgentBytes > l.FrameBytes {
		bad("mesh: frame limits %d and %d are not within 64 KB to 1 GB and 1 KB to the former", l.FrameBytes, l.UrgentBytes)
	}
	for _, n := range []int{l.QueueFrames, l.QueueBytes, l.Pending, l.InFlight, l.InFlightBytes, l.Connections, l.Handshakes, l.GossipStreams} {
		if n < 0 {
			bad("mesh: limit %d is negative", n)
		}
	}
	t := o.Timing.withDefaults()
	for _, d := range []time.Duration{t.Dial, t.Handshake, t.Write, t.Ping, t.Silence, t.BulkSilence, t.Idle, t.Request, t.BackoffMin, t.BackoffMax, t.Join, t.Probe, t.Tick} {
		if d < 0 {
			bad("mesh: duration %v is negative", d)
		}
	}
	return errors.Join(errs...)
}
