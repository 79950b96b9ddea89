package store

import (
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// LogEngine holds the Raft logs, votes and markers of all partitions of a host. Safe for concurrent use.
//
// A failed write or fsync stops the whole engine: OnFatal is told once, and from then on every call returns the same
// *EngineFailedError. After Close every call returns ErrClosed.
type LogEngine interface {
	// Group returns a partition's log, an empty one when there is none. The same partition has one LogGroup.
	Group(partition uint32) (LogGroup, error)
	// Groups lists the partitions that have any state, in order.
	Groups() ([]uint32, error)
	// Drop removes everything of a partition; when it returns, that is durable. Calls of its LogGroup return ErrDropped.
	Drop(partition uint32) error
	// Close waits for running calls and for the engine's goroutines. A second Close returns ErrClosed.
	Close() error
	Stats() LogStats
}

// LogGroup is one partition's log, votes and marker, as Raft and the partition see it. Always:
//
//	 compacted            marker              last
//	─────┤├───────────────────┼──────────────────┤
//	      first                                    next to be stored
//
// entries are contiguous, from compacted+1 on; a marker is at or above compacted and at or below last (at compacted when the
// log is empty), and the log's term there is the marker's; without a marker nothing is compacted. Calls that would
// break this are refused and change nothing.
//
// GetLog answers raft.ErrLogNotFound outside of [compacted, last]. At compacted itself it answers a stub with the right
// Index and Term, because Raft matches the entry before the first one only through GetLog. The stub is a LogNoop without
// data; where the entry's content is known to be a configuration (the marker's own, or index 1), it is that LogConfiguration.
// Data and Extensions of an entry are shared with the engine: they must not be changed.
//
// StoreLogs, StoreLog, Set, SetUint64, SaveMarker and a DeleteRange of a suffix are durable when they return. A DeleteRange of a
// prefix is ordered before everything later, and durable with it; it needs a marker that covers it. A crash, or a failure of the engine,
// leaves all of a call or nothing, but of many large entries that are stored at once any number of the first ones. Get and
// GetUint64 answer an error with the text "not found" for a missing key, as Raft expects.
//
// SetUint64("LastVoteTerm") is kept back until Set("LastVoteCand") and both are written in one step: half a vote
// would let a member vote twice in a term.
type LogGroup interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore // true: Raft drops the log itself when it moves to a marker

	// Stage is StoreLogs that does not wait: when it returns nil, the entries are in their place, before everything later, and
	// can be read, but a crash may still lose them. done is called once, with nil when they are durable, and in the
	// order of the calls; before Stage returns, perhaps. It must not block. When the engine fails inside of the disk, done may
	// never be called.
	Stage(logs []*raft.Log, done func(error)) error

	// Rest tells that nothing has been stored for long. What is durable need not stay in memory, but for a small last entry, which the
	// next one is matched with.
	Rest()

	// SaveMarker stores m in place of the marker before, in one atomic durable step. When keep is false, or the log has no
	// entry of m.Term at m.Index, the whole log is dropped in the same step and (m.Index, m.Term) is compacted. A marker
	// below the present one, or with another term at the same index, is refused.
	SaveMarker(m Marker, keep bool) error
	// Marker returns the marker; false when there is none.
	Marker() (Marker, bool, error)
	// Compacted returns the last entry that was dropped from the front of the log; zeros when none was.
	Compacted() (index, term uint64)
}

// Marker stands for Raft's snapshot: up to Index everything is in the documents of a majority, and none of it is here
// (design §5).
type Marker struct {
	Index, Term        uint64 // of the last entry it covers; both positive
	Configuration      []byte // raft.EncodeConfiguration
	ConfigurationIndex uint64 // of the entry that brought Configuration; at most Index
	Payload            []byte // the partition's: intervals of terms
}

// LogOptions configure a log engine. Dir and the stamp are required, the rest has defaults.
type LogOptions struct {
	Dir string // bolt: one file per partition in it
	FS  vfs.FS // default: the disk, with Pebble's watch for slow operations; OpenBoltLog knows no other

	// The stamp written when the directory is created; another one is refused with a *WrongOwnerError.
	Cluster, Host, Incarnation string

	// MemTableBytes: how much is written before a flush; what was truncated by then never leaves the write-ahead log.
	// Default 64 MiB. Pebble only.
	MemTableBytes int64
	// EntryCacheBytes bounds the recent entries of all partitions that are kept in memory for GetLog. Those that are not durable yet have
	// precedence, and stay even when they are more. Default 64 MiB.
	EntryCacheBytes int64

	Logger  *slog.Logger
	OnFatal func(error) // called once, when a write or fsync failed; should end the process
}

// LogStats counts what an engine did since it was opened.
type LogStats struct {
	Writes  uint64 // durable calls: StoreLogs, SetUint64, Set, SaveMarker, ...
	Syncs   uint64 // fsyncs they needed: fewer than Writes when partitions share them
	Entries uint64 // entries stored
	Bytes   uint64 // their encoded size

	// WrittenBytes is what went to the write-ahead log, framing included. Bolt: Bytes, because what it makes of them is not
	// known: it writes whole pages, several for each transaction.
	WrittenBytes uint64

	Reads      uint64 // GetLog calls that found an entry
	ReadsDisk  uint64 // of these, not answered from memory
	CacheBytes int64  // recent entries kept in memory, with those that are not durable yet

	DiskBytes uint64 // used on disk

	// TableBytes is what Pebble wrote a second time, because it was not truncated before the memtable was full, and again by
	// compactions. Bolt has no such thing.
	TableBytes uint64

	// Waiting is how long the oldest unfinished durable call has been waiting. A leader whose disk is stuck must not go on
	// telling its followers that it is alive.
	Waiting time.Duration
}

func (o LogOptions) withDefaults() (LogOptions, error) {
	if o.Dir == "" {
		return o, errors.New("store: log engine: Dir is empty")
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.EntryCacheBytes <= 0 {
		o.EntryCacheBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
