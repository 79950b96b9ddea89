package httpapi

import (
	"context"
	"fmt"
	"iter"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/adamantdb/adamant"
)

// fakeHost keeps documents as lists of deltas and records how it was asked.
type fakeHost struct {
	*fakeRouting

	mu       sync.Mutex
	name     string
	fail     error // what every operation answers, if set
	failAt   int   // streams: fail after so many lines
	docs     map[adamant.Key][]adamant.Delta
	lastOpts []adamant.ReadOption
	calls    []string
	status   adamant.Status
	metrics  adamant.Metrics
	block    chan struct{} // operations wait for it, if set
	entered  chan struct{} // told when an operation waits
}

func newFakeHost(name string) *fakeHost {
	h := &fakeHost{name: name, fakeRouting: newFakeRouting(), docs: map[adamant.Key][]adamant.Delta{}, entered: make(chan struct{}, 16)}
	h.status = adamant.Status{Host: name, Incarnation: "i1", Cluster: "test", Partitions: []adamant.PartitionStatus{{ID: 3, Role: adamant.RoleLeader, Leader: name, Complete: true, Serving: true}}}
	return h
}

func (h *fakeHost) enter(ctx context.Context, format string, args ...any) error {
	h.mu.Lock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
	block, err := h.block, h.fail
	h.mu.Unlock()
	if block != nil {
		h.entered <- struct{}{}
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (h *fakeHost) lastCall() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) == 0 {
		return ""
	}
	return h.calls[len(h.calls)-1]
}

func (h *fakeHost) setFail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

func (h *fakeHost) Create(ctx context.Context, key adamant.Key, d adamant.Delta) error {
	if err := h.enter(ctx, "create %s", key); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.docs[key] = []adamant.Delta{d}
	return nil
}

func (h *fakeHost) Append(ctx context.Context, key adamant.Key, deltas []adamant.Delta) (int64, error) {
	if err := h.enter(ctx, "append %s %d", key, len(deltas)); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.docs[key] = append(h.docs[key], deltas...)
	return h.head(key), nil
}

func (h *fakeHost) head(key adamant.Key) int64 {
	ds := h.docs[key]
	if len(ds) == 0 {
		return 0
	}
	return ds[len(ds)-1].SeqEnd
}

