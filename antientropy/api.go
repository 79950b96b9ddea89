package antientropy

import (
	"context"

	"github.com/adamantdb/adamant/store"
)

// Caller sends a request to the member of a partition on another host, and returns its reply: what Serve returned there.
// An error that answers Code() int is the peer's own refusal; any other means that it could not be reached.
type Caller interface {
	Call(ctx context.Context, host string, partition uint32, payload []byte) ([]byte, error)
}

// Recycler is a Caller that takes back replies of which nothing is used any more.
type Recycler interface{ Recycle(reply []byte) }

// Member is one member of a partition on this host, as the loop sees it. Its methods must not block.
type Member interface {
	ID() uint32
	Documents() *store.Documents
	// Peers returns the other members of the partition, as they are known at the moment.
	Peers() []Peer
	// Diverged tells the member that its documents contradict a peer's. What to do about that is its own decision; the
	// loop merges nothing that contradicts. It may be told twice of one bucket: at once, and again with the documents' names.
	Diverged(Divergence)
}

// Voter is a Member that says whether majorities count on it. Voters are healed before replicas.
type Voter interface{ Votes() bool }

// Peer is another member of a partition. Complete and Alive are hints: they order the choice, and what a peer answers
// counts.
type Peer struct {
	Host     string
	Complete bool
	Alive    bool
}

// Divergence is a contradiction between two members: their documents cannot both come from one log.
type Divergence struct {
	Partition uint32
	Peer      string
	Bucket    uint8
	// Index is where two complete members' sums differ; 0 when a repair met the contradiction.
	Index uint64
	// Documents that differ, as far as they could be found out; at most 64.
	Documents []Document
}

// Document is one document of a divergence.
type Document struct {
	Key    store.Key // zero when only the peer has it and its name could not be learned
	Hash   uint64
	Seq    int64 // where, as far as one seq can say it; −1: not known
	Reason string
}

// Stats count since the loop was made.
type Stats struct {
	Compares, CompareBytes int64 // comparisons, and the bytes of their requests and replies
	// BucketsDifferent counts buckets that differed when both sides held everything up to the index compared: one of the two
	// is damaged. What gaps explain is not in it.
	BucketsDifferent       int64
	Listings, ListingBytes int64
	Pulls, PulledBytes     int64
	ImportedDocuments      int64
	ImportedEntries        int64
	ImportedBytes          int64 // of stored deltas and bases
	// AlreadyHad counts entries that a peer sent and that were here already. It stays 0 but for entries that
	// Raft, or another peer in the place of a slow one, brought while they were on their way.
	AlreadyHad   int64
	Sessions     int64
	Fetches      int64 // single documents that were asked for
	Healed       int64 // times that a member's last hole was closed
	Divergences  int64
	Liars        int64 // replies that were damaged or cannot be true
	Unreachable  int64
	Refused      int64
	InFlight     int64 // bytes of replies held at this moment
	MostInFlight int64
}
