package adamant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
)

// The failures of a coordinator, which is the Raft leader, and of the application that lives on its host (docs/leadership.md).

// failing is a cluster with one partition on a simulated network, an application that writes document after document, and
// readers that ask every host all the time.
type failing struct {
	*testCluster
	net *simnet.Net // on simulated time

	acked     [failingDocuments]atomic.Int64
	ambiguous atomic.Int64
	refused   atomic.Int64 // linearizable reads at the host that was last known to lead
	reads     atomic.Int64
	stop      chan struct{}
	wg        sync.WaitGroup

	mu    sync.Mutex
	moves []move
}

// move is the news of a leader as one host learned it.
type move struct {
	at   time.Time
	host string
	LeaderChange
}

const failingDocuments = 4

func newFailing(t *testing.T, hosts int, change ...func(*Options)) *failing {
	sim := newSimulation()
	f := &failing{net: sim.net, stop: make(chan struct{})}
	f.net.SetFaults(simnet.Faults{Delay: time.Millisecond})
	c := &config.Cluster{Name: "test", Version: 1, Hosts: map[string]config.Host{}, Partitions: []config.Partition{{ID: 0}}}
	for i := range hosts {
		name := fmt.Sprintf("h%d", i+1)
		c.Hosts[name] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i), Zone: fmt.Sprint("z", i%3)}
		c.Partitions[0].Voters = append(c.Partitions[0].Voters, name)
	}
	f.testCluster = &testCluster{t: t, sim: sim, hosts: map[string]*Host{}, config: c}
	f.change = func(o *Options) {
		name := o.Host
		o.Events.LeaderChanged = func(l LeaderChange) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.moves = append(f.moves, move{time.Now(), name, l})
		}
		o.Events.CatastrophicFailure = func(Catastrophe) {}
		for _, more := range change {
			more(o)
		}
	}
	t.Cleanup(f.close)
	for _, n := range c.HostNames() {
		f.open(n)
	}
	f.ready()
	for i := range failingDocuments {
		f.wg.Go(func() { f.write(i) })
		f.wg.Go(func() { f.read(i) })
	}
	t.Cleanup(f.wg.Wait)
	t.Cleanup(sync.OnceFunc(func() { close(f.stop) }))
	f.progress()
	return f
}

func (f *failing) over() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

