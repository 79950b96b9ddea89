package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/clock"
)

// RaftOptions tune a RaftTransport. Zero fields get the default.
type RaftOptions struct {
	HeartbeatTimeout time.Duration // for the answer to a heartbeat, a vote, TimeoutNow: 1 s
	AppendTimeout    time.Duration // for the answer to entries: 10 s
	SnapshotTimeout  time.Duration // for the answer to a marker: 10 s
	ServeTimeout     time.Duration // for Raft here to answer a peer: 30 s
	InFlight         int           // entries requests in a pipeline: 2
	AppendBytes      int           // entries in one request, roughly: 1 MB
	Queue            int           // requests of peers waiting for Raft here: 64
	Clock            clock.Clock   // what requests are stamped by that leases count from: time.Now
}

func (o RaftOptions) withDefaults() RaftOptions {
	orTime(&o.HeartbeatTimeout, time.Second)
	orTime(&o.AppendTimeout, 10*time.Second)
	orTime(&o.SnapshotTimeout, 10*time.Second)
	orTime(&o.ServeTimeout, 30*time.Second)
	orInt(&o.InFlight, 2)
	orInt(&o.AppendBytes, 1<<20)
	orInt(&o.Queue, 64)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

// RaftTransport is the small per-partition face of a Network: hashicorp/raft's
// Transport, with pre-vote and pipelining. Server id and address are the same,
// "host@incarnation".
//
// Heartbeats are sent as urgent and, like everything else, delivered through
// Consumer: handling them beside the main loop has an open data divergence bug
// (hashicorp/raft #695), so SetHeartbeatHandler is ignored.
//
// It runs no goroutine of its own, but, unless Direct was called, one per
// request of a peer while Raft answers it, and one per pipeline while Raft is
// slow to take what came; Close ends them.
type RaftTransport struct {
	net       Network
	partition uint32
	self      raft.ServerID
	encoded   []byte // self; nobody changes it
	opts      RaftOptions
	consumer  chan raft.RPC
	serving   atomic.Int32
	counts    raftCounters

	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex // guards pipelines
	pipelines map[*raftPipeline]struct{}

	// onClose unregisters; set by RaftMux.Add before requests come.
	onClose func()

	// Of Direct; set before requests come.
	receive func(raft.RPC, func(raft.RPCResponse)) bool
	acked   func(raft.ServerID, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse, time.Time)
}

// Direct lets whoever stands between this transport and Raft take part without
// goroutines in between. Requests of peers are given to receive, on the
// goroutine that reads from the peer, instead of Consumer; it must not block,
// returns false for a request it has no room for, and otherwise has the answer
// called once. Answers to the requests of pipelines are shown to acked before
// Raft sees them. It must be called before the transport is added to a RaftMux
// and used by Raft.
func (t *RaftTransport) Direct(receive func(rpc raft.RPC, answer func(raft.RPCResponse)) bool,
	acked func(peer raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, sent time.Time)) {
	t.receive, t.acked = receive, acked
	t.consumer = nil // nothing comes that way
}

var (
	_ raft.Transport   = (*RaftTransport)(nil)
	_ raft.WithPreVote = (*RaftTransport)(nil)
	_ raft.WithClose   = (*RaftTransport)(nil)
)

// NewRaftTransport makes the transport of one partition. It hears its peers
// once it is added to a RaftMux.
func NewRaftTransport(n Network, partition uint32, self raft.ServerID, o RaftOptions) *RaftTransport {
	o = o.withDefaults()
	return &RaftTransport{
		net: n, partition: partition, self: self, encoded: []byte(self), opts: o,
		consumer: make(chan raft.RPC, o.Queue), closed: make(chan struct{}),
	}
}

// TargetOf splits a server id or address, "host@incarnation".
func TargetOf(address raft.ServerAddress) (Target, error) {
	i := strings.LastIndexByte(string(address), '@')
	if i <= 0 || i == len(address)-1 {
		return Target{}, fmt.Errorf("mesh: server address %q is not host@incarnation", address)
	}
	return Target{Host: string(address[:i]), Incarnation: string(address[i+1:])}, nil
}

// Consumer yields the requests of peers.
func (t *RaftTransport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr is this server's id.
func (t *RaftTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.self) }

// EncodePeer is the address itself. Raft asks for its own with every request.
func (t *RaftTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	if addr == t.LocalAddr() {
		return t.encoded
	}
	return []byte(addr)
}

// DecodePeer undoes EncodePeer.
func (t *RaftTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler does nothing: heartbeats come through Consumer.
func (t *RaftTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close unregisters the partition and fails the calls under way. The network
// stays as it is.
func (t *RaftTransport) Close() error {
	t.once.Do(func() {
		close(t.closed)
		if t.onClose != nil {
			t.onClose()
		}
		t.mu.Lock()
		open := slices.Collect(maps.Keys(t.pipelines))
		t.mu.Unlock()
		for _, p := range open {
			p.end(raft.ErrTransportShutdown)
		}
	})
	return nil
}

// AppendEntries sends entries, or a heartbeat, and waits for the answer. Of
// entries that do not fit in one frame it sends the first, and cuts
// args.Entries to those: Raft goes on after the last entry it finds there.
func (t *RaftTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	class, timeout := Normal, t.opts.AppendTimeout
	if isHeartbeat(args) {
		class, timeout = Urgent, t.opts.HeartbeatTimeout
	}
	p, err := t.sendEntries(to, args, class, timeout)
	if err != nil {
		return err
	}
	return t.result(p, resp)
}

// isHeartbeat tells the requests that Raft sends for nothing but the beat.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}

// sendEntries starts an AppendEntries.
func (t *RaftTransport) sendEntries(to raft.ServerAddress, args *raft.AppendEntriesRequest, class Class, timeout time.Duration) (*Pending, error) {
	args.Entries = args.Entries[:t.fitting(args.Entries)]
	size := 256
	for _, e := range args.Entries {
		size += entryBytes(e)
	}
	p, n, err := t.send(to, args, nil, class, timeout, size)
	if err == nil {
		t.counts.appendOut.Add(uint64(n))
	}
	return p, err
}

// fitting is how many of the entries go into one request: one at least.
func (t *RaftTransport) fitting(entries []*raft.Log) int {
	size := 0
	for i, e := range entries {
		size += entryBytes(e)
		if i > 0 && (size > t.opts.AppendBytes || i >= maxEntries) {
			return i
		}
	}
	return len(entries)
}

// send starts an RPC.
func (t *RaftTransport) send(to raft.ServerAddress, command any, data []byte, class Class, timeout time.Duration, sizeHint int) (*Pending, int, error) {
	select {
	case <-t.closed:
		return nil, 0, raft.ErrTransportShutdown
	default:
	}
	target, err := TargetOf(to)
	if err != nil {
		return nil, 0, err
	}
	payload, err := appendRequest(make([]byte, 0, sizeHint), command, data)
	if err != nil {
		return nil, 0, err
	}
	t.counts.rpcsOut.Add(1)
	p := t.net.Start(target, Request{Service: ServiceRaft, Class: class, Partition: t.partition, Payload: payload, Timeout: timeout})
	return p, len(payload), nil
}

// result waits for the answer to an RPC.
func (t *RaftTransport) result(p *Pending, resp any) error {
	select {
	case <-p.Done():
	case <-t.closed:
		p.Abandon(raft.ErrTransportShutdown)
	}
	payload, err := p.Result()
	if err != nil {
		return err
	}
	return decodeResponse(payload, resp)
}

// rpc is send and result for the small, urgent ones.
func (t *RaftTransport) rpc(to raft.ServerAddress, args, resp any) error {
	p, _, err := t.send(to, args, nil, Urgent, t.opts.HeartbeatTimeout, 256)
	if err != nil {
		return err
	}
	return t.result(p, resp)
}

// RequestVote asks for a vote.
func (t *RaftTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.rpc(to, args, resp)
}

// RequestPreVote asks whether a vote would be granted.
func (t *RaftTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.rpc(to, args, resp)
}

// TimeoutNow hands leadership over.
func (t *RaftTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.rpc(to, args, resp)
}

// InstallSnapshot sends a marker, whole, in one frame. Document data never
// travels this way: anything over 1 MB is refused.
func (t *RaftTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if args.Size < 0 || args.Size > maxSnapshotBytes {
		return &TooLargeError{Size: int(args.Size), Limit: maxSnapshotBytes}
	}
	marker, err := io.ReadAll(io.LimitReader(data, args.Size+1))
	if err != nil {
		return fmt.Errorf("mesh: reading the snapshot: %w", err)
	}
	if int64(len(marker)) != args.Size {
		return fmt.Errorf("mesh: snapshot of %d bytes was announced with %d", len(marker), args.Size)
	}
	p, n, err := t.send(to, args, marker, Normal, t.opts.SnapshotTimeout, 1024+len(marker))
	if err != nil {
		return err
	}
	t.counts.snapshotOut.Add(uint64(n))
	return t.result(p, resp)
}

// serve takes a request of a peer, on the goroutine that reads from it. When
// Raft here does not keep up, the peer is told so; nobody else waits for it.
func (t *RaftTransport) serve(from Identity, payload []byte, reply func([]byte, error)) {
	command, data, err := decodeRequest(payload)
	if err != nil {
		reply(nil, err)
		return
	}
	if err := checkRequest(from, command); err != nil {
		t.counts.refused.Add(1)
		reply(nil, err)
		return
	}
	t.count(command, len(payload))
	rpc := raft.RPC{Command: command}
	if _, ok := command.(*raft.InstallSnapshotRequest); ok {
		rpc.Reader = bytes.NewReader(data)
	}
	if t.receive != nil {
		if !t.receive(rpc, func(r raft.RPCResponse) { say(r, reply) }) {
			t.overflow(reply)
		}
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answer
	// Requests taken by Raft but unanswered count, too.
	if int(t.serving.Add(1)) > 4*t.opts.Queue || !t.deliver(rpc) {
		t.serving.Add(-1)
		t.overflow(reply)
		return
	}
	go t.answer(answer, reply)
}

func (t *RaftTransport) overflow(reply func([]byte, error)) {
	t.counts.overflows.Add(1)
	reply(nil, fmt.Errorf("%w: partition %d takes no more requests", ErrOverloaded, t.partition))
}

// say sends what Raft says.
func say(r raft.RPCResponse, reply func([]byte, error)) {
	if r.Error != nil {
		reply(nil, &RemoteError{Num: CodeRaft, Text: r.Error.Error()})
		return
	}
	reply(appendResponse(make([]byte, 0, 128), r.Response))
}

func (t *RaftTransport) deliver(rpc raft.RPC) bool {
	select {
	case <-t.closed:
		return false
	default:
	}
	select {
	case t.consumer <- rpc:
		return true
	default:
		return false
	}
}

// answer waits for what Raft says, and sends it.
func (t *RaftTransport) answer(answer <-chan raft.RPCResponse, reply func([]byte, error)) {
	defer t.serving.Add(-1)
	timeout := time.NewTimer(t.opts.ServeTimeout)
	defer timeout.Stop()
	select {
	case r := <-answer:
		say(r, reply)
	case <-timeout.C:
		reply(nil, ErrTimeout)
	case <-t.closed:
		reply(nil, fmt.Errorf("%w: partition %d is closing", ErrUnknownPartition, t.partition))
	}
}

// checkRequest refuses what would harm Raft: requests in the name of another
// server, and configurations and types of entries it would panic on.
func checkRequest(from Identity, command any) error {
	if h := command.(raft.WithRPCHeader).GetRPCHeader(); len(h.ID) > 0 && string(h.ID) != from.ID() {
		return fmt.Errorf("%w: request of server %q came from %q", ErrMalformed, h.ID, from.ID())
	}
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		for _, e := range r.Entries {
			if e.Type > raft.LogConfiguration {
				return fmt.Errorf("%w: log entry %d of type %d", ErrMalformed, e.Index, e.Type)
			}
			if e.Type == raft.LogConfiguration {
				if err := checkConfiguration(e.Data); err != nil {
					return err
				}
			}
		}
	case *raft.InstallSnapshotRequest:
		if r.SnapshotVersion > 0 {
			return checkConfiguration(r.Configuration)
		}
	}
	return nil
}

// checkConfiguration decodes a configuration as Raft will; Raft panics on a bad one.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.Join(ErrMalformed, errors.New("undecodable raft configuration"))
		}
	}()
	raft.DecodeConfiguration(b)
	return nil
}

