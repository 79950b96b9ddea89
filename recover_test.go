package adamant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// recoverOptions keep logs so short that a member that is away for a moment gets a marker. While held is set nobody is healed.
func recoverOptions(held *atomic.Bool) func(*Options) {
	return func(o *Options) {
		o.Limits = Limits{InFlight: 16, TrailingLogs: 20, MarkerEvery: 10}
		connect := o.Network
		o.Network = func(id mesh.Identity) mesh.Network { return unhealed{connect(id), held} }
	}
}

// unhealed is a network that lets no request for repair out while it is held.
type unhealed struct {
	mesh.Network
	held *atomic.Bool
}

func (n unhealed) Call(ctx context.Context, to mesh.Target, r mesh.Request) ([]byte, error) {
	if r.Service == mesh.ServiceRepair && n.held.Load() {
		return nil, errors.New("held")
	}
	return n.Network.Call(ctx, to, r)
}

// stop closes a host in good order.
func (c *testCluster) stop(name string) {
	c.t.Helper()
	h := c.host(name)
	c.mu.Lock()
	delete(c.hosts, name)
	c.mu.Unlock()
	if err := h.Close(); err != nil {
		c.t.Fatalf("close %s: %v", name, err)
	}
}

// away takes a host down, has documents written, and brings the host back with a hole where they are.
func (c *testCluster) away(name string, from, n int) {
	c.t.Helper()
	c.kill(name)
	before := c.applied()
	c.together(from, n)
	c.hole(name, before+uint64(n))
}

// together writes documents, each once every live host has applied the one before: the log is so short that who lags behind by a few
// of them is sent a marker, as if it had been away.
func (c *testCluster) together(from, n int) {
	c.t.Helper()
	for i := from; i < from+n; i++ {
		c.fillBy(1, i, 1, 2)
		c.inStep()
	}
}

// inStep waits until every live host has applied what any has.
func (c *testCluster) inStep() {
	c.t.Helper()
	c.wait("all to have applied the same", func() error {
		highest := c.applied()
		for name, h := range c.live() {
			if got := h.member(0).docs.Applied(); got < highest {
				return fmt.Errorf("%s: applied %d of %d", name, got, highest)
			}
		}
		return nil
	})
}

// applied is the highest index that a live host has applied of the first partition.
func (c *testCluster) applied() (highest uint64) {
	for _, h := range c.live() {
		m := h.member(0)
		if err := m.docs.Flush(); err != nil {
			c.t.Fatal(err)
		}
		highest = max(highest, m.docs.Applied())
	}
	return highest
}

// hole brings a host back once nobody's log begins at an index or before.
func (c *testCluster) hole(name string, index uint64) {
	c.t.Helper()
	c.wait("the logs to be truncated", func() error {
		for host, h := range c.live() {
			if first, err := h.member(0).log.FirstIndex(); err != nil || first <= index {
				return fmt.Errorf("%s: the log begins at %d, not after %d, %v", host, first, index, err)
			}
		}
		return nil
	})
	h := c.open(name)
	c.wait("a hole on "+name, func() error {
		if m := h.member(0); m.docs.Status().Holes.Empty() {
			return fmt.Errorf("applied %d, no hole", m.docs.Applied())
		}
		return nil
	})
}

