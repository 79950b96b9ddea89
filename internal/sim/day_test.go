package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

var wholeDay = flag.Bool("day", false, "TestDay takes a simulated day instead of a few minutes")

// usage is what a cluster takes at one moment.
type usage struct {
	heap       uint64
	disk       int64
	goroutines int
}

func (u usage) String() string {
	return fmt.Sprintf("heap %d KiB, disks %d KiB, %d goroutines", u.heap>>10, u.disk>>10, u.goroutines)
}

// TestDay: documents come and go, leaders change, members are replaced, hosts restart and lose their disks, and in the end a
// cluster takes no more memory, disk and goroutines than in the beginning. By default for some minutes; -day is for a whole one.
func TestDay(t *testing.T) {
	rounds, pause := 32, 2*time.Second
	switch {
	case *wholeDay:
		rounds, pause = 24*60, 58*time.Second
	case testing.Short() || raceDetector:
		rounds = 16
	}
	hosts := []string{"h1", "h2", "h3", "h4"}
	p := plan{Seed: 1, Hosts: hosts, Voters: [][]string{hosts[:3], hosts[1:]}, Delay: time.Millisecond}
	var pulse atomic.Int64
	done := make(chan struct{})
	defer close(done)
	go watchdog(p, &pulse, new(atomic.Pointer[world]), done)
	bubble(t, func() {
		w := newWorld(p, &pulse)
		defer w.close()
		var taken []usage
		for i := range rounds {
			w.round(i)
			if err := w.settle(true, healWithin); err != nil || len(w.wrongs()) > 0 {
				t.Fatalf("round %d: %v, %v\n%s", i, err, w.wrongs(), w)
			}
			time.Sleep(pause)
			taken = append(taken, w.usage(t))
		}
		t.Logf("%d rounds in %s: at first %s, in the end %s", rounds, time.Since(w.begun), taken[0], taken[rounds-1])
		flat(t, taken)
	})
}

// round is one of TestDay. In sixteen of them each thing happens to each host: one that was never restarted would fill its first
// memtables all the time, and they are what a disk holds.
func (w *world) round(i int) {
	host := w.plan.Hosts[(i+i/4)%len(w.plan.Hosts)]
	w.churn(i)
	w.transfer(step{Hosts: []string{host}, For: time.Second})
	switch i % 4 {
	case 0:
		w.wipe(step{Kind: wipe, Hosts: []string{host}, For: time.Second})
	case 1:
		p := i / 4 % len(w.plan.Voters)
		voters := []string{w.plan.Hosts[i/4%4], w.plan.Hosts[(i/4+1)%4], w.plan.Hosts[(i/4+2)%4]}
		w.moveMember(step{N: p, Voters: voters, For: time.Second})
	case 2:
		w.restart(step{Hosts: []string{host}, For: time.Second}, func(*machine) {})
	default:
		w.crashed(step{Hosts: []string{host}, For: time.Second})
		w.work.Wait()
	}
}

// churn makes documents, and removes them.
func (w *world) churn(round int) {
	for d := range 8 {
		key := adamant.Key{Space: "churn", Key: fmt.Sprintf("document-%d-%d", round, d)}
		seq := int64(1)
		delta := func() adamant.Delta {
			return adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte(`{"x":"` + strings.Repeat("y", 2000) + `"}`), Undo: []byte(`{}`)}
		}
		w.insist(key, func(ctx context.Context, h *adamant.Host) error {
			if err := h.Create(ctx, key, delta()); !errors.As(err, new(*adamant.ExistsError)) {
				return err
			}
			return nil
		})
		for seq = 2; seq < 6; seq++ {
			w.insist(key, func(ctx context.Context, h *adamant.Host) error {
				_, err := h.Append(ctx, key, []adamant.Delta{delta()})
				return err
			})
		}
		w.insist(key, func(ctx context.Context, h *adamant.Host) error { return h.Delete(ctx, key) })
	}
}

// insist does something where a document is served, sooner or later.
func (w *world) insist(key adamant.Key, do func(context.Context, *adamant.Host) error) {
	var err error
	for range 400 {
		for n, h := range w.live() {
			if h.Locate(key).Leader != n {
				continue
			}
			ctx, cancel := within(time.Second)
			err = do(ctx, h)
			cancel()
			if err == nil {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.complain("%s: %v", key, err)
}

// usage is measured after what can be freed was.
func (w *world) usage(t *testing.T) (u usage) {
	runtime.GC()
	runtime.GC() // finalizers have run
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.goroutines = len(goroutines())
	for _, n := range w.plan.Hosts {
		bytes, err := w.diskOf(w.machines[n]).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		u.disk += bytes
	}
	u.heap = m.HeapAlloc - uint64(u.disk) // the disks are in it
	return u
}

// flat compares the last quarter of the time with the second one: what is slow to settle has done so by then.
func flat(t *testing.T, taken []usage) {
	t.Helper()
	most := func(list []usage) (u usage) {
		for _, one := range list {
			u.heap, u.disk, u.goroutines = max(u.heap, one.heap), max(u.disk, one.disk), max(u.goroutines, one.goroutines)
		}
		return u
	}
	quarter := len(taken) / 4
	early, late := most(taken[quarter:2*quarter]), most(taken[len(taken)-quarter:])
	if late.heap > early.heap+early.heap/5+1<<20 {
		t.Errorf("memory grows: %s, then %s", early, late)
	}
	if late.disk > early.disk+early.disk/5+1<<20 {
		t.Errorf("the disks grow: %s, then %s", early, late)
	}
	if late.goroutines > early.goroutines+early.goroutines/10+8 {
		t.Errorf("goroutines grow: %s, then %s", early, late)
	}
}