// write sends every delta until it is acknowledged, the same one again after an unknown outcome.
func (f *failing) write(i int) {
	key := testKey(i)
	for seq := int64(1); !f.over(); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		var err error
		if h := f.host(f.leader()); h == nil {
			err = &UnavailableError{Reason: "nobody leads"}
		} else if seq == 1 {
			if err = h.Create(ctx, key, testDelta(1, "v1")); Code(err) == CodeExists {
				err = nil // an earlier try of unknown outcome
			}
		} else {
			_, err = h.Append(ctx, key, []Delta{testDelta(seq, fmt.Sprint("v", seq))})
		}
		cancel()
		switch {
		case err == nil:
			f.acked[i].Store(seq)
			seq++
		case errors.As(err, new(*AmbiguousError)):
			f.ambiguous.Add(1)
		case !refusedFor(err):
			f.t.Errorf("append of seq %d to %s: %v", seq, key, err)
			return
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

// read asks every host for a document: what it answers includes what was acknowledged before.
func (f *failing) read(i int) {
	for !f.over() {
		leader := f.leader()
		for name, h := range f.live() {
			acked := f.acked[i].Load()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			d, err := h.Get(ctx, testKey(i))
			cancel()
			switch {
			case err == nil && d.Head < acked, acked > 0 && errors.As(err, new(*NotFoundError)):
				f.t.Errorf("%s read %s: head %d, acknowledged %d, %v", name, testKey(i), d.Head, acked, err)
			case err == nil:
				f.reads.Add(1)
			case name == leader:
				f.refused.Add(1)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// leader is whom the live hosts believe to lead, by the newest epoch.
func (f *failing) leader() (name string) {
	var epoch uint64
	for _, h := range f.live() {
		if l := h.locate(0); l.Leader != "" && l.Epoch >= epoch {
			name, epoch = l.Leader, l.Epoch
		}
	}
	return name
}

// progress waits until every document was written, and read, anew.
func (f *failing) progress() {
	f.t.Helper()
	var before [failingDocuments]int64
	for i := range before {
		before[i] = f.acked[i].Load()
	}
	reads := f.reads.Load()
	f.wait("writes and reads", func() error {
		for i := range before {
			if f.acked[i].Load() < before[i]+3 {
				return fmt.Errorf("%s: %d acknowledged", testKey(i), f.acked[i].Load())
			}
		}
		if f.reads.Load() < reads+10 {
			return errors.New("no reads")
		}
		return nil
	})
}

// finish ends the load and reads everything back on every host.
func (f *failing) finish() {
	f.t.Helper()
	close(f.stop)
	f.wg.Wait()
	f.healthy()
	for name, h := range f.live() {
		for i := range failingDocuments {
			f.wait("what was acknowledged", func() error { // a follower may still be applying the last of it
				d, err := h.Get(testContext(f.t), testKey(i), WithConsistency(ReadStale))
				if acked := f.acked[i].Load(); err == nil && d.Head < acked {
					err = fmt.Errorf("%s at the end: %s: head %d, acknowledged %d", name, testKey(i), d.Head, acked)
				}
				return err
			})
		}
	}
	f.stop = make(chan struct{}) // closed once more by the clean-up
}

// refusedFor reports whether nothing was done because nobody leads.
func refusedFor(err error) bool { return retriable(err) || errors.As(err, new(*SafeModeError)) }

// others are the hosts but for some.
func (f *failing) others(not ...string) []string {
	return slices.DeleteFunc(f.config.HostNames(), func(n string) bool { return slices.Contains(not, n) })
}

// timeline logs how the time without a leader came about: whom which host missed and found, after the fault.
func (f *failing) timeline(fault time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.moves {
		if m.at.After(fault) {
			f.t.Logf("%4d ms: %s: leader %q, epoch %d, serving %v %s", m.at.Sub(fault).Milliseconds(), m.host, m.Leader, m.Epoch, m.Serving, m.Reason)
		}
	}
}

// TestLeaderAndItsMajoritySideDie: what is left is too few to lead. It refuses writes and linearizable reads, goes on with stale
// ones, which say what they may have missed, and nothing acknowledged is lost when enough of the dead return.
func TestLeaderAndItsMajoritySideDie(t *testing.T) { synctest.Test(t, testLeaderAndItsMajoritySideDie) }

func testLeaderAndItsMajoritySideDie(t *testing.T) {
	f := newFailing(t, 5)
	leader := f.leader()
	dead := append([]string{leader}, f.others(leader)[:2]...)
	fault := time.Now()
	for _, n := range dead {
		f.kill(n)
	}
	survivors := f.others(dead...)
	f.wait("the survivors to miss their leader", func() error {
		for _, n := range survivors {
			if l := f.host(n).locate(0); l.Leader != "" {
				return fmt.Errorf("%s: %s leads", n, l.Leader)
			}
		}
		return nil
	})
	for _, n := range survivors {
		h := f.host(n)
		if _, err := h.Append(testContext(t), testKey(0), []Delta{testDelta(1<<40, "x")}); !refusedFor(err) {
			t.Errorf("%s: a write without a majority: %v", n, err)
		}
		if _, err := h.Get(testContext(t), testKey(0)); !refusedFor(err) {
			t.Errorf("%s: a linearizable read without a majority: %v", n, err)
		}
		d, err := h.Get(testContext(t), testKey(0), WithConsistency(ReadStale))
		if err != nil || d.Staleness == nil || !d.Staleness.Complete || d.Staleness.Age <= 0 || d.Staleness.Age > time.Since(fault)+time.Second {
			t.Errorf("%s: a stale read: %+v, %v", n, d.Staleness, err)
		}
	}
	for _, n := range survivors {
		f.wait("safe mode", func() error {
			_, err := f.host(n).Append(testContext(t), testKey(0), []Delta{testDelta(1<<40, "x")})
			var lost *SafeModeError
			if !errors.As(err, &lost) || !strings.Contains(lost.Reason, "majority lost: "+strings.Join(slices.Sorted(slices.Values(dead)), " and ")) {
				return fmt.Errorf("%s: %v", n, err)
			}
			if s := f.host(n).Status().Partitions[0].SafeMode; s != lost.Reason {
				return fmt.Errorf("%s: the status says %q", n, s)
			}
			return nil
		})
	}
	f.open(dead[1])
	f.progress()
	f.timeline(fault)
	f.open(dead[0])
	f.open(dead[2])
	f.finish()
}

// TestCoordinatorChangesWhileTheApplicationLives: a hand-over. No write is lost or of unknown outcome, and no document is told
// of a catastrophe.
func TestCoordinatorChangesWhileTheApplicationLives(t *testing.T) {
	synctest.Test(t, testCoordinatorChangesWhileTheApplicationLives)
}

func testCoordinatorChangesWhileTheApplicationLives(t *testing.T) {
	// A leader that the machine holds up for a few hundred milliseconds is missed, and rightly: that is not what this is about.
	f := newFailing(t, 3, func(o *Options) { o.Timing.Heartbeat = 2 * time.Second })
	for range 3 {
		leader := f.leader()
		to := f.others(leader)[0]
		epoch := f.host(leader).locate(0).Epoch
		fault := time.Now()
		if err := f.host(leader).Transfer(testContext(t), 0, to); err != nil {
			t.Fatal(err)
		}
		f.wait("the successor to serve", func() error {
			_, err := f.host(to).Lease(0)
			return err
		})
		if got, _ := f.host(to).Lease(0); got.Epoch != epoch+1 {
			t.Errorf("epoch %d after %d: nobody was to be missed", got.Epoch, epoch)
		}
		f.progress()
		f.timeline(fault)
	}
	if n := f.ambiguous.Load(); n > 0 {
		t.Errorf("%d writes of unknown outcome", n)
	}
	for name, h := range f.live() {
		if n := h.Metrics().Catastrophes; n > 0 {
			t.Errorf("%s: %d documents were told of a catastrophe", name, n)
		}
	}
	t.Logf("%d linearizable reads, %d refused by the leader as far as known", f.reads.Load(), f.refused.Load())
	f.finish()
}

// TestApplicationHostDies: the others elect once, and go on.
func TestApplicationHostDies(t *testing.T) { synctest.Test(t, testApplicationHostDies) }

func testApplicationHostDies(t *testing.T) {
	f := newFailing(t, 3)
	leader := f.leader()
	epoch := f.host(leader).locate(0).Epoch
	fault := time.Now()
	f.kill(leader)
	f.wait("another leader", func() error {
		if l := f.leader(); l == "" || l == leader {
			return fmt.Errorf("%q leads", l)
		}
		return nil
	})
	f.progress()
	f.timeline(fault)
	next := f.host(f.leader()).locate(0).Epoch
	if next <= epoch {
		t.Errorf("epoch %d after %d", next, epoch)
	}
	f.open(leader)
	f.finish()
}

// TestZoneSplit: the leader's zone is cut off from the two others, both ways and one way only, and heals after. The old leader
// stops serving before another one serves, as the readers at every host would see.
func TestZoneSplit(t *testing.T) {
	for name, cut := range map[string]func(f *failing, a, b string){
		"both ways":        func(f *failing, a, b string) { f.net.Cut(a, b) },
		"nothing goes out": func(f *failing, a, b string) { f.net.CutOneWay(a, b) },
		"nothing comes in": func(f *failing, a, b string) { f.net.CutOneWay(b, a) },
	} {
		t.Run(name, simulated(func(t *testing.T) {
			f := newFailing(t, 5)
			leader := f.leader()
			zone := f.config.Hosts[leader].Zone
			fault := time.Now()
			for a, ha := range f.config.Hosts {
				for b, hb := range f.config.Hosts {
					if ha.Zone == zone && hb.Zone != zone {
						cut(f, a, b)
					}
				}
			}
			f.wait("a leader in another zone", func() error {
				for _, n := range f.others() {
					if f.config.Hosts[n].Zone == zone {
						continue
					}
					if _, err := f.host(n).Lease(0); err == nil {
						return nil
					}
				}
				return errors.New("nobody serves")
			})
			if _, err := f.host(leader).Lease(0); err == nil {
				t.Errorf("%s still serves", leader)
			}
			f.progress()
			f.timeline(fault)
			f.net.Heal()
			f.progress()
			f.finish()
		}))
	}
}
