package adamant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/store"
)

// forge lets a host's member apply, in the place of the next command of the log, an append that nobody proposed: its records and
// chain are right in themselves.
func (c *testCluster) forge(name string, key Key, d Delta) {
	c.t.Helper()
	docs := c.host(name).member(c.host(name).partitionOf(key)).docs
	view, err := docs.View(key)
	if err != nil {
		c.t.Fatal(err)
	}
	head := view.Head
	if err := view.Close(); err != nil {
		c.t.Fatal(err)
	}
	index := docs.Applied() + 1
	err = docs.Apply([]store.Mutation{{Kind: store.Append, Key: key, Index: index, Term: 1, Generation: head.Generation, Deltas: []Delta{d},
		Prior: head.Chain, Chain: head.Chain.Next(d.AppendBinary(nil)), HeadSeq: d.SeqEnd}}, index)
	if err != nil {
		c.t.Fatal(err)
	}
}

// quietly waits until all members have applied everything, and returns the leader of the only partition and the other hosts.
func (c *testCluster) quietly() (leader string, others []string) {
	c.t.Helper()
	c.wait("equal applied indexes", func() error {
		leader, others = "", nil
		applied := map[uint64]bool{}
		for name, h := range c.live() {
			m := h.member(0)
			if err := m.docs.Flush(); err != nil {
				return err
			}
			applied[m.docs.Applied()] = true
			if last, err := m.log.LastIndex(); err != nil || last != m.docs.Applied() {
				return fmt.Errorf("%s: last index %d, applied %d, %v", name, last, m.docs.Applied(), err)
			}
			if p := h.Status().Partitions[0]; p.Serving {
				leader = name
			} else {
				others = append(others, name)
			}
		}
		if leader == "" || len(applied) != 1 {
			return fmt.Errorf("leader %q, applied %v", leader, applied)
		}
		return nil
	})
	return leader, others
}

// reach waits until every member has a document at a seq: what one learns of another may come before what the leader has committed.
func (c *testCluster) reach(key Key, seq int64) {
	c.t.Helper()
	c.wait(fmt.Sprintf("seq %d of %s everywhere", seq, key), func() error {
		for name, h := range c.live() {
			if head, ok, err := h.member(0).docs.Head(key); err != nil || !ok || head.HeadSeq < seq {
				return fmt.Errorf("%s: head %d, %v, %v", name, head.HeadSeq, ok, err)
			}
		}
		return nil
	})
}

// isolatedEverywhere waits until all members are in safe mode, or none.
func (c *testCluster) isolatedEverywhere(on bool) {
	c.t.Helper()
	c.wait(fmt.Sprintf("safe mode %v everywhere", on), func() error {
		for name, h := range c.live() {
			if p := h.Status().Partitions[0]; p.SafeMode != "" != on {
				return fmt.Errorf("%s: safe mode %q; %s", name, p.SafeMode, c.states())
			}
		}
		return nil
	})
}

// states is what every host knows of the only partition's divergence.
func (c *testCluster) states() string {
	var b strings.Builder
	for name, h := range c.live() {
		q := h.member(0).isolation.load()
		fmt.Fprintf(&b, "%s: %s restore %q, %v; ", name, facts(q), q.Restore, h.member(0).docs.Status().Complete)
	}
	return b.String()
}

// contents reads every document of a host back, with all its deltas.
func contents(t *testing.T, h *Host) string {
	t.Helper()
	var b strings.Builder
	ctx := testContext(t)
	for info, err := range h.Inventory(ctx, Scope{}, WithConsistency(ReadStale)) {
		if err != nil {
			t.Fatal(err)
		}
		d, err := h.Get(ctx, info.Key, WithConsistency(ReadStale))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %d %s\n", info.Key, info.Generation, info.Head, d.JSON)
		for e, err := range h.Log(ctx, info.Key, WithConsistency(ReadStale)) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "  %d %s %s %s\n", e.Index, e.Chain, e.Delta.Redo, e.Delta.Undo)
		}
	}
	return b.String()
}

