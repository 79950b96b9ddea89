package store

import (
	"errors"
	"fmt"
	"strconv"
)

// The numbers an Adama server publishes for the errors of the application contract (design §12).
const (
	CodeExists      = 667658
	CodeSeqMismatch = 621580
	CodeNotFound    = 625676
	CodeFuture      = 729311 // compaction above the head
	CodeHistory     = 734263
	CodeHeadPatch   = 787507 // head patch outside of what is kept
	CodeRewind      = 791602 // rewind outside of what is kept
)

// This library's own numbers, chosen outside of the ones above. 6621xx: the request is wrong. 6622xx: the store is.
const (
	CodeKey           = 662101
	CodeTooLarge      = 662102
	CodeInvalid       = 662103
	CodeCorruption    = 662201
	CodeEngineFailed  = 662202
	CodeWrongOwner    = 662203
	CodeLocked        = 662204
	CodeReadOnly      = 662205
	CodeDiskFull      = 662206
	CodeEngineClosed  = 662207
	CodeMemberDropped = 662208
	CodeWrongRange    = 662209
	CodeUnreadable    = 662210
)

// Op names the operation that asked for a seq the document does not have.
type Op string

// Operations of FutureError and HorizonError.
const (
	OpCompact   Op = "compact"
	OpHeadPatch Op = "headpatch"
	OpRewind    Op = "rewind"
)

func (o Op) code() int {
	switch o {
	case OpHeadPatch:
		return CodeHeadPatch
	case OpRewind:
		return CodeRewind
	}
	return CodeFuture
}

// ExistsError: a create found the document.
type ExistsError struct{ Key Key }

func (e *ExistsError) Error() string { return fmt.Sprintf("document %s exists already", e.Key) }

// Code implements the application contract.
func (e *ExistsError) Code() int { return CodeExists }

// SeqMismatchError: the deltas do not start right after Head. An Adama server catches up and retries.
type SeqMismatchError struct {
	Key  Key
	Head int64
}

func (e *SeqMismatchError) Error() string {
	return fmt.Sprintf("sequence mismatch: document %s is at %d", e.Key, e.Head)
}

// Code implements the application contract.
func (e *SeqMismatchError) Code() int { return CodeSeqMismatch }

// NotFoundError: there is no such document.
type NotFoundError struct{ Key Key }

func (e *NotFoundError) Error() string { return fmt.Sprintf("document %s not found", e.Key) }

// Code implements the application contract.
func (e *NotFoundError) Code() int { return CodeNotFound }

// FutureError: the operation names a seq above the head.
type FutureError struct {
	Key       Key
	Op        Op
	Seq, Head int64
}

func (e *FutureError) Error() string {
	return fmt.Sprintf("%s of document %s at seq %d, which is above its head %d", e.Op, e.Key, e.Seq, e.Head)
}

// Code implements the application contract; it depends on the operation.
func (e *FutureError) Code() int { return e.Op.code() }

// HorizonError: the operation needs deltas that compaction has dropped.
type HorizonError struct {
	Key          Key
	Op           Op
	Seq, Horizon int64 // Horizon: the lowest seq that would have worked
}

func (e *HorizonError) Error() string {
	return fmt.Sprintf("%s of document %s at seq %d, but only deltas after %d are kept", e.Op, e.Key, e.Seq, e.Horizon)
}

// Code implements the application contract; it depends on the operation.
func (e *HorizonError) Code() int { return e.Op.code() }

// HistoryError: a compaction must keep at least one delta.
type HistoryError struct {
	Key     Key
	History int
}

func (e *HistoryError) Error() string {
	return fmt.Sprintf("compaction of document %s with the history %d; at least 1 is needed", e.Key, e.History)
}

// Code implements the application contract.
func (e *HistoryError) Code() int { return CodeHistory }

// KeyError: the key breaks the naming rules.
type KeyError struct {
	Key    Key
	Reason string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("invalid key %s: %s", clip(e.Key.String()), e.Reason)
}

// Code returns CodeKey.
func (e *KeyError) Code() int { return CodeKey }

// clip keeps hostile keys from filling logs.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strconv.Quote(s[:limit]) + "…"
	}
	return strconv.Quote(s)
}

// TooLargeError: something is beyond its configured limit. Nothing was proposed.
type TooLargeError struct {
	Key         Key
	What        string // "delta", "document", "snapshot", ...
	Size, Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s of document %s has %d bytes, the limit is %d", e.What, e.Key, e.Size, e.Limit)
}

// Code returns CodeTooLarge.
func (e *TooLargeError) Code() int { return CodeTooLarge }

// InvalidError: a request or mutation that makes no sense, whatever the state.
type InvalidError struct {
	Key    Key
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Key == (Key{}) {
		return e.Reason
	}
	return fmt.Sprintf("document %s: %s", e.Key, e.Reason)
}

