package adamant

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/adamantdb/adamant/internal/simdisk"
	"github.com/adamantdb/adamant/partition"
)

// lastOfThree is the disk of a host that was one of three, by what its survey is made to say, and crashed: its documents lack
// what its log still holds. Another host reported ten entries more.
func lastOfThree(t *testing.T, documents int) (*simdisk.Disk, *RecoveryPlan) {
	t.Helper()
	running := simdisk.New()
	h, err := Open(Options{Dir: "data", FS: running, Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range documents {
		if err := h.Create(ctx, testKey(i), testDelta(1, "x")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := errors.Join(h.member(0).docs.Flush(), h.docs.Sync()); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk := running.Image(0, rand.New(rand.NewPCG(1, 1)))
	if err := h.Kill(); err != nil {
		t.Fatal(err)
	}
	s, err := Survey("data", RecoveryOptions{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	m := &s.Partitions[0]
	if m.Applied >= m.Last {
		t.Fatalf("the documents have applied %d of %d, nothing is left to do", m.Applied, m.Last)
	}
	m.Voters = append(m.Voters, "h2@0011223344556677", "h3@0011223344556688")
	s.Heard = []HeardHost{{Host: "h2", Members: []HeardMember{{Applied: m.Last + 10, Founding: m.Founding}}}}
	plan, err := PlanRecovery([]HostSurvey{s}, PlanOptions{Lost: []string{"h2", "h3"}})
	if err != nil {
		t.Fatal(err)
	}
	if set := plan.Partitions[0].Lost.Set(); set.Len() != 10 || set.Min() != m.Last+1 {
		t.Fatalf("lost %s, the log ends at %d", plan.Partitions[0].Lost, m.Last)
	}
	return disk, plan
}

// TestRecoveryCrashes before every operation that changes the disk: either nothing was begun and the host starts as it was, or it
// does not start before the same plan was applied again, which works. No document is missing afterwards.
func TestRecoveryCrashes(t *testing.T) {
	const documents = 8
	disk, plan := lastOfThree(t, documents)
	rng := rand.New(rand.NewPCG(2, 2))
	var mu sync.Mutex
	var images []vfs.FS
	recording := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			mu.Lock()
			defer mu.Unlock()
			images = append(images, disk.Image(100*(len(images)%2), rng))
		}
		return nil
	}))
	if _, err := ApplyRecovery("data", plan, plan.Digest(), RecoveryOptions{FS: recording}); err != nil {
		t.Fatal(err)
	}
	images = append(images, disk)
	begun := 0
	for i, image := range images {
		plainly, err := readBegun(image, "data")
		if err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		h, err := Open(Options{Dir: "data", FS: image, Partitions: 1})
		switch {
		case plainly != nil && (err == nil || !strings.Contains(err.Error(), "was begun here and not finished")):
			t.Fatalf("image %d: a host with half a recovery opens: %v", i, err)
		case plainly == nil && err != nil:
			t.Fatalf("image %d: %v", i, err)
		case plainly == nil && i > 0 && i < len(images)-1:
			m := h.member(0)
			if done, err := plan.Partitions[0].Recovered(m.log); err != nil || !done && !m.docs.Position().Holes.Empty() {
				t.Fatalf("image %d: something was done without a stored plan, %v", i, err)
			}
			if err := h.Kill(); err != nil { // whose log goes on: the plan is out of date, or done
				t.Fatal(err)
			}
			continue
		case plainly == nil:
			if err := h.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if plainly != nil {
			if begun++; begun%3 != 0 {
				continue
			}
		} else if i == 0 {
			continue
		}
		if _, err := ApplyRecovery("data", plan, plan.Digest(), RecoveryOptions{FS: image}); err != nil {
			t.Fatalf("image %d: apply again: %v", i, err)
		}
		checkRecovered(t, image, plan, documents)
	}
	if begun < 10 {
		t.Errorf("only %d of %d images have the recovery under way", begun, len(images))
	}
}

// checkRecovered opens a host and reads everything.
func checkRecovered(t *testing.T, fs vfs.FS, plan *RecoveryPlan, documents int) {
	t.Helper()
	h, err := Open(Options{Dir: "data", FS: fs, Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Kill()
	ctx := testContext(t)
	if err := h.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range documents {
		if d, err := h.Get(ctx, testKey(i)); err != nil || d.Head != 1 {
			t.Fatalf("%s: head %d, %v", testKey(i), d.Head, err)
		}
	}
	r := plan.Partitions[0]
	p := h.member(0).running()
	if got := partition.Founding(p.Founding()); got != r.Founding || !p.Recovered() || !p.Supersedes(uint64(r.Former[0])) || p.Term() <= r.Term {
		t.Fatalf("founding %s in term %d, the plan says %s after %v from term %d", got, p.Term(), r.Founding, r.Former, r.Term)
	}
}

// TestRecoveryRefusals: what is not what the plan was made for is left as it was.
func TestRecoveryRefusals(t *testing.T) {
	disk, plan := lastOfThree(t, 3)
	refused := func(want string, plan *RecoveryPlan, confirm string) {
		t.Helper()
		_, err := ApplyRecovery("data", plan, confirm, RecoveryOptions{FS: disk})
		if !errors.As(err, new(*RecoveryError)) || !strings.Contains(err.Error(), want) {
			t.Fatalf("want a refusal with %q, not %v", want, err)
		}
		if begun, err := readBegun(disk, "data"); err != nil || begun != nil {
			t.Fatalf("%s: something was begun, %v", want, err)
		}
	}
	refused("the plan's digest is", plan, "0000000000000000")
	change := func(change func(*RecoveryPlan)) *RecoveryPlan {
		next := *plan
		next.Partitions = append([]PartitionRecovery(nil), plan.Partitions...)
		r := &next.Partitions[0]
		r.Members = append([]partition.Survivor(nil), r.Members...)
		change(&next)
		return &next
	}
	for want, next := range map[string]*RecoveryPlan{
		"is for cluster other":            change(func(p *RecoveryPlan) { p.Cluster = "other" }),
		"takes no part":                   change(func(p *RecoveryPlan) { p.Partitions = nil }),
		"has changed since it was":        change(func(p *RecoveryPlan) { p.Partitions[0].Members[0].Last--; p.Partitions[0].Members[0].Through-- }),
		"voters and 0 replicas":           change(func(p *RecoveryPlan) { p.Partitions[0].Voters = nil }),
		"founding ":                       change(func(p *RecoveryPlan) { p.Partitions[0].Former = nil }),
		"of format 2, this program knows": change(func(p *RecoveryPlan) { p.Format = 2 }),
	} {
		refused(want, next, next.Digest())
	}
	// The host has run, and its log has grown.
	h, err := Open(Options{Dir: "data", FS: disk, Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WaitReady(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	refused("has changed since it was", plan, plan.Digest())
}