func (h *fakeHost) document(ctx context.Context, opts []adamant.ReadOption, format string, args ...any) (adamant.Document, error) {
	if err := h.enter(ctx, format, args...); err != nil {
		return adamant.Document{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastOpts = opts
	return adamant.Document{JSON: []byte(`{"text":"<ü>"}`), Head: 7, Reads: 3, Staleness: &adamant.Staleness{Index: 9, Age: 5, Complete: true}}, nil
}

func (h *fakeHost) Get(ctx context.Context, key adamant.Key, opts ...adamant.ReadOption) (adamant.Document, error) {
	return h.document(ctx, opts, "get %s", key)
}

func (h *fakeHost) HeadPatch(ctx context.Context, key adamant.Key, after int64, opts ...adamant.ReadOption) (adamant.Document, error) {
	return h.document(ctx, opts, "headpatch %s %d", key, after)
}

func (h *fakeHost) Rewind(ctx context.Context, key adamant.Key, to int64, opts ...adamant.ReadOption) (adamant.Document, error) {
	return h.document(ctx, opts, "rewind %s %d", key, to)
}

func (h *fakeHost) Compact(ctx context.Context, key adamant.Key, seq int64, json []byte, history int) error {
	return h.enter(ctx, "compact %s %d %s %d", key, seq, json, history)
}

func (h *fakeHost) Replace(ctx context.Context, key adamant.Key, seq int64, json []byte) error {
	return h.enter(ctx, "replace %s %d %s", key, seq, json)
}

func (h *fakeHost) Delete(ctx context.Context, key adamant.Key) error {
	return h.enter(ctx, "delete %s", key)
}

func (h *fakeHost) Inventory(ctx context.Context, scope adamant.Scope, opts ...adamant.ReadOption) iter.Seq2[adamant.Info, error] {
	return func(yield func(adamant.Info, error) bool) {
		partition := "all"
		if scope.Partition != nil {
			partition = fmt.Sprint(*scope.Partition)
		}
		err := h.enter(ctx, "inventory %q %s", scope.Space, partition)
		for i := range 3 {
			if err != nil && i == h.failAt {
				yield(adamant.Info{}, err)
				return
			}
			if !yield(adamant.Info{Key: adamant.Key{Space: "games", Key: fmt.Sprintf("g%d", i)}, Head: int64(i), Bytes: 10, Entries: 2, LastIndex: 5, Generation: 1}, nil) {
				return
			}
		}
	}
}

func (h *fakeHost) Log(ctx context.Context, key adamant.Key, _ ...adamant.ReadOption) iter.Seq2[adamant.LogEntry, error] {
	return func(yield func(adamant.LogEntry, error) bool) {
		if err := h.enter(ctx, "log %s", key); err != nil {
			yield(adamant.LogEntry{}, err)
			return
		}
		h.mu.Lock()
		deltas := h.docs[key]
		h.mu.Unlock()
		for i, d := range deltas {
			if !yield(adamant.LogEntry{Index: uint64(i + 1), Term: 2, Delta: d}, nil) {
				return
			}
		}
	}
}

func (h *fakeHost) Locate(adamant.Key) adamant.Location {
	return adamant.Location{Partition: 3, Bucket: 7, Leader: h.name, Members: []string{h.name}, Local: true}
}
func (h *fakeHost) Status() adamant.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}
func (h *fakeHost) Metrics() adamant.Metrics { return h.metrics }

// History has two notices, an hour apart; who follows gets a third.
func (h *fakeHost) History(ctx context.Context, q adamant.HistoryQuery) iter.Seq2[adamant.Notice, error] {
	return func(yield func(adamant.Notice, error) bool) {
		four := uint32(4)
		all := []adamant.Notice{{Time: time.Unix(0, 1).UTC(), Host: "h1", Kind: "config", Text: "version 1"},
			{Time: time.Unix(3600, 0).UTC(), Host: "h1", Partition: &four, Epoch: 7, Kind: "leader", Text: "h2 leads"}}
		if q.Follow {
			all = append(all, adamant.Notice{Time: time.Unix(7200, 0).UTC(), Host: "h1", Kind: "peer", Text: "h2 is gone"})
		}
		for _, n := range all {
			if n.Time.After(q.Since) && (q.Partition == nil || n.Partition != nil && *n.Partition == *q.Partition) && !yield(n, nil) {
				return
			}
		}
		if q.Follow {
			<-ctx.Done()
			yield(adamant.Notice{}, ctx.Err())
		}
	}
}
func (h *fakeHost) Transfer(ctx context.Context, partition uint32, host string) error {
	return h.enter(ctx, "transfer %d %s", partition, host)
}
func (h *fakeHost) Drain(ctx context.Context) error { return h.enter(ctx, "drain") }
func (h *fakeHost) SetSafeMode(partition uint32, reason string) error {
	return h.enter(context.Background(), "safemode %d %q", partition, reason)
}

func (h *fakeHost) ClearSafeMode(ctx context.Context, partition uint32, keep string) ([]string, error) {
	return []string{"h3"}, h.enter(ctx, "clear %d %q", partition, keep)
}

func (h *fakeHost) Compare(ctx context.Context, partition uint32, key adamant.Key) (adamant.Comparison, error) {
	return adamant.Comparison{Partition: partition, Document: key.String(), FirstSeq: 5}, h.enter(ctx, "compare %d %s", partition, key)
}

// start serves hosts over real connections and returns a client of all of them.
func start(t *testing.T, options Options, hosts ...*fakeHost) *Client {
	t.Helper()
	var addrs []string
	for _, h := range hosts {
		server := httptest.NewServer(New(h, options).Handler())
		t.Cleanup(server.Close)
		addrs = append(addrs, server.Listener.Addr().String())
	}
	c, err := NewClient(addrs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
