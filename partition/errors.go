package partition

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// ErrLogLost: the log ends before what the documents hold. The member must return under a new incarnation.
var ErrLogLost = errors.New("the log lost entries that were applied")

// ErrForeignGroup: another founding of the same partition sent its marker; nothing of it may be taken over.
var ErrForeignGroup = errors.New("the partition was founded twice")

// ErrClosed: the member is closed or stopped.
var ErrClosed = errors.New("the partition is closed")

// NotServingError refuses an operation before anything was proposed.
type NotServingError struct {
	Partition uint32
	Reason    Refusal
	Detail    string        // why safe mode, which failure
	Leader    raft.ServerID // "" when unknown
	Epoch     uint64        // the member's current term
}

func (e *NotServingError) Error() string {
	s := fmt.Sprintf("partition %d does not serve here: %s", e.Partition, e.Reason)
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	if e.Leader != "" {
		s += ", leader " + string(e.Leader)
	}
	return s
}

// AmbiguousError reports a write whose outcome is unknown: it may or may not take effect. Retrying the same deltas with
// the same sequence is safe.
type AmbiguousError struct {
	Partition uint32
	Key       store.Key
	Reason    string
	Err       error // the caller's context error, if that ended the wait
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("partition %d: outcome of the write to %s is unknown: %s", e.Partition, e.Key, e.Reason)
}

// Unwrap returns the context's error when that is what ended the wait.
func (e *AmbiguousError) Unwrap() error { return e.Err }