func (c *testCluster) sameContents() {
	c.t.Helper()
	first, from := "", ""
	for name, h := range c.live() {
		if text := contents(c.t, h); from == "" {
			first, from = text, name
		} else if text != first {
			c.t.Errorf("%s and %s do not hold the same: %s", from, name, firstDifference(first, text))
		}
	}
}

// diverged makes a cluster of one partition in which one member holds another history of a document than the others, whom the
// log agrees with. The forged member does not lead.
func diverged(t *testing.T, hosts int, change func(*Options)) (c *testCluster, leader, forged string, key Key) {
	c = newSimCluster(t, hosts, 1, hosts, change)
	c.ready()
	c.fill(0, 40, 3)
	leader, others := c.quietly()
	key, forged = testKey(7), others[0]
	c.forge(forged, key, testDelta(4, "forged"))
	if _, err := c.host(leader).Append(testContext(t), key, []Delta{testDelta(4, "true")}); err != nil {
		t.Fatal(err)
	}
	c.reach(key, 4)
	return c, leader, forged, key
}

// TestDivergence: one member holds another history of a document. Within an interval of anti-entropy the whole partition stops
// writing, the leader too, and says which document it is about; stale reads go on, and no version is touched until an operator
// has chosen. Then all members hold the same.
func TestDivergence(t *testing.T) { synctest.Test(t, testDivergence) }

func testDivergence(t *testing.T) {
	c, leader, forged, key := diverged(t, 3, nil)
	began := time.Now()
	c.isolatedEverywhere(true)
	if took := time.Since(began); took > 10*c.host(leader).opts.Timing.AntiEntropy {
		t.Errorf("safe mode everywhere after %v", took)
	}
	c.wait("the document to be named everywhere", func() error {
		for name, h := range c.live() {
			if s := h.Status().Partitions[0]; !strings.Contains(s.SafeMode, key.String()) {
				return fmt.Errorf("%s: %s", name, s.SafeMode)
			}
		}
		return nil
	})
	checkRefusals(t, c, leader, key)
	checkReports(t, c, forged, key)
	for name, h := range c.live() {
		d, err := h.Get(testContext(t), key, WithConsistency(ReadStale))
		if want := pick(name == forged, "forged", "true"); err != nil || d.Head != 4 || !strings.Contains(string(d.JSON), want) {
			t.Errorf("stale read on %s: %s, %v, want the %s version", name, d.JSON, err, want)
		}
		if n := h.Metrics().Repair.EntriesIn; n > 0 {
			t.Errorf("%s imported %d deltas from a member that contradicts it", name, n)
		}
	}
	checkComparison(t, c, forged, key)
	c.clear(forged, leader)
	c.isolatedEverywhere(false)
	c.healthy()
	c.sameContents()
	if d, err := c.host(forged).Get(testContext(t), key, WithConsistency(ReadStale)); err != nil || !strings.Contains(string(d.JSON), "true") {
		t.Errorf("%s has %s, %v", forged, d.JSON, err)
	}
	c.goesOn(key, 5)
	for name, h := range c.live() {
		if q := h.member(0).isolation.load(); q.Epoch != 2 {
			t.Errorf("%s: what was cured was reported again: %s", name, facts(q))
		}
	}
}

// clear ends safe mode by the choice of a host, as an operator would who asks another one.
func (c *testCluster) clear(asked, keep string) {
	c.t.Helper()
	c.wait("the choice to be taken", func() error {
		waiting, err := c.host(asked).ClearSafeMode(testContext(c.t), 0, keep)
		if len(waiting) > 0 {
			c.t.Logf("%v take it later", waiting)
		}
		return err
	})
}

