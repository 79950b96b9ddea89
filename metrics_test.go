package adamant

import (
	"errors"
	"testing"
	"time"
)

func TestLatencyBuckets(t *testing.T) {
	for i := range LatencyBuckets - 1 {
		bound := LatencyBound(i)
		if got := latencyBucket(bound); got != i {
			t.Errorf("%v is in bucket %d, want %d", bound, got, i)
		}
		if got := latencyBucket(bound + 1); got != i+1 {
			t.Errorf("%v is in bucket %d, want %d", bound+1, got, i+1)
		}
	}
	if latencyBucket(-time.Second) != 0 || latencyBucket(0) != 0 || latencyBucket(time.Hour) != LatencyBuckets-1 {
		t.Error("durations out of range")
	}
}

func TestMeter(t *testing.T) {
	var m meter
	m.observe(opAppend, time.Millisecond, nil)
	m.observe(opAppend, time.Second, &SeqMismatchError{})
	m.observe(opAppend, time.Second, errors.New("no number"))
	s := m.snapshot()
	a := s["append"]
	if a.Latency.Count != 3 || a.Latency.Sum != 2001*time.Millisecond || a.Errors[CodeSeqMismatch] != 1 || a.Errors[0] != 1 || len(a.Errors) != 2 {
		t.Errorf("%+v", a)
	}
	if len(s) != 8 || s["get"].Latency.Count != 0 {
		t.Errorf("%+v", s)
	}
}

func TestStatusTotals(t *testing.T) {
	s := Status{Peers: []PeerStatus{{Alive: true}, {}}, Partitions: []PartitionStatus{
		{Role: RoleLeader, Serving: true, Leader: "h1", Complete: true, Documents: 3, Bytes: 10, Lag: 1},
		{Role: RoleFollower, Leader: "h2", Complete: false, Documents: 4, Bytes: 20, SafeMode: "divergence"},
		{Role: RoleNone, Complete: true},
	}}
	want := Totals{Members: 3, Leading: 1, Serving: 1, Leaderless: 1, Sick: 1, SafeMode: 1, Documents: 7, Bytes: 30, Lag: 1, PeersAlive: 1, Peers: 2}
	if got := s.Totals(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if ok, why := s.Ready(); ok || why != "1 partition without a leader" {
		t.Errorf("%v, %q", ok, why)
	}
}
