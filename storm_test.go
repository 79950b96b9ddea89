package adamant

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

var (
	stormTime = flag.Duration("storm", 3*time.Second, "how long TestStorm keeps breaking things")
	stormSeed = flag.Uint64("storm-seed", 1, "which faults TestStorm chooses")
)

// storm is five hosts on a simulated network under writers and linearizable readers, while splits, pauses, crashes, wiped
// disks, hand-overs and membership changes come one after the other.
type storm struct {
	*testCluster
	net    *simnet.Net
	rng    *rand.Rand
	names  []string
	down   string // the host that is crashed, "" for none
	counts map[string]int

	acked  []atomic.Int64 // newest acknowledged seq of each document
	writes atomic.Int64
	reads  atomic.Int64
	wrong  atomic.Int64
	stop   chan struct{}
	wg     sync.WaitGroup
}

const stormDocuments = 24

// How long clients wait before they try again, and readers before they ask everybody again. All hosts share the processors with
// them: clients that ask without a pause leave a busy machine's hosts none to elect anybody with.
const (
	stormRetry = 10 * time.Millisecond
	stormRead  = 5 * time.Millisecond
)

// TestStorm: nothing acknowledged is lost, no linearizable read is stale, no member stops or enters safe mode, and all
// members are complete once the faults end (design §13). Longer: go test -run TestStorm -storm 10m -storm-seed 7 -timeout 20m .
func TestStorm(t *testing.T) {
	s := newStorm(t)
	for i := range stormDocuments {
		s.wg.Go(func() { s.write(i) })
	}
	for i, level := range []Consistency{ReadLease, ReadLease, ReadLease, ReadQuorum} {
		s.wg.Go(func() { s.read(uint64(i), level) })
	}
	for end := time.Now().Add(*stormTime); time.Now().Before(end); {
		time.Sleep(s.breakSomething()) // how long a fault lasts is part of it
		if s.rng.IntN(2) == 0 {
			s.mendNetwork()
		}
		if s.rng.IntN(2) == 0 {
			s.restart()
		}
		s.inspect("majority lost") // where a fault lasts long, on a slow machine
	}
	s.mendNetwork()
	s.restart()
	s.settled(false)
	close(s.stop)
	s.wg.Wait()
	t.Logf("seed %d: %v; %d writes, %d reads", *stormSeed, s.counts, s.writes.Load(), s.reads.Load())
	s.healthy()
	s.verify()
}

func newStorm(t *testing.T) *storm {
	s := &storm{net: simnet.New(*stormSeed), rng: rand.New(rand.NewPCG(*stormSeed, 1)), names: []string{"h1", "h2", "h3", "h4", "h5"},
		counts: map[string]int{}, acked: make([]atomic.Int64, stormDocuments), stop: make(chan struct{})}
	s.net.SetFaults(simnet.Faults{Delay: time.Millisecond, Jitter: 3 * time.Millisecond})
	hosts := map[string]config.Host{}
	for i, n := range s.names {
		hosts[n] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
	}
	s.testCluster = &testCluster{t: t, root: t.TempDir(), hosts: map[string]*Host{}, config: &config.Cluster{Name: "test", Version: 1, Hosts: hosts,
		Partitions: []config.Partition{
			{ID: 0, From: 0, Voters: []string{"h1", "h2", "h3"}, Prefer: "h1"},
			{ID: 1, From: 1 << 63, Voters: []string{"h3", "h4", "h5"}, Prefer: "h4"}}}}
	s.change = func(o *Options) {
		o.Network = func(id mesh.Identity) mesh.Network { return s.net.Host(id) }
		o.Timing.Heartbeat = 150 * time.Millisecond
		if slowBuild {
			o.Timing.Heartbeat *= 2 // or a busy machine's answers take longer than leases do, and nobody stays in office
		}
		o.Timing.TruncationTick = 50 * time.Millisecond
		o.Limits = Limits{InFlight: 32, TrailingLogs: 40, MarkerEvery: 20}
	}
	t.Cleanup(s.close)
	for _, n := range s.names {
		s.open(n)
	}
	s.ready()
	return s
}

func (s *storm) complain(format string, args ...any) {
	if s.wrong.Add(1) <= 10 {
		s.t.Errorf(format, args...)
	}
}

func (s *storm) over() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// some picks a live host, the document's leader half of the time.
func (s *storm) some(r *rand.Rand, key Key) *Host {
	live := s.live()
	if len(live) == 0 {
		return nil
	}
	names := make([]string, 0, len(live))
	for n := range live {
		names = append(names, n)
	}
	slices.Sort(names)
	h := live[names[r.IntN(len(names))]]
	if leader := live[h.Locate(key).Leader]; leader != nil && r.IntN(2) == 0 {
		return leader
	}
	return h
}

