package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/progress"
)

// TestWatch: each sick member has a line with rate and remaining time, the most endangered first, and one that healed ends.
func TestWatch(t *testing.T) {
	var out bytes.Buffer
	w := watching{group: progress.New(&out, false), bars: map[uint32]*progress.Bar{}, last: map[uint32]int64{}}
	w.host = w.group.Bar("host")
	sick := func(id uint32, complete int) adamant.PartitionStatus {
		p := adamant.PartitionStatus{ID: id, Repair: &adamant.RepairStatus{BucketsDone: 64, BucketsTotal: 256, Imported: 25e5, BytesTotal: 1e7, BytesPerSecond: 5e5, Remaining: 15 * time.Second}}
		for range complete {
			p.Members = append(p.Members, adamant.MemberStatus{Alive: true, Complete: true})
		}
		return p
	}
	s := adamant.Status{Partitions: []adamant.PartitionStatus{sick(7, 2), sick(8, 1), {ID: 9, Complete: true, Serving: true}}}
	w.show(&s)
	first, second := strings.Index(out.String(), "partition 8"), strings.Index(out.String(), "partition 7")
	for _, want := range []string{"25%  64/256  2.5 MB of 10.0, 0.5 MB/s, 15s left", "1/3  members complete, 1 serving, 0 in safe mode, 1.0 MB/s, 15s left"} {
		if !strings.Contains(out.String(), want) || first < 0 || second < first {
			t.Errorf("no %q in order in\n%s", want, out.String())
		}
	}
	s.Partitions[0].Repair, s.Partitions[0].Complete = nil, true
	w.show(&s)
	if !strings.Contains(out.String(), "256/256  complete") || len(w.bars) != 1 {
		t.Errorf("%d bars after\n%s", len(w.bars), out.String())
	}
	w.group.Close()
}
