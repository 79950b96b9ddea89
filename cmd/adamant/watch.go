package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/progress"
)

// watchEvery is how often watch asks the host.
const watchEvery = 500 * time.Millisecond

// mostBars bounds the partitions that have a bar at once.
const mostBars = 16

// watching is what is drawn while repairs go on.
type watching struct {
	group *progress.Group
	host  *progress.Bar
	bars  map[uint32]*progress.Bar
	last  map[uint32]int64 // buckets of each bar, all of them
}

// watch shows the host's repairs until the caller is interrupted: a bar for each sick member in the order of repair, and one for
// the host. Elsewhere than on a terminal it writes lines.
func watch(cmd *cobra.Command, flags *clientFlags, every time.Duration) error {
	out := cmd.OutOrStdout()
	w := watching{group: progress.New(out, progress.IsTerminal(out)), bars: map[uint32]*progress.Bar{}, last: map[uint32]int64{}}
	defer w.group.Close()
	w.host = w.group.Bar("host")
	defer w.host.Finish()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := w.look(cmd, flags); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *watching) look(cmd *cobra.Command, flags *clientFlags) error {
	client, ctx, cancel, err := flags.connect(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	s, _, err := client.Status(ctx)
	if err != nil {
		if cmd.Context().Err() != nil {
			return nil
		}
		return err
	}
	w.show(&s)
	return nil
}

// show draws a status.
func (w *watching) show(s *adamant.Status) {
	sick := repairs(s)
	shown := map[uint32]bool{}
	for _, p := range sick[:min(len(sick), mostBars)] {
		shown[p.ID] = true
		b := w.bars[p.ID]
		if b == nil {
			b = w.group.Bar(fmt.Sprintf("partition %d", p.ID))
			w.bars[p.ID] = b
		}
		w.last[p.ID] = int64(p.Repair.BucketsTotal)
		b.Set(int64(p.Repair.BucketsDone), int64(p.Repair.BucketsTotal), repairNote(p.Repair))
	}
	for id, b := range w.bars {
		if !shown[id] {
			b.Set(w.last[id], w.last[id], "complete")
			b.Finish()
			delete(w.bars, id)
		}
	}
	t := s.Totals()
	note := fmt.Sprintf("members complete, %d serving, %d in safe mode", t.Serving, t.SafeMode)
	if r := s.Repair(); r != nil {
		note += fmt.Sprintf(", %.1f MB/s%s", r.BytesPerSecond/1e6, left(r.Remaining))
	}
	w.host.Set(int64(t.Members-t.Sick), int64(t.Members), note)
}

// repairs are the members being repaired, those that are furthest in the order of repair first.
func repairs(s *adamant.Status) []*adamant.PartitionStatus {
	var list []*adamant.PartitionStatus
	for i := range s.Partitions {
		if s.Partitions[i].Repair != nil {
			list = append(list, &s.Partitions[i])
		}
	}
	others := func(p *adamant.PartitionStatus) (n int) {
		for _, m := range p.Members {
			if m.Alive && m.Complete {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(list, func(a, b *adamant.PartitionStatus) int { return cmp.Or(others(a)-others(b), cmp.Compare(a.ID, b.ID)) })
	return list
}

func repairNote(r *adamant.RepairStatus) string {
	s := fmt.Sprintf("%.1f MB", float64(r.Imported)/1e6)
	if r.BytesTotal > 0 {
		s += fmt.Sprintf(" of %.1f", float64(r.BytesTotal)/1e6)
	}
	s += fmt.Sprintf(", %.1f MB/s%s", r.BytesPerSecond/1e6, left(r.Remaining))
	if r.LastError != "" {
		s += ", last error: " + r.LastError
	}
	return s
}

func left(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(", %v left", d.Round(time.Second))
}
