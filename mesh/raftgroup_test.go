package mesh_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
)

// logFSM remembers the commands applied to it, each once: a command whose
// outcome was not known is proposed again.
type logFSM struct {
	mu       sync.Mutex
	commands []string
}

func (f *logFSM) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, ok := slices.BinarySearch(f.commands, string(l.Data)); !ok {
		f.commands = slices.Insert(f.commands, i, string(l.Data))
	}
	return nil
}

func (f *logFSM) applied() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commands)
}

func (f *logFSM) Snapshot() (raft.FSMSnapshot, error) { return f, nil }
func (f *logFSM) Release()                            {}

func (f *logFSM) Persist(sink raft.SnapshotSink) error {
	if _, err := io.WriteString(sink, strings.Join(f.applied(), "\n")); err != nil {
		return err
	}
	return sink.Close()
}

func (f *logFSM) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = strings.Split(string(b), "\n")
	return err
}

// server is one member of a group.
type server struct {
	raft      *raft.Raft
	transport *mesh.RaftTransport
	fsm       *logFSM
}

// startServer starts a member of partition 7 on a host of a fabric.
func startServer(t *testing.T, n mesh.Network, members []mesh.Network, opts mesh.RaftOptions) *server {
	t.Helper()
	mux := mesh.NewRaftMux()
	n.Handle(mesh.ServiceRaft, mux)
	id := raft.ServerID(n.Self().ID())
	s := &server{transport: mesh.NewRaftTransport(n, 7, id, opts), fsm: &logFSM{}}
	if err := mux.Add(s.transport); err != nil {
		t.Fatal(err)
	}
	conf := raft.DefaultConfig()
	conf.LocalID = id
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	conf.CommitTimeout = 5 * time.Millisecond
	conf.Logger = hclog.NewNullLogger()
	conf.SnapshotThreshold, conf.TrailingLogs = 1<<40, 0
	store := raft.NewInmemStore()
	if members != nil {
		var servers []raft.Server
		for _, m := range members {
			servers = append(servers, raft.Server{ID: raft.ServerID(m.Self().ID()), Address: raft.ServerAddress(m.Self().ID())})
		}
		if err := raft.BootstrapCluster(conf, store, store, raft.NewInmemSnapshotStore(), s.transport, raft.Configuration{Servers: servers}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := raft.NewRaft(conf, s.fsm, store, store, raft.NewInmemSnapshotStore(), s.transport)
	if err != nil {
		t.Fatal(err)
	}
	s.raft = r
	t.Cleanup(func() {
		_ = s.transport.Close()
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func leaderOf(t *testing.T, servers ...*server) *server {
	t.Helper()
	var leader *server
	eventually(t, "there is a leader", func() bool {
		for _, s := range servers {
			if s.raft.State() == raft.Leader && s.raft.VerifyLeader().Error() == nil {
				leader = s
				return true
			}
		}
		return false
	})
	return leader
}

// group is the members of a partition that are there.
type group struct {
	t       *testing.T
	servers []*server
	want    []string // what was proposed, sorted
}

// led runs f on the leader until it succeeds: on a busy machine leadership may
// change at any time.
func (g *group) led(what string, f func(leader *server) error) *server {
	g.t.Helper()
	var leader *server
	var err error
	eventually(g.t, what, func() bool {
		leader = leaderOf(g.t, g.servers...)
		if err = f(leader); err != nil {
			g.t.Logf("%s: %v; once more", what, err)
		}
		return err == nil
	})
	return leader
}

func (g *group) propose(n int) {
	g.t.Helper()
	var batch []string
	for i := range n {
		batch = append(batch, fmt.Sprintf("command %06d %s", len(g.want)+i, strings.Repeat("x", (len(g.want)+i)*37%5000)))
	}
	g.want = append(g.want, batch...)
	g.led("commands commit", func(leader *server) error {
		var futures []raft.ApplyFuture
		for _, c := range batch {
			futures = append(futures, leader.raft.Apply([]byte(c), patience))
		}
		for _, f := range futures {
			if err := f.Error(); err != nil {
				return err
			}
		}
		return nil
	})
	for _, s := range g.servers {
		eventually(g.t, "all is applied", func() bool { return slices.Equal(s.fsm.applied(), g.want) })
	}
}

func TestRaftGroup(t *testing.T) {
	for _, f := range fabrics {
		t.Run(f.name, func(t *testing.T) { testRaftGroup(t, f.make(t)) })
	}
}

func testRaftGroup(t *testing.T, fab fabric) {
	var hosts []mesh.Network
	for _, name := range []string{"a", "b", "c"} {
		hosts = append(hosts, fab.start(t, name, "1"))
	}
	g := &group{t: t}
	for _, h := range hosts {
		g.servers = append(g.servers, startServer(t, h, hosts, mesh.RaftOptions{}))
	}
	all := g.servers
	g.propose(300)

	// A hand-over uses TimeoutNow.
	g.led("leadership is handed over", func(leader *server) error {
		to := all[(slices.Index(all, leader)+1)%3].transport.LocalAddr()
		if err := leader.raft.LeadershipTransferToServer(raft.ServerID(to), to).Error(); err != nil {
			return err
		}
		if now := leaderOf(t, all...).transport.LocalAddr(); now != to {
			return fmt.Errorf("it went to %s instead of %s", now, to)
		}
		return nil
	})
	g.propose(50)
	checkCommandBytes(t, g)

	// The leader's host dies; the others go on.
	leader := leaderOf(t, g.servers...)
	i := slices.Index(all, leader)
	fab.kill(hosts[i].Self().Host)
	g.servers = slices.Delete(slices.Clone(all), i, i+1)
	g.propose(20)

	// It comes back empty, under another incarnation, and is sent a marker, by
	// whoever leads then.
	for _, s := range g.servers {
		if err := s.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	joiner := startServer(t, fab.start(t, hosts[i].Self().Host, "2"), nil, mesh.RaftOptions{})
	g.led("a server is removed", func(leader *server) error {
		return leader.raft.RemoveServer(raft.ServerID(all[i].transport.LocalAddr()), 0, 0).Error()
	})
	g.led("a server is added", func(leader *server) error {
		return leader.raft.AddVoter(raft.ServerID(joiner.transport.LocalAddr()), joiner.transport.LocalAddr(), 0, 0).Error()
	})
	g.servers = append(g.servers, joiner)
	g.propose(5)
	var out uint64
	for _, s := range g.servers {
		out += s.transport.Stats().SnapshotBytesOut
	}
	if in := joiner.transport.Stats().SnapshotBytesIn; in == 0 || out < in {
		t.Errorf("%d bytes of markers were sent, %d received", out, in)
	}
}

// checkCommandBytes compares the transports' counters with what was proposed.
func checkCommandBytes(t *testing.T, g *group) {
	t.Helper()
	var commands, in, out uint64
	for _, c := range g.want {
		commands += uint64(len(c))
	}
	for _, s := range g.servers {
		st := s.transport.Stats()
		in, out = in+st.CommandBytesIn, out+st.AppendEntriesBytesOut
		if st.AppendEntriesBytesIn < st.CommandBytesIn || st.SnapshotBytesIn != 0 || st.Refused != 0 {
			t.Errorf("%+v", st)
		}
	}
	if in < 2*commands || out < 2*commands {
		t.Errorf("%d command bytes, received %d, sent %d with headers", commands, in, out)
	}
}
