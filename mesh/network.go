package mesh

import (
	"context"
	"time"
)

// Identity names one running host: its cluster, its name in the cluster
// file, and the incarnation of its data directory.
type Identity struct {
	Cluster     string
	Host        string
	Incarnation string
}

// ID is "host@incarnation", which is also the Raft server id.
func (i Identity) ID() string { return i.Host + "@" + i.Incarnation }

// Target says whom a request is for. An empty Incarnation means whatever runs
// under that name; any other is refused with *WrongIncarnationError when the
// host that answers carries a different one.
type Target struct {
	Host        string
	Incarnation string
}

// Service says which part of a host a request is for.
type Service uint8

// The services of a host.
const (
	ServiceRaft   Service = 1
	ServiceRepair Service = 2
	ServiceHost   Service = 3
)

// Class is how a request is scheduled on its way: urgent ones overtake normal
// ones, and bulk travels on a connection of its own, so neither waits for it.
// A reply has the class of its request. The zero Class means Normal.
type Class uint8

// The classes, first served first.
const (
	Urgent Class = iota + 1
	Normal
	Bulk
	classes = int(iota) // how many there are
)

// index is the class' place in an array of them.
func (c Class) index() int { return int(c - Urgent) }

// Request is one call. The payload belongs to the network from Start until
// the Pending is done, and to the handler on the other side.
type Request struct {
	Service   Service
	Class     Class
	Partition uint32
	Payload   []byte
	// Timeout bounds the wait for the reply (zero: the network's own bound).
	// It is checked coarsely, a few times per second, and is not sent.
	Timeout time.Duration
}

// Handler serves the requests of one service. Serve is called on the goroutine
// that reads from the peer: it must not block. Exactly one call of reply is
// expected, from any goroutine, now or later; further calls do nothing. The
// requests of one (peer, service, partition, class) arrive in the order in
// which they were started.
type Handler interface {
	Serve(from Identity, r Request, reply func(payload []byte, err error))
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(from Identity, r Request, reply func(payload []byte, err error))

// Serve calls f.
func (f HandlerFunc) Serve(from Identity, r Request, reply func(payload []byte, err error)) {
	f(from, r, reply)
}

// Network is what the layers above see of the other hosts.
type Network interface {
	Self() Identity
	// Start sends r, in order with the earlier requests of its class to the
	// same host. It never blocks: what cannot be queued fails at once, through
	// the Pending (ErrQueueFull, ErrUnknownHost, ErrClosed, *LinkDownError...).
	Start(to Target, r Request) *Pending
	// Call is Start and waiting for the result or the context.
	Call(ctx context.Context, to Target, r Request) ([]byte, error)
	// Handle sets the handler of a service; requests for a service without one
	// are refused (ErrNoHandler).
	Handle(s Service, h Handler)
	// Peers lists every other host that is known, by name.
	Peers() []PeerState
	Close() error
}

// PeerState is what is known of another host. All of it is a hint: a host
// that is not Alive may be well behind a broken network, and a host that is
// may have died a moment ago.
type PeerState struct {
	Host        string
	Incarnation string // "" when never heard of
	Addr        string // where it is dialled, or announced itself
	Alive       bool   // the best guess from gossip and links together
	Gossip      bool   // the membership protocol believes it alive
	LinkUp      bool   // a link to it stands
	Refused     bool   // no process of it listens: its address refuses connections
	RoundTrip   time.Duration
}
