package loopback

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/adamantdb/adamant/config"
)

func TestPlan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json")
	c, err := Plan(Spec{Name: "plan", Hosts: 3, Partitions: 4, Voters: 3}, file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := config.Load(file)
	if err != nil || string(read.Marshal()) != string(c.Marshal()) {
		t.Fatalf("the file holds another cluster, or none: %v", err)
	}
	seen := map[string]bool{}
	for name, h := range c.Hosts {
		if seen[h.Addr] || !netip.MustParseAddrPort(h.Addr).Addr().IsLoopback() {
			t.Errorf("host %s has address %q", name, h.Addr)
		}
		seen[h.Addr] = true
	}
	if len(seen) != 3 || len(c.Partitions) != 4 {
		t.Errorf("%d hosts, %d partitions", len(seen), len(c.Partitions))
	}
	if _, err := Plan(Spec{Name: "plan", Hosts: 1, Partitions: 1, Voters: 3}, file); err == nil {
		t.Error("three voters on one host are planned")
	}
}