func checkRefusals(t *testing.T, c *testCluster, leader string, key Key) {
	t.Helper()
	var refused *SafeModeError
	_, err := c.host(leader).Append(testContext(t), key, []Delta{testDelta(5, "x")})
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), key.String()) {
		t.Errorf("append in safe mode: %v", err)
	}
	if _, err = c.host(leader).Get(testContext(t), key); !errors.As(err, &refused) {
		t.Errorf("linearizable read in safe mode: %v", err)
	}
	if err = c.host(leader).Create(testContext(t), testKey(1000), testDelta(1, "x")); !errors.As(err, &refused) {
		t.Errorf("create of another document in safe mode: %v", err)
	}
}

// checkReports: status and history of every host name the members and the document.
func checkReports(t *testing.T, c *testCluster, forged string, key Key) {
	t.Helper()
	c.wait("reports that name both members on every host", func() error {
		for name, h := range c.live() {
			s := h.Status()
			named := false
			for _, d := range s.Partitions[0].Divergences {
				if d.Host != forged && d.Peer != forged {
					t.Fatalf("%s: %s and %s are said to differ, but %s is who does", name, d.Host, d.Peer, forged)
				}
				named = named || len(d.Documents) == 1 && d.Documents[0].Key == key.String()
			}
			noted := false
			for _, n := range s.History {
				noted = noted || n.Kind == "divergence" && strings.Contains(n.Text, forged) && strings.Contains(n.Text, key.String())
			}
			if !named || !noted {
				return fmt.Errorf("%s: named %v, noted %v: %+v", name, named, noted, s.Partitions[0].Divergences)
			}
		}
		return nil
	})
}

