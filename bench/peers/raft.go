package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// raftSystem is hashicorp/raft, a group for each partition: with the log, the transport and the snapshots that come with it, or
// with none of that (memory), where nothing is durable and nothing leaves the process. The latter with the settings that
// Adamant gives it (tuned) is what the library itself costs a build like that: a log, a transport and a state machine of its own only add.
type raftSystem struct {
	memory  bool
	tuned   bool
	machine func() raft.FSM // makes a replica's; nil for one that counts
	groups  []*raftGroup
	keys    []string // by document
	group   []int    // of a document
}

// raftGroup is one partition, as far as it runs here.
type raftGroup struct {
	home    int                 // the host that is to lead
	patient bool                // its timers are too slow to begin with an election
	servers map[int]*raftServer // by host, of those that run here
	leader  atomic.Int32        // of them, leads as far as is known
}

// raftServer is one replica of a group, with what was opened for it. Any of it is nil after a failed start.
type raftServer struct {
	machine   raft.FSM
	raft      *raft.Raft
	transport interface {
		raft.Transport
		raft.WithClose
	}
	logs io.Closer
	stop func() // handing leadership back
}

// As applications of raft have it.
const (
	raftLogCache   = 512
	raftPool       = 3 // connections to a peer that are kept
	raftTimeout    = 10 * time.Second
	raftKeptStates = 2 // snapshots
	raftHandBack   = 250 * time.Millisecond
)

func (r *raftSystem) prepare(s settings, dir string, hosts []int) (AddressBook, error) {
	if r.machine == nil {
		r.machine = func() raft.FSM { return &countingMachine{} }
		if r.tuned {
			r.machine = func() raft.FSM { return &batchingMachine{} }
		}
	}
	for n := range s.Documents {
		key := documentKey(n)
		g, _ := bits.Mul64(key.Hash(), uint64(s.Partitions))
		r.keys, r.group = append(r.keys, key.String()), append(r.group, int(g))
	}
	for n := range s.Partitions {
		r.groups = append(r.groups, &raftGroup{home: n % s.Hosts, servers: map[int]*raftServer{}})
	}
	var config *raft.Config // nil for the library's own
	if r.tuned {
		config = tunedConfig(s.Partitions)
	}
	err := each(r.groups, func(n int, g *raftGroup) error {
		if err := g.prepare(hosts, raftDir(dir, n), r.memory, config, r.machine); err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	book := AddressBook{}
	for _, g := range r.groups {
		for host, s := range g.servers {
			book[host] = append(book[host], string(s.transport.LocalAddr()))
		}
	}
	return book, nil
}

// raftDir is the directory of a group.
func raftDir(dir string, group int) string { return filepath.Join(dir, fmt.Sprintf("g%d", group)) }

func (g *raftGroup) prepare(hosts []int, dir string, memory bool, config *raft.Config, machine func() raft.FSM) error {
	for _, host := range hosts {
		s, id := &raftServer{machine: machine()}, hostName(host)
		g.servers[host] = s
		open := s.open
		if memory {
			open = func(id raft.ServerID, dir string) error { return s.openMemory(id, dir, config) }
		}
		if err := open(raft.ServerID(id), filepath.Join(dir, id)); err != nil {
			return fmt.Errorf("server %s: %w", id, err)
		}
	}
	g.patient = config != nil
	if memory {
		g.connect()
	}
	return nil
}

// connect joins servers in memory.
func (g *raftGroup) connect() {
	for _, a := range g.servers {
		for _, b := range g.servers {
			if t, ok := a.transport.(raft.WithPeers); ok && a != b {
				t.Connect(b.transport.LocalAddr(), b.transport)
			}
		}
	}
}

func (r *raftSystem) open(ctx context.Context, all AddressBook) error {
	return each(r.groups, func(n int, g *raftGroup) error {
		var c raft.Configuration
		for host := range len(all) {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(hostName(host)), Address: raft.ServerAddress(all[host][n])})
		}
		if err := g.open(ctx, c); err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		return nil
	})
}

// open lets the group begin. Only the first to lead is told who they are: the others hear it of that one, so it stands for
// election alone and leaders are spread as wanted.
func (g *raftGroup) open(ctx context.Context, c raft.Configuration) error {
	first, here := g.servers[g.home]
	if !here {
		for _, s := range g.servers {
			s.handBack(c.Servers[g.home])
		}
		return nil
	}
	if err := first.raft.BootstrapCluster(c).Error(); err != nil {
		return err
	}
	g.leader.Store(int32(g.home))
	if g.patient {
		if err := first.campaign(); err != nil {
			return err
		}
	}
	return until(ctx, "there is a leader", g.find)
}

// homes spread the groups evenly.
func (r *raftSystem) homes() ([]int, error) {
	var all []int
	for _, g := range r.group {
		all = append(all, r.groups[g].home)
	}
	return all, nil
}

func (s *raftServer) open(id raft.ServerID, dir string) (err error) {
	silent := hclog.NewNullLogger()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	logs, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		return err
	}
	s.logs = logs
	cache, err := raft.NewLogCache(raftLogCache, logs)
	if err != nil {
		return err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, raftKeptStates, silent)
	if err != nil {
		return err
	}
	transport, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, raftPool, raftTimeout, silent)
	if err != nil {
		return err
	}
	s.transport = transport
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = id, silent
	s.raft, err = raft.NewRaft(c, s.machine, cache, logs, snapshots, s.transport)
	return err
}

