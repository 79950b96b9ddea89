package main

import (
	"context"
	"maps"
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