// Code returns CodeInvalid.
func (e *InvalidError) Code() int { return CodeInvalid }

// CorruptionError: stored bytes are not what was written. Nothing is skipped or cut away by who meets it; ScrubBucket tells
// what else is damaged there, and Damage lets the bucket be healed by a peer.
type CorruptionError struct {
	Partition uint32
	Key       Key    // zero for the partition's own records
	Kind      string // "head", "base", "entry", "delete record", "meta"
	Err       error
}

func (e *CorruptionError) Error() string {
	if e.Key == (Key{}) {
		return fmt.Sprintf("partition %d: corrupt %s record: %v", e.Partition, e.Kind, e.Err)
	}
	return fmt.Sprintf("partition %d: corrupt %s record of document %s: %v", e.Partition, e.Kind, e.Key, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// Code returns CodeCorruption.
func (e *CorruptionError) Code() int { return CodeCorruption }

// ReadError: the disk would not give stored bytes, or a part of the engine is closed. They may be well: another try may read
// them.
type ReadError struct {
	Partition uint32
	Key       Key    // zero where it is not about one document
	Kind      string // as in CorruptionError
	Err       error
}

func (e *ReadError) Error() string {
	if e.Key == (Key{}) {
		return fmt.Sprintf("store: partition %d: read %s: %v", e.Partition, e.Kind, e.Err)
	}
	return fmt.Sprintf("store: partition %d: read %s of %s: %v", e.Partition, e.Kind, e.Key, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// EngineFailedError: a write or fsync failed. The kernel may have dropped the pages, so nothing was or will be retried;
// the process must be restarted.
type EngineFailedError struct {
	Engine string // "documents" or "log"
	Err    error
}

func (e *EngineFailedError) Error() string {
	return fmt.Sprintf("%s engine failed and stopped: %v", e.Engine, e.Err)
}

func (e *EngineFailedError) Unwrap() error { return e.Err }

// Code returns CodeEngineFailed.
func (e *EngineFailedError) Code() int { return CodeEngineFailed }

// WrongOwnerError: the directory belongs to another cluster, host or incarnation. Using it would let a wrong disk vote.
type WrongOwnerError struct {
	Dir        string
	What       string // "cluster", "host" or "incarnation"
	Have, Want string // on disk, asked for
}

func (e *WrongOwnerError) Error() string {
	return fmt.Sprintf("directory %s belongs to %s %q, not %q", e.Dir, e.What, e.Have, e.Want)
}

// Code returns CodeWrongOwner.
func (e *WrongOwnerError) Code() int { return CodeWrongOwner }

// OpenError: the directory cannot be opened for a reason an operator can act upon.
type OpenError struct {
	Dir    string
	Reason OpenReason
	Err    error
}

// OpenReason says what is in the way.
type OpenReason string

// Reasons of OpenError.
const (
	OpenLocked     OpenReason = "it is in use by another process"
	OpenReadOnly   OpenReason = "it cannot be written"
	OpenDiskFull   OpenReason = "the disk is full"
	OpenNoRoom     OpenReason = "this process may not have more memory or open files"
	OpenUnreadable OpenReason = "its files are damaged or unreadable"
)

func (e *OpenError) Error() string {
	return fmt.Sprintf("cannot open the store in %s: %s: %v", e.Dir, e.Reason, e.Err)
}

func (e *OpenError) Unwrap() error { return e.Err }

// Code depends on the reason.
func (e *OpenError) Code() int {
	switch e.Reason {
	case OpenLocked:
		return CodeLocked
	case OpenReadOnly:
		return CodeReadOnly
	case OpenDiskFull:
		return CodeDiskFull
	}
	return CodeUnreadable
}

// WrongRangeError: a member's documents were stored under another hash range, on which their place in the key space
// depends.
type WrongRangeError struct {
	Partition  uint32
	Have, Want Range
}

func (e *WrongRangeError) Error() string {
	return fmt.Sprintf("partition %d holds the hash range %s, not %s", e.Partition, e.Have, e.Want)
}

// Code returns CodeWrongRange.
func (e *WrongRangeError) Code() int { return CodeWrongRange }

// codedError is a sentinel with a number.
type codedError struct {
	text string
	code int
}

func (e *codedError) Error() string { return e.text }
func (e *codedError) Code() int     { return e.code }

// Sentinels of the engines.
var (
	ErrClosed  error = &codedError{"store: engine is closed", CodeEngineClosed}
	ErrDropped error = &codedError{"store: the member was dropped", CodeMemberDropped}
)

// Code returns the number of the first error in the chain that has one, or 0.
func Code(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 0
}
