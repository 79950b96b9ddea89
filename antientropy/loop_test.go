package antientropy

import (
	"testing"
	"time"
)

const p0 = uint32(0)

// load writes n documents with deltas each, and applies them on the machines.
func (c *cluster) load(n, deltas, size int, names ...string) *history {
	h := c.logs[p0]
	if h == nil {
		h = newHistory(1)
		c.logs[p0] = h
	}
	for d := range deltas {
		for i := range n {
			_ = d
			h.write(key(i), size)
		}
	}
	for _, name := range names {
		c.machines[name].apply(p0, h.last())
	}
	return h
}

func TestMemberWithHolesHeals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(200, 3, 50, "a", "b", "c")
		h.busy(300, 250, 60)
		for _, name := range []string{"a", "b"} {
			c.machines[name].apply(p0, h.last())
		}
		sick := c.machines["c"]
		sick.skip(p0, h.last())
		h.busy(100, 250, 60)
		for _, m := range c.machines {
			m.apply(p0, h.last())
		}
		healed := make(chan uint32, 1)
		l := sick.start(Options{Events: Events{Healed: func(p uint32) { healed <- p }}})
		eventually(t, "healed", func() bool { return sick.member(p0).docs.Status().Complete })
		if p := <-healed; p != p0 {
			t.Errorf("healed %d", p)
		}
		c.sameRoots(p0, "a", "b", "c")
		s := l.Stats()
		t.Logf("%+v", s)
		if s.AlreadyHad != 0 || s.Liars != 0 || s.Refused != 0 || s.Unreachable != 0 || s.Divergences != 0 || s.Healed != 1 {
			t.Errorf("%+v", s)
		}
		if n := len(sick.member(p0).divergences()); n > 0 {
			t.Errorf("%d divergences", n)
		}
		if len(l.Progress()) > 0 {
			t.Errorf("progress of a healthy member: %v", l.Progress())
		}
	})
}

func TestWipedMemberHealsFromTwoPeers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.close()
		h := c.load(2000, 3, 100, "a", "b")
		c.latency["a"], c.latency["b"] = time.Millisecond, time.Millisecond
		wiped := c.machines["c"]
		wiped.skip(p0, h.last())
		from := map[string]int{}
		c.intercept = func(_, to string, _ uint32, request []byte, serve func() ([]byte, error)) ([]byte, error) {
			b, err := serve()
			if kind(request[1]) == kindPull {
				c.mu.Lock()
				from[to] += len(b)
				c.mu.Unlock()
			}
			return b, err
		}
		l := wiped.start(Options{ChunkBytes: 16 << 10})
		start := time.Now()
		eventually(t, "healed", func() bool { return wiped.member(p0).docs.Status().Complete })
		c.sameRoots(p0, "a", "b", "c")
		s := l.Stats()
		t.Logf("in %s of two peers: %v, %+v", time.Since(start), from, s)
		if from["a"] < 100_000 || from["b"] < 100_000 || s.AlreadyHad != 0 {
			t.Errorf("%v, %+v", from, s)
		}
	})
}
