package adamant

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/store"
)

// dropped notes which engines were told to drop, and fails as told.
type dropped struct {
	name  string
	order *[]string
	err   error
}

func (d dropped) Drop(uint32) error {
	*d.order = append(*d.order, d.name)
	return d.err
}

// droppedDocs notes the records that are to go with the documents, too.
type droppedDocs struct {
	dropped
	records *[]string
}

func (d droppedDocs) Drop(id uint32, records ...string) error {
	*d.records = records
	return d.dropped.Drop(id)
}

func TestDocumentsAreDroppedBeforeTheirLog(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		docs, logs error
		want       []string
	}{{nil, nil, []string{"documents", "log"}}, {broken, nil, []string{"documents"}}, {nil, broken, []string{"documents", "log"}}} {
		var order []string
		var records []string
		err := dropStorage(droppedDocs{dropped{"documents", &order, c.docs}, &records}, dropped{"log", &order, c.logs}, 1)
		if want := []string{safeModeKey(1), divergenceKey(1), recoveryKey(1)}; !slices.Equal(records, want) {
			t.Errorf("records that go with the documents: %q, want %q", records, want)
		}
		if !slices.Equal(order, c.want) || (err != nil) != (c.docs != nil || c.logs != nil) {
			t.Errorf("documents %v, log %v: dropped %v, %v", c.docs, c.logs, order, err)
		}
	}
}

// TestCrashBetweenTheStepsOfADrop: a host died after it had dropped a member's documents and before it dropped the log, and
// the partition is its own again. The member knows what it lacks, and is healed.
func TestCrashBetweenTheStepsOfADrop(t *testing.T) {
	c := newTestCluster(t, 3, 2, 3, nil)
	c.ready()
	c.fill(0, 200, 3)
	c.healthy()
	incarnation := c.host("h3").Status().Incarnation
	c.kill("h3")
	docs, err := store.OpenDocs(store.DocOptions{Dir: filepath.Join(c.dir("h3"), documentsDir), Cluster: "test", Host: "h3", Incarnation: incarnation})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(docs.Drop(0), docs.Close()); err != nil {
		t.Fatal(err)
	}
	h3 := c.open("h3")
	if now := h3.Status().Incarnation; now != incarnation {
		t.Fatalf("incarnation %q after %q", now, incarnation)
	}
	c.wait("all documents", func() error {
		n := int64(0)
		for _, p := range h3.Status().Partitions {
			n += p.Documents
		}
		if n != 200 {
			return errors.New("some are missing")
		}
		return nil
	})
	c.healthy()
}

// TestNothingIsStoredOfAGoneMember: what a member hears while it is dropped is not left for the next one here.
func TestNothingIsStoredOfAGoneMember(t *testing.T) {
	c := newTestCluster(t, 1, 1, 1, nil)
	c.ready()
	h := c.host("h1")
	m := h.member(0)
	m.steps.Lock()
	err := h.drop(m)
	m.steps.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	m.isolation.mu.Lock()
	defer m.isolation.mu.Unlock()
	q, _ := quarantine{}.with(testReport("h1", "h2", 1, "game/1"))
	if m.keepQuarantine(q) == nil || m.setAlone("a reason") == nil {
		t.Error("something can be stored")
	}
	for _, key := range []string{divergenceKey(0), safeModeKey(0)} {
		if b, ok, err := h.docs.Meta(key); err != nil || ok {
			t.Errorf("%s is stored: %s, %v", key, b, err)
		}
	}
}
