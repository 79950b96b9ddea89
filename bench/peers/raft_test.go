package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// Writers cannot follow a leader into another process, so leadership comes back to theirs.
func TestLeadershipComesBackToTheWriters(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), openPatience)
	defer cancel()
	s := defaults()
	s.Partitions, s.Documents, s.Writers = 1, 4, 1
	dir, all := t.TempDir(), AddressBook{}
	sites := make([]*raftSystem, s.Hosts)
	for host := range sites {
		sites[host] = &raftSystem{}
		defer func() {
			if err := sites[host].close(); err != nil {
				t.Error(err)
			}
		}()
		book, err := sites[host].prepare(s, dir, []int{host})
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, book)
	}
	if err := each(sites, func(_ int, r *raftSystem) error { return r.open(ctx, all) }); err != nil {
		t.Fatal(err)
	}
	homes, err := sites[1].homes()
	if err != nil || len(homes) != s.Documents || homes[3] != 0 {
		t.Fatalf("%v, %v", homes, err)
	}
	home := sites[0].groups[0].servers[0]
	if err := sites[0].create(ctx, Placed{Number: 3}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for home.raft.State() == raft.Leader { // a busy machine may take longer than Raft waits for a transfer
		if err := home.raft.LeadershipTransferToServer("h2", raft.ServerAddress(all[1][0])).Error(); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	retries, err := sites[0].write(ctx, 3, []byte("{}"))
	if err != nil || home.raft.State() != raft.Leader {
		t.Errorf("%v after %d retries, at a %s", err, retries, home.raft.State())
	}
}

// Groups with Adamant's settings, whose timers are slow, are led at once, and an idle one is a few goroutines.
func TestIdle(t *testing.T) {
	// In a process of its own: the memory and goroutines that other tests give back would count.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	measured, err := exec.CommandContext(t.Context(), self, "idle", "-json", "-partitions", "4", "-warmup", "0s", "-duration", "20ms", "-dir", t.TempDir()).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, measured)
	}
	var r idleResult
	if err := json.Unmarshal(measured, &r); err != nil {
		t.Fatalf("%v in %s", err, measured)
	}
	if r.GoroutinesPerMember < 3 || r.GoroutinesPerMember > 12 || r.StacksPerMember <= 0 || r.HeapPerMember <= 0 {
		t.Errorf("%+v", r)
	}
	if status, _, errs := peers("idle -system etcd"); status != exitUsage || !strings.Contains(errs, "etcd") {
		t.Errorf("status %d: %s", status, errs)
	}
}
