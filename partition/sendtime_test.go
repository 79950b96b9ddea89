package partition

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// slowAnswers is a transport whose requests take an hour by a clock that is set.
type slowAnswers struct {
	Transport
	now *time.Time
}

func (s slowAnswers) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	*s.now = s.now.Add(time.Hour)
	*resp = raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, Success: true}
	return nil
}

// TestSlowAnswerGivesNoLease: an answer counts from when its request was sent, whatever Raft itself sends it by. The follower
// may have promised at any time since.
func TestSlowAnswerGivesNoLease(t *testing.T) {
	now := time.Now()
	sent := now
	g := &guard{self: "l", leaseFor: time.Second, inner: slowAnswers{now: &now}, now: func() time.Time { return now }, log: &watchedLog{},
		stuck: func(time.Time) bool { return false }}
	voters := []raft.ServerID{"l", "f", "h"}
	send := map[string]func() error{
		"by Raft": func() error {
			return g.AppendEntries("f", "f", &raft.AppendEntriesRequest{Term: 1}, new(raft.AppendEntriesResponse))
		},
		"by the guard": func() error { return g.reassure("f", 1) },
	}
	for name, f := range send {
		g.lease, sent = lease{}, now
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if at, ok := g.followed(1, voters, now); !ok || !at.Equal(sent) {
			t.Errorf("%s: followed %s after the request was sent, %v", name, at.Sub(sent), ok)
		}
	}
}