// raftCounters are the live figures behind RaftStats.
type raftCounters struct {
	appendIn, appendOut, commandIn, snapshotIn, snapshotOut atomic.Uint64
	rpcsIn, rpcsOut, overflows, refused                     atomic.Uint64
}

// RaftStats counts since the transport was made; bytes are those of payloads.
type RaftStats struct {
	AppendEntriesBytesIn, AppendEntriesBytesOut uint64
	CommandBytesIn                              uint64 // data of commands among the entries received
	SnapshotBytesIn, SnapshotBytesOut           uint64 // markers
	RPCsIn, RPCsOut                             uint64
	Overflows                                   uint64 // requests refused because Raft did not keep up
	Refused                                     uint64 // requests refused as harmful
}

// Stats returns the counters.
func (t *RaftTransport) Stats() RaftStats {
	c := &t.counts
	return RaftStats{
		AppendEntriesBytesIn: c.appendIn.Load(), AppendEntriesBytesOut: c.appendOut.Load(), CommandBytesIn: c.commandIn.Load(),
		SnapshotBytesIn: c.snapshotIn.Load(), SnapshotBytesOut: c.snapshotOut.Load(),
		RPCsIn: c.rpcsIn.Load(), RPCsOut: c.rpcsOut.Load(), Overflows: c.overflows.Load(), Refused: c.refused.Load(),
	}
}

func (t *RaftTransport) count(command any, size int) {
	t.counts.rpcsIn.Add(1)
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		t.counts.appendIn.Add(uint64(size))
		for _, e := range r.Entries {
			if e.Type == raft.LogCommand {
				t.counts.commandIn.Add(uint64(len(e.Data)))
			}
		}
	case *raft.InstallSnapshotRequest:
		t.counts.snapshotIn.Add(uint64(size))
	}
}
