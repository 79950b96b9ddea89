package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
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
	files      int // that hosts have open
}

func (u usage) String() string {
	return fmt.Sprintf("heap %d KiB, disks %d KiB, %d goroutines, %d open files", u.heap>>10, u.disk>>10, u.goroutines, u.files)
}

// TestDay: documents come and go, leaders change, members are replaced, hosts restart and lose their disks, and a cluster does not go
// on to take more and more memory, disk, goroutines and open files. By default for some minutes; -day is for a whole one.
func TestDay(t *testing.T) {
	rounds, pause := 32, 2*time.Second
	switch {
	case *wholeDay:
		rounds, pause = 24*60, time.Minute
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
		w.most = 200 // lines: they would be the leak
		taken := make([]usage, 0, rounds)
		for i := range rounds {
			w.round(i)
			if err := w.settle(true, healWithin); err != nil || len(w.wrongs()) > 0 {
				t.Fatalf("round %d: %v, %v\n%s", i, err, w.wrongs(), w)
			}
			if *wholeDay {
				time.Sleep(time.Until(w.begun.Add(time.Duration(i+1) * pause)))
			} else {
				time.Sleep(pause)
			}
			taken = append(taken, w.usage(t))
		}
		t.Logf("%d rounds in %s: at first %s, in the end %s", rounds, time.Since(w.begun), taken[0], taken[rounds-1])
		for _, m := range measures {
			var middle []string
			for i := range 8 {
				middle = append(middle, fmt.Sprintf("%.0f", median(taken[i*rounds/8:(i+1)*rounds/8], m.of)))
			}
			t.Logf("%s in the middle of each eighth: %s", m.name, strings.Join(middle, " "))
		}
		for _, text := range grows(taken, *wholeDay) {
			t.Error(text)
		}
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
		u.files += len(w.diskOf(w.machines[n]).Handles())
	}
	u.heap = m.HeapAlloc - uint64(u.disk) // the disks are in it
	return u
}

// A measure of usage, and how much its middle may grow from one quarter of the time to the next. A day has quarters of 360 rounds:
// half a KiB for each of them, so that a KiB shows. A few minutes are too short for that.
type measure struct {
	name       string
	of         func(usage) float64
	day, short float64
}

var measures = []measure{
	{"memory (KiB)", func(u usage) float64 { return float64(u.heap) / 1024 }, 180, 1024},
	{"disks (KiB)", func(u usage) float64 { return float64(u.disk) / 1024 }, 180, 1024},
	{"goroutines", func(u usage) float64 { return float64(u.goroutines) }, 4, 12},
	{"open files", func(u usage) float64 { return float64(u.files) }, 4, 12},
}

// grows says which of the measures go on growing: from the second quarter to the third, and again to the fourth. What is slow to
// settle does so in the first half, and what only goes up and down does not grow twice.
func grows(taken []usage, wholeDay bool) (list []string) {
	for _, m := range measures {
		var middle [4]float64
		for i := range middle {
			middle[i] = median(taken[i*len(taken)/4:(i+1)*len(taken)/4], m.of)
		}
		limit := m.short
		if wholeDay {
			limit = m.day
		}
		if middle[2]-middle[1] > limit && middle[3]-middle[2] > limit {
			list = append(list, fmt.Sprintf("%s: %.0f in the middle of each quarter", m.name, middle))
		}
	}
	return list
}

func median(list []usage, of func(usage) float64) float64 {
	var values []float64
	for _, u := range list {
		values = append(values, of(u))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// TestGrows: a leak of a KiB for each round of a day is seen beside the ups and downs, and these alone are none.
func TestGrows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name string
		at   func(i int) usage
		want int
	}{
		{"flat", func(int) usage { return usage{} }, 0},
		{"settles", func(i int) usage { return usage{heap: uint64(min(i, 400) * 8192)} }, 0},
		{"memory", func(i int) usage { return usage{heap: uint64(i * 1024)} }, 1},
		{"disks and files", func(i int) usage { return usage{disk: int64(i * 1024), files: i / 50} }, 2},
		{"goroutines", func(i int) usage { return usage{goroutines: i / 50} }, 1},
	} {
		var taken []usage
		for i := range 24 * 60 {
			u := c.at(i)
			u.heap += 5<<20 + uint64(r.IntN(1<<20))
			u.disk += 1<<20 + int64(r.IntN(1<<20))
			u.goroutines += 170 + r.IntN(10)
			u.files += 100 + r.IntN(10)
			taken = append(taken, u)
		}
		if got := grows(taken, true); len(got) != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