// openMemory is open without disk and network; a nil config is the library's own.
func (s *raftServer) openMemory(id raft.ServerID, dir string, config *raft.Config) (err error) {
	_, transport := raft.NewInmemTransportWithTimeout(raft.ServerAddress(dir), raftTimeout)
	s.transport = transport
	logs := raft.NewInmemStore()
	c := raft.DefaultConfig()
	if config != nil {
		*c = *config
	}
	c.LocalID, c.Logger = id, hclog.NewNullLogger()
	s.raft, err = raft.NewRaft(c, s.machine, logs, logs, raft.NewInmemSnapshotStore(), s.transport)
	return err
}

// What Adamant gives to Raft: see raftConfig in package partition and the limits' defaults in the options of package adamant. Its own
// timers are a backstop behind the beats between hosts, and what is committed is told with the next entries.
const (
	tunedTimeout  = 60 * 350 * time.Millisecond // heartbeats and elections
	tunedCommit   = time.Hour
	tunedInFlight = 4096 // of all partitions
	tunedTrailing = 2048
)

func tunedConfig(partitions int) *raft.Config {
	c := raft.DefaultConfig()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = tunedTimeout, tunedTimeout, tunedTimeout/2
	c.CommitTimeout = tunedCommit
	c.MaxAppendEntries = min(max(tunedInFlight/partitions, 64), 512) + 2
	c.BatchApplyCh = true
	c.TrailingLogs = tunedTrailing
	c.SnapshotThreshold, c.SnapshotInterval = 1<<62, 24*time.Hour
	c.NoLegacyTelemetry = true
	return c
}

// campaign has a server in memory stand for election now.
func (s *raftServer) campaign() error {
	_, caller := raft.NewInmemTransport("")
	defer caller.Close()
	caller.Connect(s.transport.LocalAddr(), s.transport)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
	return caller.TimeoutNow("", s.transport.LocalAddr(), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
}

// handBack lets a server whose group is written in another process give leadership to the one there whenever it falls to it.
func (s *raftServer) handBack(home raft.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(raftHandBack)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if s.raft.State() == raft.Leader {
				_ = s.raft.LeadershipTransferToServer(home.ID, home.Address).Error() // or at the next tick
			}
		}
	}()
	s.stop = func() {
		cancel()
		<-ended
	}
}

// find looks for the leader among those that run here and says whether it is.
func (g *raftGroup) find() bool {
	for host, s := range g.servers {
		if s.raft.State() == raft.Leader {
			g.leader.Store(int32(host))
			return true
		}
	}
	return false
}

func (r *raftSystem) create(ctx context.Context, document Placed, value []byte) error {
	_, err := r.write(ctx, document.Number, value)
	return err
}

// write proposes a command that sets the document.
func (r *raftSystem) write(ctx context.Context, document int, value []byte) (int, error) {
	retries, err := r.groups[r.group[document]].propose(ctx, raftCommand(r.keys[document], value))
	if err != nil {
		return retries, fmt.Errorf("apply %s: %w", r.keys[document], err)
	}
	return retries, nil
}

// propose returns when a command is applied at the leader. To set the same value twice is to set it once, so everything is
// tried again that another leader may cure. What the state machine refuses is an error.
func (g *raftGroup) propose(ctx context.Context, command []byte) (int, error) {
	return retry(ctx, func() (verdict, error) {
		applied := g.servers[int(g.leader.Load())].raft.Apply(command, raftTimeout)
		err := applied.Error()
		if err == nil {
			err, _ = applied.Response().(error)
			return giveUp, err
		}
		switch {
		case errors.Is(err, raft.ErrNotLeader):
			if g.find() {
				return atOnce, err
			}
			return again, err
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
			return again, err
		}
		return giveUp, err
	})
}

// raftCommand is the key with its length before it, and the value.
func raftCommand(key string, value []byte) []byte {
	b := make([]byte, 0, binary.MaxVarintLen16+len(key)+len(value))
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	return append(b, value...)
}

func (r *raftSystem) close() error {
	return each(r.groups, func(_ int, g *raftGroup) error {
		return each(slices.Collect(maps.Values(g.servers)), func(_ int, s *raftServer) error { return s.close() })
	})
}

func (s *raftServer) close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
	}
	if s.raft != nil {
		errs = append(errs, s.raft.Shutdown().Error())
	}
	if s.transport != nil {
		errs = append(errs, s.transport.Close())
	}
	if s.logs != nil {
		errs = append(errs, s.logs.Close())
	}
	return errors.Join(errs...)
}

// countingMachine is the least a state machine can do.
type countingMachine struct{ applied uint64 }

func (m *countingMachine) Apply(*raft.Log) any {
	m.applied++
	return nil
}

func (m *countingMachine) Snapshot() (raft.FSMSnapshot, error) {
	return countingSnapshot(m.applied), nil
}

func (m *countingMachine) Restore(r io.ReadCloser) error {
	defer r.Close()
	return binary.Read(r, binary.BigEndian, &m.applied)
}

// batchingMachine is one that Raft hands all commands to at once that are committed together.
type batchingMachine struct{ countingMachine }

func (m *batchingMachine) ApplyBatch(logs []*raft.Log) []any {
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			m.applied++
		}
	}
	return make([]any, len(logs))
}

type countingSnapshot uint64

func (s countingSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := binary.Write(sink, binary.BigEndian, uint64(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s countingSnapshot) Release() {}
