package adamant

import (
	"fmt"
	"strings"

	"github.com/adamantdb/adamant/store"
)

// Errors of the application contract (design §12). They are pointers: find them with errors.As.
type (
	// ExistsError: a create found the document.
	ExistsError = store.ExistsError
	// SeqMismatchError: the deltas do not follow the head, which it names. The only error with the number 621580, which
	// an Adama server takes for "catch up and retry".
	SeqMismatchError = store.SeqMismatchError
	// NotFoundError: there is no such document.
	NotFoundError = store.NotFoundError
	// FutureError: a compaction, head patch or rewind names a seq above the head.
	FutureError = store.FutureError
	// HistoryError: a compaction was asked to keep less than one delta.
	HistoryError = store.HistoryError
	// HorizonError: a head patch or rewind needs deltas that compaction dropped.
	HorizonError = store.HorizonError
	// KeyError: the key breaks the naming rules.
	KeyError = store.KeyError
	// TooLargeError: a delta, list of deltas, base or document is beyond its limit. Nothing was proposed.
	TooLargeError = store.TooLargeError
	// InvalidError: a request that makes no sense whatever the state, such as an append of an empty list.
	InvalidError = store.InvalidError
)

// Errors of the data directory.
type (
	// CorruptionError: stored bytes are not what was written. The member is sick and heals; nothing is cut away.
	CorruptionError = store.CorruptionError
	// EngineFailedError: a write or fsync failed. The host stopped and must be opened again.
	EngineFailedError = store.EngineFailedError
	// WrongOwnerError: the directory belongs to another cluster, host or incarnation.
	WrongOwnerError = store.WrongOwnerError
	// WrongRangeError: a partition's documents were stored under another hash range.
	WrongRangeError = store.WrongRangeError
	// OpenError: the directory is locked, read-only, on a full disk, or damaged.
	OpenError = store.OpenError
)

// The numbers that an Adama server publishes (design §12).
const (
	CodeExists      = store.CodeExists      // 667658
	CodeSeqMismatch = store.CodeSeqMismatch // 621580
	CodeNotFound    = store.CodeNotFound    // 625676
	CodeFuture      = store.CodeFuture      // 729311, compaction above the head
	CodeHistory     = store.CodeHistory     // 734263
	CodeHeadPatch   = store.CodeHeadPatch   // 787507, head patch above the head or below what is kept
	CodeRewind      = store.CodeRewind      // 791602, rewind above the head or below what is kept
)

// Adamant's own numbers. 6621xx: the request is wrong, and would be everywhere. 6622xx: a data directory is in trouble
// (package store has the rest of them). 6623xx: this host cannot do it now. 6624xx: the configuration is wrong.
const (
	CodeKey      = store.CodeKey      // 662101
	CodeTooLarge = store.CodeTooLarge // 662102
	CodeInvalid  = store.CodeInvalid  // 662103
	CodeNotJSON  = 662104

	CodeCorruption   = store.CodeCorruption   // 662201
	CodeEngineFailed = store.CodeEngineFailed // 662202
	CodeWrongOwner   = store.CodeWrongOwner   // 662203

	CodeNotLeader   = 662301
	CodeAmbiguous   = 662302
	CodeUnavailable = 662303
	CodeSafeMode    = 662304
	CodeClosed      = 662305
	CodeEpoch       = 662306

	CodeOptions = 662401
	CodeConfig  = 662402
)

// Code returns the number of the first error in err's chain that has one, or 0. Only a *SeqMismatchError answers 621580:
// a lost leadership, an unknown outcome and a closing host have numbers of their own.
func Code(err error) int { return store.Code(err) }

// NotLeaderError refuses an operation on a host that does not lead the document's partition. Nothing was proposed; ask
// the leader.
type NotLeaderError struct {
	Partition uint32
	Leader    string // host name of the leader as far as this host knows; "" when unknown
	Addr      string // the leader's address in the cluster file, of its links; "" when unknown
	HTTP      string // of the leader's HTTP endpoint; "" when the cluster file does not say
	Epoch     uint64 // the newest term this host knows of
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return fmt.Sprintf("partition %d is not led by this host, and its leader is unknown at term %d", e.Partition, e.Epoch)
	}
	return fmt.Sprintf("partition %d is led by host %s at %s in term %d", e.Partition, e.Leader, e.Addr, e.Epoch)
}

