package antientropy

import (
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// event is what can happen to a plan.
type event interface{ apply(p *plan) }

// output is what a plan wants done.
type output interface{ output() }

// failure says how a request ended.
type failure uint8

const (
	none        failure = iota
	unreachable         // no answer: the peer or the way to it is down
	refused             // an answer that says no
	liar                // an answer that cannot be true, or was damaged on its way
	local               // this member could not use the answer
	diverged            // this member's documents contradict the peer's
)

func (f failure) String() string {
	return [...]string{"none", "unreachable", "refused", "liar", "local", "diverged"}[f]
}

// result is what all answered calls have in common.
type result struct {
	Call    uint64
	Took    time.Duration
	Bytes   int // of the reply
	Failure failure
	Text    string // of a failure, for operators

	held  int    // bytes of memory, compressed and not; the worker's own account
	reply []byte // as it came; the worker's, who gives it back
}

// observed is what the loop sees of a member, now and then and after every change. Healed is given for a member with
// holes: what each bucket holds of them.
type observed struct {
	Partition uint32
	Applied   uint64
	Version   uint64 // changes with anything that the member holds (store.Documents.Version)
	Holes     interval.Set
	Healed    map[uint8]interval.Set
	Peers     []Peer
	Voter     bool
}

// gone: there is no such member here any more.
type gone struct{ Partition uint32 }

// wanted: a document was asked for that this member does not have although it may exist.
type wanted struct {
	Partition uint32
	Bucket    uint8
	Hash      uint64
}

// forgiven: what was reported of a member counts no more. If it is still so, it is to be reported again.
type forgiven struct{ Partition uint32 }

// tick: time has passed.
type tick struct{}

// compared ends a compare.
//
// Mine and Theirs say whether each side's sums at Index are the truth: what the log prescribes, because that side holds
// the effect of everything up to Index and of nothing after it.
type compared struct {
	result
	Outcome      outcome // elsewhere: different at Index, which is the peer's own; no sums yet
	Index        uint64
	Mine, Theirs bool
	Unable       bool // this member itself cannot tell its state at any index now
	Differ       []uint8
	Docs         *[256]int    // that the peer has in each bucket; nil unless the sums came
	Missing      int64        // bytes of documents that the peer has more than this member; 0 unless the sums came
	Past         *store.Past  // this member's sums at Index
	Coverage     interval.Set // the peer's
}

// answered ends a list or a pull of a session.
type answered struct {
	result
	Ended    []uint8 // everything of these was answered: they are to be finished
	Failed   []failedBucket
	Lists    int // pages left to list
	Pulls    int // items left to pull
	Large    int // bytes that the next pull needs; 0: the usual limit does
	Coverage interval.Set

	Documents, Entries int
	Imported           int64 // bytes
}

type finishedBucket struct {
	Bucket uint8
	Healed interval.Set
}

type failedBucket struct {
	Bucket  uint8
	Failure failure
}

// settled ends a finish of a session.
type settled struct {
	Session  uint64
	Finished []finishedBucket
	Failed   []failedBucket
	Text     string // of a failure, for operators
}

// fetched ends a fetch.
type fetched struct{ result }

// diagnosed ends a diagnose: the documents of the bucket that differ between two members that must agree.
type diagnosed struct {
	result
	Documents []Document
	Undecided bool // they differ in what has not yet been applied on one side; to be looked at again
}

// marked ends a mark.
type marked struct {
	Partition uint32
	Buckets   []uint8
	Lost      []uint8 // those of Buckets that were pulled since they were compared; nothing is recorded of them
	Healed    interval.Set
	Err       error
}

// closed ends a closeHoles. The holes and the progress are what is left: both changed in one step.
type closed struct {
	Partition uint32
	Holes     interval.Set
	Healed    map[uint8]interval.Set
	Err       error
}

// compare asks a peer for its root, and for its sums if that differs. At 0 means the index that this member has applied.
type compare struct {
	Call      uint64
	Partition uint32
	Peer      string
	At        uint64
}

// list sends a session's next list request; the first one begins the session, with Buckets.
type list struct {
	Call      uint64
	Session   uint64
	Partition uint32
	Peer      string
	Buckets   []uint8
}

// pull sends a session's next pull request.
type pull struct {
	Call    uint64
	Session uint64
	Limit   int
}

// finish makes durable what a session has pulled of some buckets, and has it count as healed.
type finish struct {
	Session uint64
	Buckets []uint8
}

// fetch pulls one document: within the session that is under way for its bucket, or on its own (Session 0).
type fetch struct {
	Call      uint64
	Session   uint64
	Partition uint32
	Peer      string
	Bucket    uint8
	Hash      uint64
	Limit     int
}

// diagnose lists a bucket on both sides to name the documents that differ.
type diagnose struct {
	Call      uint64
	Partition uint32
	Peer      string
	Bucket    uint8
	Index     uint64
}

// drop ends a session without healing what it had not finished.
type drop struct{ Session uint64 }

// giveUp takes buckets from a session: others may have begun with them when its request ends.
type giveUp struct {
	Session uint64
	Buckets []uint8
}

// mark records that buckets have been proven equal to the truth.
type mark struct {
	Partition uint32
	Buckets   []uint8
	Healed    interval.Set
	Past      *store.Past
}

// closeHoles makes durable what all buckets have healed.
type closeHoles struct{ Partition uint32 }

// report tells the member that it and a peer contradict each other.
type report struct {
	Divergence Divergence
	Again      bool // it was reported before, without its documents
}

// sleep: until then nothing is to be done unless something happens. Zero: for ever.
type sleep struct{ Until time.Time }

func (compare) output()    {}
func (list) output()       {}
func (pull) output()       {}
func (finish) output()     {}
func (fetch) output()      {}
func (diagnose) output()   {}
func (drop) output()       {}
func (giveUp) output()     {}
func (mark) output()       {}
func (closeHoles) output() {}
func (report) output()     {}
func (sleep) output()      {}
