package adamant

import (
	"strconv"
	"time"
)

// Role is a member's part in its Raft group.
type Role string

// The roles. A non-voter is a read replica, or is still joining. RoleNone is a member whose Raft does not run (yet).
const (
	RoleLeader    Role = "leader"
	RoleFollower  Role = "follower"
	RoleCandidate Role = "candidate"
	RoleNonVoter  Role = "non-voter"
	RoleNone      Role = "none"
)

// Status is what a host knows of itself and of its cluster at one moment. It marshals to the JSON that docs/http.md
// describes; durations are in nanoseconds.
type Status struct {
	Host        string    `json:"host"`
	Incarnation string    `json:"incarnation"` // of the data directory
	Cluster     string    `json:"cluster"`
	Addr        string    `json:"addr,omitempty"` // where other hosts reach it; "" without a port
	Started     time.Time `json:"started"`

	ConfigVersion  uint64 `json:"configVersion"`            // of the configuration in force
	ConfigRejected uint64 `json:"configRejected,omitempty"` // how many cluster files were refused since the start
	ConfigError    string `json:"configError,omitempty"`    // why the newest one was; "" after a good one

	// SafeMode is why the whole host serves stale reads only; "" when it does not.
	SafeMode string `json:"safeMode,omitempty"`
	// Failed is the durable step that failed and stopped the host; "" when none did.
	Failed string `json:"failed,omitempty"`
	// Draining is true once leaderships are being given away for good.
	Draining bool `json:"draining,omitempty"`

	// Scrub is what the background verification has done since the start.
	Scrub *ScrubTotals `json:"scrub,omitempty"`

	Peers      []PeerStatus      `json:"peers"`             // by name, without this host
	Partitions []PartitionStatus `json:"partitions"`        // members of this host, by id
	History    []Notice          `json:"history,omitempty"` // the newest notable events, oldest first
}

// PeerStatus is what a host believes of another one.
type PeerStatus struct {
	Host        string        `json:"host"`
	Incarnation string        `json:"incarnation,omitempty"` // "" when never heard of
	Addr        string        `json:"addr,omitempty"`
	Zone        string        `json:"zone,omitempty"`
	Alive       bool          `json:"alive"`
	LinkUp      bool          `json:"linkUp"`
	RoundTrip   time.Duration `json:"roundTrip,omitempty"`
}