// Code returns CodeNotLeader.
func (e *NotLeaderError) Code() int { return CodeNotLeader }

// AmbiguousError reports a write that was proposed and whose outcome is unknown: it may have taken effect, or still do.
// Repeating the same deltas with the same sequence is safe; they take effect once.
type AmbiguousError struct {
	Partition uint32
	Key       Key
	Reason    string
	Err       error // the cause, such as the caller's context error; may be nil
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("outcome of the write to document %s of partition %d is unknown: %s", e.Key, e.Partition, e.Reason)
}

// Unwrap returns the cause.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// Code returns CodeAmbiguous.
func (e *AmbiguousError) Code() int { return CodeAmbiguous }

// UnavailableError refuses an operation that this host would be asked for but cannot do now: it leads without a lease,
// is not complete, is handing over, or has too many proposals in flight. Nothing was proposed; try again.
type UnavailableError struct {
	Partition uint32
	Reason    string
	Err       error // the cause; may be nil
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("partition %d is not available here: %s", e.Partition, e.Reason)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Code returns CodeUnavailable.
func (e *UnavailableError) Code() int { return CodeUnavailable }

// EpochError refuses a write that is for another leadership than the present one (InEpoch). Nothing happened.
type EpochError struct {
	Partition uint32
	Epoch     uint64 // in which this host leads
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("partition %d: the write is for another epoch than %d, the present one", e.Partition, e.Epoch)
}

// Code returns CodeEpoch.
func (e *EpochError) Code() int { return CodeEpoch }

// SafeModeError refuses everything but stale reads until an operator has cleared the partition's safe mode, or, where it has
// lost its majority, until that is back (design §10).
type SafeModeError struct {
	Partition uint32
	Reason    string
}

func (e *SafeModeError) Error() string {
	return fmt.Sprintf("partition %d is in safe mode, only stale reads are served: %s", e.Partition, e.Reason)
}

// Code returns CodeSafeMode.
func (e *SafeModeError) Code() int { return CodeSafeMode }

// NotJSONError: a document cannot be merged because one of its parts is not a JSON value. The store keeps deltas as
// bytes, so only reads find out; Log still lists them.
type NotJSONError struct {
	Key Key
	Seq int64 // seqEnd of the delta, or the seq of the base
	Err error // where and what, from the parser; may be nil
}

func (e *NotJSONError) Error() string {
	s := fmt.Sprintf("document %s is not JSON at seq %d", e.Key, e.Seq)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the parser's error.
func (e *NotJSONError) Unwrap() error { return e.Err }

// Code returns CodeNotJSON.
func (e *NotJSONError) Code() int { return CodeNotJSON }

// ClosedError: the host is closed, or closing. Nothing was proposed.
type ClosedError struct{ Host string }

func (e *ClosedError) Error() string { return fmt.Sprintf("host %s is closed", e.Host) }

// Code returns CodeClosed.
func (e *ClosedError) Code() int { return CodeClosed }

// OptionsError lists everything that is wrong with an Options.
type OptionsError struct{ Problems []string }

func (e *OptionsError) Error() string { return "invalid options: " + strings.Join(e.Problems, "; ") }

// Code returns CodeOptions.
func (e *OptionsError) Code() int { return CodeOptions }

// ConfigError: a cluster configuration cannot be used. When a host has a good one already it stays in force.
type ConfigError struct {
	File    string // "" when it did not come from a file
	Version uint64 // 0 when it could not be read
	Err     error
}

func (e *ConfigError) Error() string {
	s := "cluster configuration"
	if e.File != "" {
		s = "cluster file " + e.File
	}
	if e.Version != 0 {
		s += fmt.Sprintf(" (version %d)", e.Version)
	}
	return fmt.Sprintf("%s: %v", s, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *ConfigError) Unwrap() error { return e.Err }

// Code returns CodeConfig.
func (e *ConfigError) Code() int { return CodeConfig }
