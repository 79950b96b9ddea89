package adamant

import (
	"testing"
	"time"
)

func TestRepairTotals(t *testing.T) {
	var s Status
	if s.Repair() != nil {
		t.Error("nothing is repaired")
	}
	s.Partitions = []PartitionStatus{{}, {Repair: &RepairStatus{BucketsDone: 10, BucketsTotal: 256, Imported: 100, BytesTotal: 1100, BytesPerSecond: 400,
		Remaining: 3 * time.Second, Sources: []string{"h2"}}}, {Repair: &RepairStatus{BucketsTotal: 256, BytesTotal: 3000}}}
	want := RepairTotals{Partitions: 2, Waiting: 1, BucketsDone: 10, BucketsTotal: 512, Imported: 100, BytesTotal: 4100, BytesPerSecond: 400,
		Remaining: 10 * time.Second}
	if got := s.Repair(); *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
}
