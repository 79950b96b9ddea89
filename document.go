package adamant

import (
	"context"
	"fmt"
	"time"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

type (
	// Key names a document: a space of 3–127 and a key of 1–511 characters of [A-Za-z0-9._-].
	Key = store.Key
	// Delta is one step of a document, from seq SeqBegin−1 to SeqEnd. Redo and Undo are JSON merge patches (RFC 7396) for
	// Get, HeadPatch and Rewind, and bytes for everything else.
	Delta = store.Delta
	// Chain is the running hash over a document's deltas: equal chains at a seq mean equal histories.
	Chain = store.Chain
)

// ParseKey splits "space/key" and validates the parts; the error is a *KeyError.
func ParseKey(s string) (Key, error) { return store.ParseKey(s) }

// Document is the answer of Get, HeadPatch and Rewind (design §12).
type Document struct {
	// JSON is the merged document for Get, and a merged patch for HeadPatch and Rewind: nulls stay in a patch.
	JSON []byte
	// Head is the document's newest seq at the moment of the read.
	Head int64
	// Reads is how many stored records were merged: one for each delta, and one for the base if it was read.
	Reads int
	// Staleness is set for stale reads only.
	Staleness *Staleness
}

// AgeUnknown is the Age of a member that has not heard from any leader since it was opened: it may lack anything that was
// written since it was closed.
const AgeUnknown = partition.AgeUnknown

// Staleness says what a stale read may have missed.
type Staleness struct {
	// Index is the Raft index that the member had applied.
	Index uint64 `json:"index"`
	// Age is how long ago the member last heard from a leader, or served itself: a write acknowledged within it may be
	// missing, and earlier ones while the member still has to apply what it was sent. AgeUnknown when it has heard from none
	// since it was opened. In JSON it is in nanoseconds.
	Age time.Duration `json:"age"`
	// Complete is false when the member has holes: older writes may be missing too. Of a document of which it has newer deltas
	// and not the older ones nothing is merged: a stale read of that fails with an *UnavailableError.
	Complete bool `json:"complete"`
}

// Info describes one document of an inventory.
type Info struct {
	Key        Key
	Head       int64  // newest seq
	Bytes      int64  // stored size: base and deltas
	Entries    int64  // stored deltas
	LastIndex  uint64 // Raft index that last changed it
	Generation uint64 // Raft index that created or replaced it
	// Staleness is set for stale reads only; it is that of the whole partition.
	Staleness *Staleness
}

// LogEntry is one stored delta with what the log knows of it.
type LogEntry struct {
	Index, Term uint64 // of the command that brought the delta
	Delta       Delta
	Chain       Chain // after this delta
	// Staleness is set for stale reads only.
	Staleness *Staleness
}

// Scope selects the documents of an inventory. The zero value is every document of every partition of the host.
type Scope struct {
	Space     string  // "" for all
	Partition *uint32 // nil for all
}

// Consistency is how recent a read must be (design §9).
type Consistency uint8

const (
	// ReadLease is linearizable, from the leader and its lease; it relies on clocks that run at nearly the same rate.
	ReadLease Consistency = iota
	// ReadQuorum is linearizable without any assumption about clocks: the leader asks a majority first.
	ReadQuorum
	// ReadStale is served by any member, sick or not, and says how stale it is.
	ReadStale
)

// String returns "lease", "quorum" or "stale".
func (c Consistency) String() string {
	switch c {
	case ReadLease:
		return "lease"
	case ReadQuorum:
		return "quorum"
	case ReadStale:
		return "stale"
	}
	return fmt.Sprintf("consistency(%d)", uint8(c))
}

// ParseConsistency is the inverse of String.
func ParseConsistency(s string) (Consistency, error) {
	for c := ReadLease; c <= ReadStale; c++ {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown consistency %q: want lease, quorum or stale", s)
}

// ReadOption adjusts one read. Options are comparable values; the last one of a kind wins.
type ReadOption struct {
	consistency    Consistency
	hasConsistency bool
}

// WithConsistency overrides the host's Options.Consistency for one read.
func WithConsistency(c Consistency) ReadOption {
	return ReadOption{consistency: c, hasConsistency: true}
}

// readSettings is what a list of read options amounts to.
type readSettings struct{ consistency Consistency }

func resolveRead(fallback Consistency, opts []ReadOption) readSettings {
	s := readSettings{consistency: fallback}
	for _, o := range opts {
		if o.hasConsistency {
			s.consistency = o.consistency
		}
	}
	return s
}

// Location says where a document lives and who leads there, as far as this host knows.
type Location struct {
	Partition uint32   `json:"partition"`
	Bucket    uint8    `json:"bucket"`
	Leader    string   `json:"leader,omitempty"` // host name; "" when unknown
	Addr      string   `json:"addr,omitempty"`   // the leader's address in the cluster file
	HTTP      string   `json:"http,omitempty"`   // of the leader's HTTP endpoint, if the cluster file says
	Epoch     uint64   `json:"epoch"`            // the term the leader was seen in
	Members   []string `json:"members"`          // host names: voters, then replicas
	Local     bool     `json:"local"`            // this host is a member
}

// Leadership is a fencing token: Epoch grows with every leadership of the partition, and Context is cancelled when this
// one's lease ends, before another can begin.
type Leadership struct {
	Epoch   uint64
	Context context.Context
}
