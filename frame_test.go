package adamant

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

// TestLargestCommandsReachTheFollowers: what the limits allow, and the leader therefore stores, can be sent. Else it would stay at the front
// of the leader's log, and nothing of its partition would be committed any more.
func TestLargestCommandsReachTheFollowers(t *testing.T) {
	t.Run("simulated", simulated(func(t *testing.T) {
		limits := Limits{DeltaBytes: MaxCommandBytes, CommandBytes: MaxCommandBytes}
		c := newSimCluster(t, 3, 1, 3, func(o *Options) { o.Limits = limits })
		c.ready()
		write := func(key Key, deltas []Delta) {
			t.Helper()
			err := c.on(key, func(h *Host) error {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				if err := h.Create(ctx, key, deltas[0]); err != nil && !errors.As(err, new(*ExistsError)) { // by an attempt before
					return err
				}
				if len(deltas) == 1 {
					return nil
				}
				_, err := h.Append(ctx, key, deltas[1:])
				return err
			})
			if err != nil {
				t.Fatalf("%s: %v", key.Key, err)
			}
		}
		large := store.Delta{SeqBegin: 1, SeqEnd: 1}
		large.Redo = make([]byte, MaxCommandBytes-large.Size()-4) // its length takes more than that of nothing
		write(Key{Space: "space", Key: "large"}, []Delta{large})
		var many []Delta
		for size := 0; ; {
			d := Delta{SeqBegin: int64(len(many)) + 1, SeqEnd: int64(len(many)) + 1}
			if size += d.Size(); size > MaxCommandBytes {
				break
			}
			many = append(many, d)
		}
		write(Key{Space: "space", Key: "small"}, many)
		write(Key{Space: "space", Key: "after"}, []Delta{{SeqBegin: 1, SeqEnd: 1, Redo: []byte(`{}`)}})
	}))
	over := Options{Dir: "d", Limits: Limits{CommandBytes: MaxCommandBytes + 1}}
	if err := over.Validate(); Code(err) != CodeOptions {
		t.Errorf("commands that no frame takes: %v", err)
	}
}
