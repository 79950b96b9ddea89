package antientropy

import (
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
)

// What a member that was removed had done does not count for the one that came after it.
func TestNewsOfARemovedMember(t *testing.T) {
	c := newCluster(t, "a")
	defer c.close()
	m := c.machines["a"]
	removed := m.member(p0).docs
	if err := m.engine.Drop(p0); err != nil {
		t.Fatal(err)
	}
	delete(m.members, p0)
	m.skip(p0, 100)
	healed := 0
	l, err := NewLoop(Options{Caller: caller{m}, Members: func() []Member { return nil }, Events: Events{Healed: func(uint32) { healed++ }}})
	if err != nil {
		t.Fatal(err)
	}
	r := l.newRunner(t.Context())
	defer r.wake.Stop()
	r.observe(p0, m.member(p0))
	part := r.plan.parts[0]
	part.buckets[3].busy = true
	r.deliver(delivery{docs: removed, event: marked{Partition: p0, Buckets: []uint8{3}, Healed: interval.Of(1, 100)}})
	r.deliver(delivery{docs: removed, event: closed{Partition: p0}})
	if b := &part.buckets[3]; !b.busy || b.missing.Empty() || !part.sick() || healed > 0 {
		t.Errorf("bucket %+v, holes %s, %d times healed", *b, part.holes, healed)
	}
	r.deliver(delivery{docs: m.member(p0).docs, event: closed{Partition: p0}})
	if part.sick() || healed != 1 {
		t.Errorf("holes %s, %d times healed", part.holes, healed)
	}
}