// PartitionStatus is one member: this host's copy of one partition.
//
//	1 ........ Applied ≤ Commit ≤ LastIndex        Ahead may exceed Applied after a pull
//	└ Coverage = [1, Applied] minus Holes ┘
type PartitionStatus struct {
	ID    uint32 `json:"id"`
	First string `json:"first"` // hash range, 16 hex digits each, closed
	Last  string `json:"last"`

	Role   Role   `json:"role"`
	Leader string `json:"leader,omitempty"` // host name; "" when unknown
	Term   uint64 `json:"term"`             // also the epoch of the leadership

	Serving    bool   `json:"serving"`              // leads and serves linearizable reads and writes
	NotServing string `json:"notServing,omitempty"` // why not, for a member that leads

	LastIndex uint64 `json:"lastIndex"`       // newest entry in the log
	Commit    uint64 `json:"commit"`          // newest index known to be committed
	Applied   uint64 `json:"applied"`         // newest index applied to the documents
	Ahead     uint64 `json:"ahead,omitempty"` // highest index learned by repair
	Lag       uint64 `json:"lag"`             // Commit − Applied

	Complete bool   `json:"complete"`
	Coverage string `json:"coverage"`        // index ranges, as in "[1,90] [95,99]"
	Holes    string `json:"holes,omitempty"` // index ranges; "" when there are none

	// SafeMode is why this partition serves stale reads only; "" when it does not.
	SafeMode string `json:"safeMode,omitempty"`
	// Divergences are what the members reported, while that is why.
	Divergences []Divergence `json:"divergences,omitempty"`
	// Restoring is the host whose version an operator chose to keep, while this member heals from it.
	Restoring string `json:"restoring,omitempty"`

	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`     // of bases and deltas
	Root      string `json:"root"`      // summary root, 32 hex digits
	RootIndex uint64 `json:"rootIndex"` // the index it belongs to

	Members []MemberStatus `json:"members"`
	Repair  *RepairStatus  `json:"repair,omitempty"` // nil when nothing is being repaired
	Scrub   *ScrubStatus   `json:"scrub,omitempty"`  // nil before it is known
}

// ScrubTotals is what a host's background verification has done since the start.
type ScrubTotals struct {
	Buckets int64 `json:"buckets"` // read and verified
	Bytes   int64 `json:"bytes"`
	Found   int64 `json:"found"`          // damaged buckets
	Healed  int64 `json:"healed"`         // of these
	Kept    int64 `json:"kept,omitempty"` // damaged buckets that wait for a complete member to heal from, and lost nothing yet
	// OldestPass is when the member whose newest whole pass is the oldest finished it; zero while one has finished none.
	OldestPass time.Time `json:"oldestPass,omitzero"`
}

// ScrubStatus is how far the verification of one member is.
type ScrubStatus struct {
	BucketsDone int       `json:"bucketsDone"` // of 256, in this pass
	Began       time.Time `json:"began"`       // this pass, by the plan
	Finished    time.Time `json:"finished,omitzero"`
	Kept        int       `json:"kept,omitempty"`    // damaged buckets, as in ScrubTotals
	Healing     int       `json:"healing,omitempty"` // damaged buckets that are being healed
}

// MemberStatus is a member of a partition as another one of its members sees it. Progress is known for members that
// reported lately; the leader knows most.
type MemberStatus struct {
	Host        string `json:"host"`
	Incarnation string `json:"incarnation,omitempty"`
	Voter       bool   `json:"voter"`           // false: replica, or still joining
	Desired     bool   `json:"desired"`         // the cluster file lists it
	Prefer      bool   `json:"prefer"`          // the cluster file prefers it as leader
	Alive       bool   `json:"alive"`           // it reported lately
	Complete    bool   `json:"complete"`        // as it reported
	Applied     uint64 `json:"applied"`         // as it reported
	Root        string `json:"root,omitempty"`  // summary root it reported
	State       string `json:"state,omitempty"` // what moves next for it: "joining", "healing", "leaving"; "" when nothing
}

// RepairStatus is how far a member's repair has come.
type RepairStatus struct {
	BucketsDone    int       `json:"bucketsDone"`
	BucketsTotal   int       `json:"bucketsTotal"`
	Documents      int64     `json:"documents"` // imported so far
	Entries        int64     `json:"entries"`   // imported so far
	Bytes          int64     `json:"bytes"`     // received so far
	BytesPerSecond float64   `json:"bytesPerSecond"`
	Started        time.Time `json:"started"`
	Sources        []string  `json:"sources,omitempty"`   // host names it pulls from
	LastError      string    `json:"lastError,omitempty"` // the last thing that went wrong; others may have gone well since

	Imported   int64         `json:"imported"`             // bytes of snapshots and deltas taken in so far
	BytesTotal int64         `json:"bytesTotal,omitempty"` // about what Imported will be in the end; 0 when not known
	Remaining  time.Duration `json:"remaining,omitempty"`  // about; 0 when not known
}

// RepairTotals are sums over the members of a host that are being repaired. They are repaired in an order: the partition with
// the fewest whole members first.
type RepairTotals struct {
	Partitions     int           `json:"partitions"`
	Waiting        int           `json:"waiting"` // of them, those that nothing is pulled for at the moment
	BucketsDone    int           `json:"bucketsDone"`
	BucketsTotal   int           `json:"bucketsTotal"`
	Imported       int64         `json:"imported"`
	BytesTotal     int64         `json:"bytesTotal"` // of those of which it is known
	BytesPerSecond float64       `json:"bytesPerSecond"`
	Remaining      time.Duration `json:"remaining,omitempty"` // about, for all of them; 0 when not known
}

// Repair adds up the repairs under way; nil when there are none.
func (s *Status) Repair() *RepairTotals {
	t := &RepairTotals{}
	for i := range s.Partitions {
		r := s.Partitions[i].Repair
		if r == nil {
			continue
		}
		t.Partitions++
		if len(r.Sources) == 0 {
			t.Waiting++
		}
		t.BucketsDone += r.BucketsDone
		t.BucketsTotal += r.BucketsTotal
		t.Imported += r.Imported
		t.BytesTotal += r.BytesTotal
		t.BytesPerSecond += r.BytesPerSecond
		t.Remaining = max(t.Remaining, r.Remaining)
	}
	if t.Partitions == 0 {
		return nil
	}
	if left := t.BytesTotal - t.Imported; left > 0 && t.BytesPerSecond > 0 { // one after the other, with what all of them have
		t.Remaining = max(t.Remaining, time.Duration(min(float64(left)/t.BytesPerSecond, 1e6)*float64(time.Second)))
	}
	return t
}

// Notice is one remarkable event of a host's recent past: safe mode, divergence, holes, lost leaderships, refused files.
type Notice struct {
	Time      time.Time `json:"time"` // of this host's wall clock; each is later than the one before
	Host      string    `json:"host"`
	Partition *uint32   `json:"partition,omitempty"` // nil when it concerns the whole host
	Epoch     uint64    `json:"epoch,omitempty"`     // Raft's term there
	// Kind is "leader" (of the partition, as this host learned it), "leadership" (this host's own), "membership", "safe-mode",
	// "divergence", "hole", "healed", "catastrophe", "config", "peer", "recovery", "corruption", "disk" or "failure".
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Totals are sums over a host's members.
type Totals struct {
	Members    int    `json:"members"`
	Leading    int    `json:"leading"`
	Serving    int    `json:"serving"`
	Leaderless int    `json:"leaderless"` // members that know no leader
	Sick       int    `json:"sick"`       // members with holes
	SafeMode   int    `json:"safeMode"`
	Documents  int64  `json:"documents"`
	Bytes      int64  `json:"bytes"`
	Lag        uint64 `json:"lag"`
	PeersAlive int    `json:"peersAlive"`
	Peers      int    `json:"peers"`
}

// Totals adds the members up.
func (s *Status) Totals() Totals {
	t := Totals{Members: len(s.Partitions), Peers: len(s.Peers)}
	count := func(n *int, cond bool) {
		if cond {
			*n++
		}
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		count(&t.Leading, p.Role == RoleLeader)
		count(&t.Serving, p.Serving)
		count(&t.Leaderless, p.Leader == "")
		count(&t.Sick, !p.Complete)
		count(&t.SafeMode, p.SafeMode != "")
		t.Documents += p.Documents
		t.Bytes += p.Bytes
		t.Lag += p.Lag
	}
	for i := range s.Peers {
		count(&t.PeersAlive, s.Peers[i].Alive)
	}
	return t
}

// Ready reports whether the host can take its part of the work: it has not failed, is not in safe mode, and every member
// knows a leader. When it is not, the second value says why, in a few words.
func (s *Status) Ready() (bool, string) {
	t := s.Totals()
	switch {
	case s.Failed != "":
		return false, "failed: " + s.Failed
	case s.SafeMode != "":
		return false, "safe mode: " + s.SafeMode
	case s.Draining:
		return false, "draining"
	case t.Leaderless > 0:
		return false, plural(t.Leaderless, "partition") + " without a leader"
	}
	return true, ""
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
