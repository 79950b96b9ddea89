package adamant

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/spoil"
)

// TestDamagedFilesAreFound: blocks of a host's document files are damaged while it is down. What its reads meet is scrubbed
// at once, removed so that it heals from the other hosts, and told of. Then every host reads back the same.
func TestDamagedFilesAreFound(t *testing.T) {
	c := newTestCluster(t, 3, 1, 3, nil)
	c.fill(0, 120, 6)
	c.settled(false)
	const victim = "h1"
	for range 2 { // after the first start the documents are in tables
		c.kill(victim)
		c.open(victim)
		c.ready()
	}
	c.kill(victim)
	if err := spoil.Tables(vfs.Default, filepath.Join(c.dir(victim), documentsDir), 12_000); err != nil {
		t.Fatal(err)
	}
	c.open(victim)
	h := c.host(victim)
	c.wait("damage is met and found", func() error {
		for i := range 120 { // some cannot be read; that is what the scrub learns from
			_, _ = h.Get(context.Background(), testKey(i), WithConsistency(ReadStale))
		}
		if s := h.Status(); s.Scrub == nil || s.Scrub.Found == 0 {
			return fmt.Errorf("scrub %+v", s.Scrub)
		}
		return nil
	})
	told := false
	for _, n := range h.Status().History {
		told = told || n.Kind == "damage"
	}
	if m := h.Metrics().Repair; !told || m.DamageFound == 0 || m.ScrubbedBuckets == 0 {
		t.Errorf("told %v, metrics %+v", told, m)
	}
	c.wait("all of it healed", func() error {
		for i := range 120 { // until all can be read, there is something left to be found
			if _, err := h.Get(context.Background(), testKey(i), WithConsistency(ReadStale)); err != nil {
				return err
			}
		}
		if s := h.Status().Scrub; s.Healed != s.Found || s.Kept > 0 {
			return fmt.Errorf("scrub %+v", s)
		}
		return nil
	})
	c.healthy()
	c.sameContents()
}