func (c *testCluster) survey(names ...string) []HostSurvey {
	c.t.Helper()
	var list []HostSurvey
	for _, n := range names {
		s, err := Survey(c.dir(n), RecoveryOptions{FS: c.sim.disk(n)})
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func (c *testCluster) expect(from, n int, there bool) {
	c.t.Helper()
	for i := from; i < from+n; i++ {
		key := testKey(i)
		var d Document
		err := c.on(key, func(h *Host) (err error) { d, err = h.Get(testContext(c.t), key); return err })
		switch {
		case there && (err != nil || d.Head != 2 || !strings.Contains(string(d.JSON), `"s2"`)):
			c.t.Fatalf("%s: head %d, %s, %v", key, d.Head, d.JSON, err)
		case !there && !errors.As(err, new(*NotFoundError)):
			c.t.Fatalf("%s: head %d, %v", key, d.Head, err)
		}
	}
}

// TestRecoverWithoutMajority (design §10): of five voters three die for good. The two that are left lack different parts; each has
// all that the other lacks but for what was written while both were away. They are recovered and serve all they had together; what
// only the dead had is named in the plan. The dead come back, three of five, and do no harm; wiped, they are members again.
func TestRecoverWithoutMajority(t *testing.T) { synctest.Test(t, testRecoverWithoutMajority) }

func testRecoverWithoutMajority(t *testing.T) {
	var held atomic.Bool
	c := newSimCluster(t, 5, 1, 5, recoverOptions(&held))
	c.ready()
	c.fill(0, 40, 2)
	held.Store(true)
	c.away("h1", 40, 40)
	c.away("h2", 80, 40)
	c.together(120, 10)
	for _, n := range []string{"h1", "h2"} {
		m := c.host(n).member(0)
		c.wait(n+" to follow", func() error {
			if _, err := c.host(n).Get(testContext(t), testKey(129), WithConsistency(ReadStale)); err != nil {
				return err
			}
			if n := len(c.host(n).reports.heard(time.Now())); n != 4 {
				return fmt.Errorf("%d reports", n)
			}
			return m.docs.Flush()
		})
	}
	c.stop("h1")
	c.stop("h2")
	c.fill(130, 10, 2) // on the dead alone
	lost := []string{"h3", "h4", "h5"}
	for _, n := range lost {
		c.kill(n)
	}
	surveys := c.survey("h1", "h2")
	plan := planned(t, surveys, lost)
	if len(plan.Partitions) != 1 || len(plan.Partitions[0].Voters) != 2 || len(plan.Partitions[0].Lost) == 0 {
		t.Fatalf("plan %+v", plan)
	}
	held.Store(false)
	for _, n := range []string{"h1", "h2"} {
		applied, err := ApplyRecovery(c.dir(n), plan, plan.Digest(), RecoveryOptions{FS: c.sim.disk(n)})
		if err != nil || len(applied) != 1 {
			t.Fatalf("%s: %v, %v", n, applied, err)
		}
		c.open(n)
	}
	c.expect(0, 130, true)
	c.expect(130, 10, false)
	c.fill(140, 10, 2)

	for _, n := range lost {
		c.open(n)
	}
	c.wait("the dead to be in safe mode", func() error {
		for _, n := range lost {
			if s := c.host(n).Status().Partitions[0]; !strings.Contains(s.SafeMode, "founded twice") {
				return fmt.Errorf("%s: %+v", n, s)
			}
		}
		return nil
	})
	c.fill(150, 10, 2)
	for _, n := range []string{"h1", "h2"} {
		if s := c.host(n).Status().Partitions[0]; s.SafeMode != "" || s.Term < plan.Partitions[0].Term {
			t.Fatalf("%s after the dead came back: %+v", n, s)
		}
		m := c.host(n).member(0)
		for _, dead := range lost {
			if !c.host(n).foreign(m, dead) {
				t.Fatalf("%s takes %s for one of its own", n, dead)
			}
			if _, err := (repairCaller{c.host(n)}).Call(testContext(t), dead, 0, nil); !errors.As(err, new(*UnavailableError)) {
				t.Fatalf("%s would be healed from %s: %v", n, dead, err)
			}
		}
		for _, p := range m.Peers() {
			if strings.Contains(strings.Join(lost, " "), p.Host) {
				t.Fatalf("%s has %s for a peer", n, p.Host)
			}
		}
	}
	for _, n := range lost {
		c.kill(n)
		c.wipe(n)
		c.open(n)
	}
	c.healthy()
	c.expect(0, 130, true)
	c.expect(140, 20, true)
}

// planned asserts what the planner refuses, and what it says may be lost.
func planned(t *testing.T, surveys []HostSurvey, lost []string) *RecoveryPlan {
	t.Helper()
	for _, s := range surveys {
		if len(s.Heard) != 4 || len(s.Partitions) != 1 || len(s.Partitions[0].Holes) == 0 {
			t.Fatalf("survey %+v", s)
		}
	}
	var refused *RecoveryError
	if _, err := PlanRecovery(surveys, PlanOptions{Lost: lost}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "just before that was stopped") {
		t.Fatalf("hosts that were alive are given up: %v", err)
	}
	for i := range surveys {
		for j := range surveys[i].Heard {
			h := &surveys[i].Heard[j]
			h.Alive = false
			if h.Host == "h3" { // as if its last report had come after the documents that only the dead have
				h.Members[0].Applied = max(surveys[0].Partitions[0].Last, surveys[1].Partitions[0].Last) + 20
			}
		}
	}
	if _, err := PlanRecovery(surveys, PlanOptions{Lost: lost[:2]}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "h5 its voters have a majority") {
		t.Fatalf("with h5 alive: %v", err)
	}
	plan, err := PlanRecovery(surveys, PlanOptions{Lost: lost})
	if err != nil {
		t.Fatal(err)
	}
	r := plan.Partitions[0]
	known := plan.Known[0].Index
	if text := strings.Join(plan.Describe(), "\n"); !strings.Contains(text, "MAY BE LOST") || !strings.Contains(text, "host h3 reported to have applied") {
		t.Fatalf("plan says\n%s", text)
	}
	if set := r.Lost.Set(); !set.Contains(known) || !set.Contains(known-19) || r.Base < known {
		t.Fatalf("lost %s, h3 reported %d, base %d", r.Lost, known, r.Base)
	}
	return plan
}

// TestRecoveredDocumentsAreMended: the one survivor of three has the beginning and the end of some documents, and nobody has what
// is between. They serve what is left, take new deltas, and are equal on every member that joins.
func TestRecoveredDocumentsAreMended(t *testing.T) { synctest.Test(t, testRecoveredDocumentsAreMended) }

func testRecoveredDocumentsAreMended(t *testing.T) {
	var held atomic.Bool
	c := newSimCluster(t, 3, 1, 3, recoverOptions(&held))
	c.ready()
	appendAll := func(first, last int64) {
		for i := range 20 {
			for seq := first; seq <= last; seq++ {
				key := testKey(i)
				if err := c.on(key, func(h *Host) error {
					_, err := h.Append(testContext(t), key, []Delta{testDelta(seq, "later")})
					return err
				}); err != nil {
					t.Fatal(err)
				}
				c.inStep()
			}
		}
	}
	c.fill(0, 20, 2)
	held.Store(true)
	c.kill("h1")
	appendAll(3, 4)
	later := c.applied()
	c.fillBy(1, 20, 40, 2)
	c.hole("h1", later)
	appendAll(5, 6)
	c.wait("h1 to follow", func() error {
		return errors.Join(c.host("h1").member(0).docs.Flush(), heads(c.host("h1"), 20, 6))
	})
	for _, n := range []string{"h1", "h2", "h3"} {
		c.kill(n)
	}
	held.Store(false)
	plan, err := PlanRecovery(c.survey("h1"), PlanOptions{Lost: []string{"h2", "h3"}, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ApplyRecovery(c.dir("h1"), plan, plan.Digest(), RecoveryOptions{FS: c.sim.disk("h1")}); err != nil {
		t.Fatal(err)
	}
	h1 := c.open("h1")
	c.ready()
	c.wait("the documents to be mended", func() error {
		if r, ok, err := h1.member(0).recoveryRecord(); err != nil || !ok || !r.Mended {
			return fmt.Errorf("%+v, %v", r, err)
		}
		return nil
	})
	for _, n := range []string{"h2", "h3"} {
		c.wipe(n)
		c.open(n)
	}
	c.healthy()
	appendAll(7, 7)
	for i := range 20 {
		key := testKey(i)
		if err := c.on(key, func(h *Host) error {
			d, err := h.Get(testContext(t), key)
			if text := string(d.JSON); err == nil && (d.Head != 7 || !strings.Contains(text, `"s2"`) || strings.Contains(text, `"s3"`) || !strings.Contains(text, `"s5"`)) {
				err = fmt.Errorf("head %d, %s", d.Head, text)
			}
			return err
		}); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	c.healthy()
	for n, h := range c.live() {
		for info, err := range h.member(0).docs.Inventory("") {
			if err != nil || info.Head.Gap() {
				t.Fatalf("%s: %s has a gap, %v", n, info.Key, err)
			}
		}
	}
}

// heads reports whether a host's own copies of the first n documents have got as far as a seq.
func heads(h *Host, n int, seq int64) error {
	for i := range n {
		head, ok, err := h.member(0).docs.Head(testKey(i))
		if err != nil || !ok || head.HeadSeq < seq {
			return fmt.Errorf("%s: head %d, %v, %v", testKey(i), head.HeadSeq, ok, err)
		}
	}
	return nil
}