// TestShownVersionIsOfItsIndex: the version that a host shows of a document is as of an index that it says it has applied. A view shows what is
// staged and not written yet, too.
func TestShownVersionIsOfItsIndex(t *testing.T) {
	h, err := Open(Options{Dir: t.TempDir(), Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.WaitReady(testContext(t)); err != nil {
		t.Fatal(err)
	}
	key := testKey(0)
	if err := h.Create(testContext(t), key, testDelta(1, "x")); err != nil { // staged, for half a second
		t.Fatal(err)
	}
	reply, err := h.shown(0, showRequest{Document: key.String(), After: -1})
	if v := reply.Version; err != nil || !v.Exists || v.LastIndex > v.Applied {
		t.Errorf("index %d changed the document that is shown as of index %d, %v", v.LastIndex, v.Applied, err)
	}
}

// checkComparison: any host shows all versions, and where they part.
func checkComparison(t *testing.T, c *testCluster, forged string, key Key) {
	t.Helper()
	for name, h := range c.live() {
		cmp, err := h.Compare(testContext(t), 0, key)
		if err != nil || !cmp.Differ || cmp.FirstSeq != 4 || cmp.Searched != 3 || len(cmp.Versions) != 3 {
			t.Fatalf("%s: %+v, %v", name, cmp, err)
		}
		for _, v := range cmp.Versions {
			want := pick(v.Host == forged, "forged", "true")
			if v.Error != "" || v.Head != 4 || v.Delta == nil || v.Delta.SeqBegin != 4 || !strings.Contains(v.Delta.Redo, want) {
				t.Errorf("%s: version of %s: %+v, %+v", name, v.Host, v, v.Delta)
			}
		}
		same, err := h.Compare(testContext(t), 0, testKey(8))
		if err != nil || same.Differ || same.FirstSeq != -1 || same.Searched != 3 {
			t.Errorf("%s: a document that is the same: %+v, %v", name, same, err)
		}
	}
}

// TestLogContradictsHistory: the log is what shows that a member holds something else. Comparisons play no part.
func TestLogContradictsHistory(t *testing.T) { synctest.Test(t, testLogContradictsHistory) }

func testLogContradictsHistory(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, func(o *Options) { o.Timing.AntiEntropy = time.Hour })
	c.ready()
	c.fill(0, 200, 3)
	leader, others := c.quietly()
	forged, kept := others[0], others[1]
	key := testKey(7)
	// What the forged command took the place of is a change of this one, which is to be healed too.
	other := key
	for i := 0; other == key || c.host(leader).Locate(other).Bucket != c.host(leader).Locate(key).Bucket; i++ {
		other = testKey(1000 + i)
	}
	c.forge(forged, key, testDelta(4, "forged"))
	if err := c.host(leader).Create(testContext(t), other, testDelta(1, "first")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.host(leader).Append(testContext(t), key, []Delta{testDelta(4, "true")}); err != nil {
		t.Fatal(err)
	}
	c.reach(key, 4)
	c.isolatedEverywhere(true)
	checkRefusals(t, c, leader, key)
	checkReports(t, c, forged, key)
	checkComparison(t, c, forged, key)
	c.clear(leader, kept)
	c.isolatedEverywhere(false)
	c.healthy()
	c.sameContents()
}

// TestClearWithoutAChoice: what is still different is reported again. An operator may also choose the version that the log
// contradicts: then all others take that over.
func TestClearWithoutAChoice(t *testing.T) { synctest.Test(t, testClearWithoutAChoice) }

func testClearWithoutAChoice(t *testing.T) {
	c, leader, forged, key := diverged(t, 3, nil)
	c.isolatedEverywhere(true)
	if _, err := c.host(forged).ClearSafeMode(testContext(t), 0, ""); err != nil {
		t.Fatal(err)
	}
	c.wait("the divergence to be reported again", func() error {
		for name, h := range c.live() {
			if q := h.member(0).isolation.load(); q.Epoch != 3 {
				return fmt.Errorf("%s: epoch %d", name, q.Epoch)
			}
		}
		return nil
	})
	c.isolatedEverywhere(true)
	if d, err := c.host(forged).Get(context.Background(), key, WithConsistency(ReadStale)); err != nil || !strings.Contains(string(d.JSON), "forged") {
		t.Errorf("%s has %s, %v", forged, d.JSON, err)
	}
	c.clear(leader, forged)
	c.isolatedEverywhere(false)
	c.healthy()
	c.sameContents()
	if d, err := c.host(leader).Get(testContext(t), key, WithConsistency(ReadStale)); err != nil || !strings.Contains(string(d.JSON), "forged") {
		t.Errorf("%s has %s, %v", leader, d.JSON, err)
	}
	c.goesOn(key, 5)
}

// TestIncompleteVersionIsNotKept: whoever follows such a choice would discard what only it has.
func TestIncompleteVersionIsNotKept(t *testing.T) { synctest.Test(t, testIncompleteVersionIsNotKept) }

func testIncompleteVersionIsNotKept(t *testing.T) {
	c, _, forged, _ := diverged(t, 3, nil)
	c.isolatedEverywhere(true)
	others := c.config.HostNames()
	others = slices.DeleteFunc(others, func(name string) bool { return name == forged })
	for _, name := range others {
		c.kill(name) // nobody is left to heal from
	}
	h := c.host(forged)
	if _, err := h.member(0).docs.Damage(11, store.Damaged{Whole: true}); err != nil {
		t.Fatal(err)
	}
	var refused *UnavailableError
	if _, err := h.ClearSafeMode(testContext(t), 0, forged); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "lacks something") {
		t.Fatalf("the choice of a version with a hole: %v", err)
	}
	if q := h.member(0).isolation.load(); !q.on() {
		t.Errorf("a choice that was refused ended safe mode: %s", facts(q))
	}
	for _, name := range others {
		c.open(name)
	}
	c.wait("the hole to heal", func() error {
		if !h.Status().Partitions[0].Complete {
			return errors.New("it is still there")
		}
		return nil
	})
	c.clear(forged, forged)
	c.isolatedEverywhere(false)
}

// TestDivergenceReachesWhoWasAway: a member that was down enters safe mode when it is back, and one that was down while it was
// ended leaves it, having discarded its version.
func TestDivergenceReachesWhoWasAway(t *testing.T) { synctest.Test(t, testDivergenceReachesWhoWasAway) }

func testDivergenceReachesWhoWasAway(t *testing.T) {
	c := newSimCluster(t, 3, 1, 3, nil)
	c.ready()
	c.fill(0, 40, 3)
	leader, others := c.quietly()
	forged, away := others[0], others[1]
	c.kill(away)
	key := testKey(7)
	c.forge(forged, key, testDelta(4, "forged"))
	if _, err := c.host(leader).Append(testContext(t), key, []Delta{testDelta(4, "true")}); err != nil {
		t.Fatal(err)
	}
	c.reach(key, 4)
	c.isolatedEverywhere(true)
	c.open(away)
	c.isolatedEverywhere(true)
	c.kill(forged)
	c.clear(away, leader)
	c.isolatedEverywhere(false)
	c.open(forged)
	c.wait("the member that was away to discard its version", func() error {
		if q := c.host(forged).member(0).isolation.load(); q.Epoch != 2 {
			return fmt.Errorf("epoch %d", q.Epoch)
		}
		return nil
	})
	c.isolatedEverywhere(false)
	c.healthy()
	c.sameContents()
}

// TestHealsFromTheKeptOnly: while the host that an operator chose is away, a member that has discarded its version takes nothing
// from one that still has another, complete and alive as that is; and who was told by somebody that has nothing left discards
// nothing.
func TestHealsFromTheKeptOnly(t *testing.T) { synctest.Test(t, testHealsFromTheKeptOnly) }

func testHealsFromTheKeptOnly(t *testing.T) {
	c, leader, forged, key := diverged(t, 3, nil)
	c.isolatedEverywhere(true)
	third := ""
	for name := range c.live() {
		if name != leader && name != forged {
			third = name
		}
	}
	c.wait("one state everywhere", func() error {
		first := facts(c.host(leader).member(0).isolation.load())
		for name, h := range c.live() {
			if other := facts(h.member(0).isolation.load()); other != first {
				return fmt.Errorf("%s: %s, not %s", name, other, first)
			}
		}
		return nil
	})
	c.kill(leader)
	h, m := c.host(third), c.host(third).member(0)
	if err := h.hear(m, leader, wardRequest{State: m.isolation.load().ended(leader), Clean: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := (repairCaller{h}).Call(testContext(t), forged, 0, nil); Code(err) != CodeUnavailable {
		t.Errorf("request to %s: %v", forged, err)
	}
	for end := time.Now().Add(4 * h.opts.Timing.AntiEntropy); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if m.docs.Status().Complete {
			t.Fatalf("%s healed from %s", third, forged)
		}
		if _, err := h.Get(testContext(t), key, WithConsistency(ReadStale)); Code(err) != CodeNotFound {
			t.Fatalf("the discarded document: %v", err)
		}
		if d, err := c.host(forged).Get(testContext(t), key, WithConsistency(ReadStale)); err != nil || !strings.Contains(string(d.JSON), "forged") {
			t.Fatalf("%s has %s, %v", forged, d.JSON, err)
		}
	}
	c.open(leader)
	c.isolatedEverywhere(false)
	c.healthy()
	c.sameContents()
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + " | " + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// goesOn appends to a document whose partition was in safe mode.
func (c *testCluster) goesOn(key Key, seq int64) {
	c.t.Helper()
	err := c.on(key, func(h *Host) error {
		_, err := h.Append(testContext(c.t), key, []Delta{testDelta(seq, "after")})
		return err
	})
	if err != nil {
		c.t.Errorf("append after the end of safe mode: %v", err)
	}
	c.quietly()
	c.sameContents()
}

// TestNewMemberNoticesADivergence: a host lost its disk after a divergence had been ended, and is a member again. Then it notices
// another divergence. Nobody has chosen: the partition is in safe mode, and no version goes.
func TestNewMemberNoticesADivergence(t *testing.T) { synctest.Test(t, testNewMemberNoticesADivergence) }

func testNewMemberNoticesADivergence(t *testing.T) {
	c, leader, forged, key := diverged(t, 3, nil)
	c.isolatedEverywhere(true)
	c.clear(forged, leader)
	c.isolatedEverywhere(false)
	c.healthy()
	time.Sleep(10 * time.Second) // everybody has heard
	c.kill(forged)
	c.wipe(forged)
	c.open(forged)
	c.wait("the new member", func() error {
		for name, h := range c.live() {
			p := h.Status().Partitions[0]
			if !p.Complete || h.member(0).docs.Applied() == 0 {
				return fmt.Errorf("%s is not whole", name)
			}
		}
		return nil
	})
	c.healthy()
	time.Sleep(10 * time.Second)
	leader, _ = c.quietly()
	if leader == forged {
		t.Fatal("the new member leads: the test shows nothing")
	}
	for name, h := range c.live() {
		if q := h.member(0).isolation.load(); q.Epoch != 2 {
			t.Fatalf("%s has not heard of what was before: %s", name, c.states())
		}
	}
	c.forge(forged, key, testDelta(5, "only here"))
	if _, err := c.host(leader).Append(testContext(t), key, []Delta{testDelta(5, "true")}); err != nil {
		t.Fatal(err)
	}
	c.reach(key, 5)
	h := c.host(forged)
	h.find(0, Divergence{Host: forged, Peer: leader, Bucket: h.member(0).docs.Range().Bucket(key.Hash()), Time: time.Now(),
		Documents: []DivergedDocument{{Key: key.String(), Hash: fmt.Sprintf("%016x", key.Hash()), Seq: 5, Reason: "x"}}})
	time.Sleep(20 * time.Second)
	for name, h := range c.live() {
		if h.Status().Partitions[0].SafeMode == "" {
			t.Errorf("%s is not in safe mode, and no operator has chosen: %s", name, c.states())
		}
	}
	d, err := h.Get(testContext(t), key, WithConsistency(ReadStale))
	if err != nil || !strings.Contains(string(d.JSON), "only here") {
		t.Errorf("%s discarded its version, and nobody has chosen: %s, %v", forged, d.JSON, err)
	}
}

// TestChoiceOfWhoHasNotHeardOfALoss: an operator keeps a version on a host that knows of documents only. A member that knows of two
// histories discards nothing for that.
func TestChoiceOfWhoHasNotHeardOfALoss(t *testing.T) {
	synctest.Test(t, testChoiceOfWhoHasNotHeardOfALoss)
}

func testChoiceOfWhoHasNotHeardOfALoss(t *testing.T) {
	c, leader, forged, key := diverged(t, 3, nil)
	c.isolatedEverywhere(true)
	time.Sleep(5 * time.Second)
	c.kill(leader) // it is out of reach of who notices the loss; its operator chooses there
	h, m := c.host(forged), c.host(forged).member(0)
	chosen := m.isolation.load().ended(leader)
	h.record(testContext(t), finding{0, Divergence{Host: forged, Peer: leader, Index: 9, Time: time.Now(),
		Lost: &LostCommits{Committed: 2, Found: 1, Term: 3, Applied: 9}}})
	if q := m.isolation.load(); !q.lost() {
		t.Fatalf("the loss is not known: %s", facts(q))
	}
	if err := h.hear(m, leader, wardRequest{State: chosen, Clean: true}); err != nil {
		t.Fatal(err)
	}
	q := m.isolation.load()
	if !q.lost() {
		t.Errorf("%s knew of two histories, and follows a choice between documents: %s, restores %q", forged, facts(q), q.Restore)
	}
	if m.isolation.reason() == "" {
		t.Error("safe mode is over")
	}
	if _, err := h.Get(testContext(t), key, WithConsistency(ReadStale)); err != nil {
		t.Errorf("its version is discarded: %v", err)
	}
}
