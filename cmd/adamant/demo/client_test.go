package demo

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

var testKey = adamant.Key{Space: "games", Key: "g"}

func step(n int64) adamant.Delta {
	return adamant.Delta{SeqBegin: n, SeqEnd: n, Redo: []byte(`{"n":1}`), Undo: []byte(`{}`)}
}

func newTestClient(f *fakeCluster) *client {
	return &client{nodes: f.nodes("h1", "h2", "h3"), try: time.Second, read: time.Second}
}

func TestClientFindsTheLeader(t *testing.T) {
	f := newFakeCluster()
	c := newTestClient(f)
	if err := c.create(t.Context(), testKey, step(1)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.leader = "h3"
	f.mu.Unlock()
	if err := c.append(t.Context(), testKey, []adamant.Delta{step(2), step(3)}); err != nil {
		t.Fatal(err)
	}
	if got := len(f.docs[testKey]); got != 3 {
		t.Errorf("%d deltas", got)
	}
}

// Whatever is refused or unknown is repeated until it is acknowledged, and takes effect once.
func TestClientRepeats(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, after error
		settled       int64
	}{
		{"not leader, nobody known", &adamant.NotLeaderError{}, nil, 0},
		{"unavailable", &adamant.UnavailableError{Reason: "no lease"}, nil, 0},
		{"closed", &adamant.ClosedError{Host: "h1"}, nil, 0},
		{"ambiguous, not done", &adamant.AmbiguousError{}, nil, 0},
		{"ambiguous, done", nil, &adamant.AmbiguousError{}, 0},
		{"deadline, done", nil, context.DeadlineExceeded, 0},
	} {
		f := newFakeCluster()
		f.docs[testKey] = []adamant.Delta{step(1)}
		failures := 2
		once := func(err error) func(string, string) error {
			return func(string, string) error {
				if err == nil || failures == 0 {
					return nil
				}
				failures--
				return err
			}
		}
		f.before, f.after = once(tc.before), once(tc.after)
		c := newTestClient(f)
		if err := c.append(t.Context(), testKey, []adamant.Delta{step(2)}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := f.docs[testKey]; len(got) != 2 || failures != 0 {
			t.Errorf("%s: %d deltas, %d failures left", tc.name, len(got), failures)
		}
	}
}

// After an unknown outcome a mismatch that names the wanted head, or an existing document, means that it took effect.
func TestClientUsesTheHead(t *testing.T) {
	f := newFakeCluster()
	calls := 0
	f.after = func(string, string) error {
		if calls++; calls == 1 {
			return &adamant.AmbiguousError{}
		}
		return nil
	}
	c := newTestClient(f)
	if err := c.create(t.Context(), testKey, step(1)); err != nil || c.settled.Load() != 1 {
		t.Errorf("create: %v, settled %d", err, c.settled.Load())
	}
	calls = 0
	f.before = func(_, op string) error {
		if calls == 1 { // as after a compaction that dropped the deltas: only the head tells
			return &adamant.SeqMismatchError{Key: testKey, Head: 2}
		}
		return nil
	}
	if err := c.append(t.Context(), testKey, []adamant.Delta{step(2)}); err != nil || c.settled.Load() != 2 {
		t.Errorf("append: %v, settled %d", err, c.settled.Load())
	}
}

// What breaks the contract is not retried away.
func TestClientReportsViolations(t *testing.T) {
	for _, tc := range []struct {
		name string
		prep func(f *fakeCluster)
		do   func(c *client) error
	}{
		{"a document nobody created", func(f *fakeCluster) { f.docs[testKey] = []adamant.Delta{step(1)} },
			func(c *client) error { return c.create(t.Context(), testKey, step(1)) }},
		{"a document that is gone", func(f *fakeCluster) {},
			func(c *client) error { return c.append(t.Context(), testKey, []adamant.Delta{step(2)}) }},
		{"a head that went back", func(f *fakeCluster) { f.docs[testKey] = []adamant.Delta{step(1)} },
			func(c *client) error { return c.append(t.Context(), testKey, []adamant.Delta{step(3)}) }},
		{"a head that went back after an unknown outcome", func(f *fakeCluster) {
			f.docs[testKey] = []adamant.Delta{step(1)}
			n := 0
			f.before = func(string, string) error {
				if n++; n == 1 {
					return &adamant.AmbiguousError{}
				}
				return nil
			}
		}, func(c *client) error { return c.append(t.Context(), testKey, []adamant.Delta{step(3)}) }},
	} {
		f := newFakeCluster()
		tc.prep(f)
		var v *violation
		if err := tc.do(newTestClient(f)); !errors.As(err, &v) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	f := newFakeCluster()
	f.before = func(string, string) error { return &adamant.UnavailableError{Reason: "always"} }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := newTestClient(f).get(ctx, testKey); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	f.before = func(string, string) error { return &adamant.SafeModeError{Reason: "divergence"} }
	var safe *adamant.SafeModeError
	if _, err := newTestClient(f).get(t.Context(), testKey); !errors.As(err, &safe) {
		t.Errorf("%v", err)
	}
	nobody := &client{nodes: func() map[string]node { return nil }, try: time.Second, read: time.Second}
	if _, err := nobody.get(ctx, testKey); err == nil {
		t.Error("an answer of nobody")
	}
}
