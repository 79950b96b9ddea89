package partition

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/adamantdb/adamant/store"
)

// heldDocs are documents that hold up commands of one kind until released, before or after their effect can be seen.
type heldDocs struct {
	Documents
	kind    store.Kind
	after   bool
	held    chan struct{} // tells that one waits
	release chan struct{}
}

func (d heldDocs) Stage(batch []store.Mutation, last uint64) error {
	hold := slices.ContainsFunc(batch, func(m store.Mutation) bool { return m.Kind == d.kind })
	wait := func() { d.held <- struct{}{}; <-d.release }
	if hold && !d.after {
		wait()
	}
	err := d.Documents.Stage(batch, last)
	if hold && d.after {
		wait()
	}
	return err
}

// TestLossTellsWhatIsKnown: writes in flight when leadership ends are acknowledged, and called known, where the document shows
// them; otherwise their outcome is unknown. Documents without a write in flight are not mentioned.
func TestLossTellsWhatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		kind    store.Kind
		applied bool // by the time leadership ends
		failed  bool
		want    Loss
	}{
		"applied":             {kind: store.Append, applied: true, want: Loss{LastSeq: 2}},
		"not applied":         {kind: store.Append, want: Loss{LastSeq: 1, Unknown: true}},
		"applied, and failed": {kind: store.Append, applied: true, failed: true, want: Loss{LastSeq: 2, Unknown: true}},
		"no append":           {kind: store.Compact, want: Loss{LastSeq: 2, Unknown: true}},
	} {
		t.Run(name, simulated(func(t *testing.T) {
			d := heldDocs{kind: c.kind, after: c.applied, held: make(chan struct{}, 1), release: make(chan struct{})}
			g := newGroup(t, 1, func(o *Options) { d.Documents = o.Documents; o.Documents = d })
			l := g.serving()
			must(t, l.create("a"))
			must(t, l.create("quiet"))
			result := make(chan error, 1)
			go func() {
				_, err := l.append("a", 2, `{"x":1}`)
				if err == nil && c.kind == store.Compact {
					_, err = l.part.Do(context.Background(), Operation{Kind: store.Compact, Key: key("a"), Seq: 1, JSON: []byte("{}"), History: 1})
				}
				result <- err
			}()
			<-d.held
			closed := make(chan error, 1)
			end := func() { closed <- l.part.Close() }
			if c.failed {
				end = func() { l.part.fail(errors.New("no disk")); closed <- nil }
			}
			go end()
			if err := <-result; (err == nil) == c.want.Unknown || err != nil && !errors.As(err, new(*AmbiguousError)) {
				t.Errorf("the writer is told: %v", err)
			}
			g.wait("the event", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.losses) > 0 })
			close(d.release)
			<-closed
			l.mu.Lock()
			defer l.mu.Unlock()
			got := l.losses[0]
			if got.Reason == "" || got.Epoch == 0 {
				t.Errorf("%+v", got)
			}
			if c.want.Key, got.Reason, got.Epoch = key("a"), "", 0; len(l.losses) != 1 || got != c.want {
				t.Errorf("told %+v, want %+v", l.losses, c.want)
			}
		}))
	}
}