// write appends to one document, one delta after the other, each until it is acknowledged.
func (s *storm) write(i int) {
	r := rand.New(rand.NewPCG(*stormSeed, uint64(i)+100))
	key := testKey(i)
	for seq := int64(1); !s.over(); {
		h := s.some(r, key)
		if h == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
		var err error
		if seq == 1 {
			if err = h.Create(ctx, key, testDelta(1, "x")); Code(err) == CodeExists {
				err = nil // an earlier try of unknown outcome
			}
		} else {
			_, err = h.Append(ctx, key, []Delta{testDelta(seq, fmt.Sprint("v", seq))})
		}
		cancel()
		switch {
		case err == nil:
			s.acked[i].Store(seq)
			s.writes.Add(1)
			seq++
		case errors.As(err, new(*SeqMismatchError)), errors.As(err, new(*NotFoundError)):
			s.complain("append of seq %d to %s at %s: %v", seq, key, h.name, err)
			return
		default:
			time.Sleep(stormRetry)
		}
	}
}

// read asks every live host for documents: what it answers includes what was acknowledged before.
func (s *storm) read(i uint64, level Consistency) {
	r := rand.New(rand.NewPCG(*stormSeed, i+900))
	for !s.over() {
		doc := r.IntN(stormDocuments)
		for _, h := range s.live() {
			acked := s.acked[doc].Load()
			if acked == 0 {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			d, err := h.Get(ctx, testKey(doc), WithConsistency(level))
			cancel()
			if err == nil && d.Head < acked || errors.As(err, new(*NotFoundError)) {
				s.complain("%s read of %s at %s: head %d, acknowledged %d, %v", level, testKey(doc), h.name, d.Head, acked, err)
			}
			s.reads.Add(1)
		}
		time.Sleep(stormRead)
	}
}

// breakSomething does one thing and returns how long it lasts.
func (s *storm) breakSomething() time.Duration {
	a, b := s.names[s.rng.IntN(5)], s.names[s.rng.IntN(5)]
	lasts := time.Duration(50+s.rng.IntN(600)) * time.Millisecond
	kind := []string{"split", "one-way", "pause", "isolate", "transfer", "transfer", "crash", "members", "wipe"}[s.rng.IntN(9)]
	switch kind {
	case "split":
		p := s.rng.Perm(5)
		s.net.Partition([]string{s.names[p[0]], s.names[p[1]]}, []string{s.names[p[2]], s.names[p[3]], s.names[p[4]]})
	case "one-way":
		s.net.CutOneWay(a, b)
	case "pause":
		s.net.Pause(a)
	case "isolate":
		s.net.Partition([]string{a})
	case "transfer":
		s.transfer(b)
		s.net.Pause(a)
	case "crash":
		if s.down != "" {
			return 0
		}
		s.kill(a)
		s.down = a
	case "members":
		s.moveMembers()
		lasts += 500 * time.Millisecond
	case "wipe":
		s.mendNetwork()
		s.restart()
		s.settled(false) // the disk of one member at a time: more may be the only copies
		s.kill(a)
		s.wipe(a)
		s.open(a)
	}
	s.counts[kind]++
	return lasts
}

// transfer hands everything to one host, with little patience.
func (s *storm) transfer(to string) {
	for _, h := range s.live() {
		for _, p := range h.Status().Partitions {
			if p.Role == RoleLeader {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.rng.IntN(200))*time.Millisecond)
				_ = h.Transfer(ctx, p.ID, to) // whatever becomes of it
				cancel()
			}
		}
	}
}

// moveMembers replaces a voter of one partition in the configuration of all hosts.
func (s *storm) moveMembers() {
	next := s.config.Clone()
	next.Version++
	p := &next.Partitions[s.rng.IntN(2)]
	var others []string
	for _, n := range s.names {
		if !slices.Contains(p.Voters, n) {
			others = append(others, n)
		}
	}
	p.Voters[s.rng.IntN(3)] = others[s.rng.IntN(len(others))]
	p.Prefer = p.Voters[s.rng.IntN(3)]
	s.mu.Lock()
	s.config = next
	s.mu.Unlock()
	for _, h := range s.live() {
		if err := h.SetCluster(next); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *storm) mendNetwork() {
	s.net.Heal()
	for _, n := range s.names {
		s.net.Resume(n)
	}
}

func (s *storm) restart() {
	if s.down != "" {
		s.open(s.down)
		s.down = ""
	}
}

// inspect looks for what never may happen, and for safe mode but for one reason.
func (s *storm) inspect(allowed string) {
	for _, h := range s.live() {
		for _, p := range h.Status().Partitions {
			if p.SafeMode != "" && (allowed == "" || !strings.HasPrefix(p.SafeMode, allowed)) || p.Role == RoleNone && p.NotServing != "" {
				s.complain("%s: partition %d: safe mode %q, %s", h.name, p.ID, p.SafeMode, p.NotServing)
			}
		}
	}
}

// verify reads every document once more.
func (s *storm) verify() {
	s.inspect("")
	for i := range stormDocuments {
		acked := s.acked[i].Load()
		if acked == 0 {
			continue
		}
		err := s.on(testKey(i), func(h *Host) error {
			d, err := h.Get(testContext(s.t), testKey(i))
			if err == nil && d.Head < acked {
				err = fmt.Errorf("head %d, acknowledged %d", d.Head, acked)
			}
			return err
		})
		if err != nil {
			s.t.Errorf("%s at the end: %v", testKey(i), err)
		}
	}
}
