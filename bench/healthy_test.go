package main

import (
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

func TestHealthy(t *testing.T) {
	r := atLast(t, above("writesPerSecond"), "healthy", "--partitions", "2", "--writers", "8", "--documents", "32", "--warmup", "10ms", "--duration", "300ms", "--idle", "100ms")
	for _, key := range []string{"writesPerSecond", "lostDiskToReportMillis", "damageToReportMillis", "faultToReportMillis"} {
		if v, ok := r[key].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", key, r[key])
		}
	}
	if v, ok := r["bucketsReportedDifferent"].(float64); !ok || v != 0 {
		t.Errorf("%v buckets of sound members differ", r["bucketsReportedDifferent"])
	}
	if max(r["lostDiskToReportMillis"].(float64), r["damageToReportMillis"].(float64)) != r["faultToReportMillis"].(float64) {
		t.Errorf("%v is not the worse one", r["faultToReportMillis"])
	}
}

func TestHolesNoted(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	p := func(id uint32) *uint32 { return &id }
	history := []adamant.Notice{
		{Time: at(1), Kind: "hole", Partition: p(1), Text: "holes [5,9]"}, // it has something
		{Time: at(2), Kind: "healed", Partition: p(2), Text: "complete"},
		{Time: at(3), Kind: "hole", Partition: p(1), Text: "holes [1,9]"},
		{Time: at(4), Kind: "hole", Partition: p(7), Text: "holes [1,9]"}, // nobody asked
		{Time: at(5), Kind: "hole"},
	}
	if _, ok := holesNoted(history, indexes{1: 9, 2: 9}); ok {
		t.Error("partition 2 has reported nothing")
	}
	history = append(history, adamant.Notice{Time: at(6), Kind: "hole", Partition: p(2), Text: "holes [1,4] [7,7]"},
		adamant.Notice{Time: at(8), Kind: "hole", Partition: p(1), Text: "holes [1,9]"})
	if last, ok := holesNoted(history, indexes{1: 9, 2: 9}); !ok || !last.Equal(at(6)) {
		t.Errorf("%v, %v", last, ok)
	}
}

func TestComparison(t *testing.T) {
	if got := comparison(adamant.RepairMetrics{Compares: 4, CompareBytes: 200}); got != 114 {
		t.Errorf("%v bytes", got)
	}
}
