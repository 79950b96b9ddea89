package httpapi

import (
	"context"
	"iter"

	"github.com/adamantdb/adamant"
)

// Host is what the endpoint needs of a host; *adamant.Host satisfies it.
type Host interface {
	Documents
	Operator
}

// Documents are the operations of the application contract (design §12).
type Documents interface {
	Create(ctx context.Context, key adamant.Key, delta adamant.Delta) error
	Append(ctx context.Context, key adamant.Key, deltas []adamant.Delta) (head int64, err error)
	Get(ctx context.Context, key adamant.Key, opts ...adamant.ReadOption) (adamant.Document, error)
	HeadPatch(ctx context.Context, key adamant.Key, after int64, opts ...adamant.ReadOption) (adamant.Document, error)
	Rewind(ctx context.Context, key adamant.Key, to int64, opts ...adamant.ReadOption) (adamant.Document, error)
	Compact(ctx context.Context, key adamant.Key, seq int64, json []byte, history int) error
	Replace(ctx context.Context, key adamant.Key, seq int64, json []byte) error
	Delete(ctx context.Context, key adamant.Key) error
	Inventory(ctx context.Context, scope adamant.Scope, opts ...adamant.ReadOption) iter.Seq2[adamant.Info, error]
	Log(ctx context.Context, key adamant.Key, opts ...adamant.ReadOption) iter.Seq2[adamant.LogEntry, error]
}

// Operator is what operators ask of a host.
type Operator interface {
	Locate(key adamant.Key) adamant.Location
	WatchRouting(ctx context.Context, after adamant.RoutingVersion) (adamant.RoutingUpdate, error)
	Status() adamant.Status
	Metrics() adamant.Metrics
	History(ctx context.Context, q adamant.HistoryQuery) iter.Seq2[adamant.Notice, error]
	Transfer(ctx context.Context, partition uint32, host string) error
	Drain(ctx context.Context) error
	SetSafeMode(partition uint32, reason string) error
	ClearSafeMode(ctx context.Context, partition uint32, keep string) (waiting []string, err error)
	Compare(ctx context.Context, partition uint32, key adamant.Key) (adamant.Comparison, error)
}
