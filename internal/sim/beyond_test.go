package sim

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/simdisk"
)

// beyond: what no plan does. Two of three disks are lost, or replaced by old copies, at the same moment; the third has everything that was
// acknowledged. Nobody may serve, or show as linearizable, less than that (issue 6, item 1: "and beyond it").
func beyond(t *testing.T, hurt func(w *world, m *machine), third bool) {
	hosts := []string{"h1", "h2", "h3"}
	p := plan{Seed: 1, Hosts: hosts, Voters: [][]string{hosts}, Delay: time.Millisecond, Documents: 1}
	var pulse atomic.Int64
	bubble(t, func() {
		w := newWorld(p, &pulse)
		defer w.close()
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		seq := int64(0)
		write := func(n int) {
			for range n {
				seq++
				d := adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte(fmt.Sprintf(`{"%d":"x"}`, seq)), Undo: []byte(`{}`)}
				w.insist(keyOf(0), func(ctx context.Context, h *adamant.Host) error {
					if seq == 1 {
						return h.Create(ctx, keyOf(0), d)
					}
					_, err := h.Append(ctx, keyOf(0), []adamant.Delta{d})
					return err
				})
			}
		}
		write(3)
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		w.backUp()
		write(30)
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		names := []string{"h1", "h2"}
		if third {
			names = hosts
		}
		for _, m := range w.crash(0, names...) {
			if m.name != "h3" {
				hurt(w, m)
			}
			w.open(m)
		}
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			for n, h := range w.live() {
				for _, level := range []adamant.Consistency{adamant.ReadLease, adamant.ReadQuorum} {
					ctx, cancel := within(time.Second)
					d, err := h.Get(ctx, keyOf(0), adamant.WithConsistency(level))
					cancel()
					if err == nil && d.Head < seq || err != nil && adamant.Code(err) == 625676 {
						t.Fatalf("%s serves %d by %s, %d were acknowledged: %v\n%s", n, d.Head, level, seq, err, w)
					}
				}
			}
		}
		for n, h := range w.live() {
			st := h.Status()
			for _, p := range st.Partitions {
				t.Logf("%s: %s safe mode %q holes %q applied %d not serving %q", n, p.Role, p.SafeMode, p.Holes, p.Applied, p.NotServing)
			}
			if len(st.Partitions) == 0 {
				t.Logf("%s has no partition", n)
			}
		}
	})
}

func TestBeyondTwoWiped(t *testing.T) {
	beyond(t, func(w *world, m *machine) { w.replaceDisk(m) }, false)
}

func TestBeyondTwoRestored(t *testing.T) {
	beyond(t, func(w *world, m *machine) {
		w.mu.Lock()
		m.disk = w.backups[m.name].disk.Backup()
		w.mu.Unlock()
	}, false)
}

func TestBeyondAllCrashedTwoWiped(t *testing.T) {
	beyond(t, func(w *world, m *machine) { w.replaceDisk(m) }, true)
}

var _ = simdisk.New

// TestBeyondThirdComesLater: two of three come back as old copies while the third, which holds what was acknowledged, is down; it comes back
// after the two have written on. What then? Contradicting histories have to show as safe mode, and nothing may be mixed.
func TestBeyondThirdComesLater(t *testing.T) {
	for _, more := range []int{0, 2, 60} {
		t.Run(fmt.Sprint(more), func(t *testing.T) { thirdLater(t, more) })
	}
}

func thirdLater(t *testing.T, more int) {
	hosts := []string{"h1", "h2", "h3"}
	p := plan{Seed: 1, Hosts: hosts, Voters: [][]string{hosts}, Delay: time.Millisecond, Documents: 1}
	var pulse atomic.Int64
	bubble(t, func() {
		w := newWorld(p, &pulse)
		defer w.close()
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		seq := int64(0)
		write := func(n int, text string) {
			for range n {
				seq++
				d := adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte(fmt.Sprintf(`{"%d":%q}`, seq, text)), Undo: []byte(`{}`)}
				w.insist(keyOf(0), func(ctx context.Context, h *adamant.Host) error {
					if seq == 1 {
						return h.Create(ctx, keyOf(0), d)
					}
					_, err := h.Append(ctx, keyOf(0), []adamant.Delta{d})
					return err
				})
			}
		}
		write(3, "old")
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		w.backUp()
		write(30, "lost")
		if err := w.settle(true, healWithin); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		var late *machine
		for _, m := range w.crash(0, hosts...) {
			if m.name == "h3" {
				late = m
				continue
			}
			w.mu.Lock()
			m.disk = w.backups[m.name].disk.Backup()
			w.mu.Unlock()
			w.open(m)
		}
		time.Sleep(10 * time.Second)
		seq = 3
		write(more, "new")
		time.Sleep(5 * time.Second)
		w.open(late)
		time.Sleep(60 * time.Second)
		safe := false
		for _, n := range hosts {
			h := w.live()[n]
			if h == nil {
				t.Logf("%s is down", n)
				continue
			}
			for _, p := range h.Status().Partitions {
				t.Logf("%s: %s term %d safe mode %q holes %q applied %d commit %d last %d complete %t not serving %q divergences %d", n, p.Role, p.Term, p.SafeMode, p.Holes, p.Applied, p.Commit, p.LastIndex, p.Complete, p.NotServing, len(p.Divergences))
				safe = safe || p.SafeMode != ""
			}
			d, err := h.Get(context.Background(), keyOf(0), adamant.WithConsistency(adamant.ReadStale))
			t.Logf("%s: stale %d %.100s %v", n, d.Head, d.JSON, err)
		}
		for _, l := range w.wrongs() {
			t.Logf("wrong: %s", l)
			safe = true
		}
		if !safe {
			t.Error("no safe mode")
		}
	})
}
