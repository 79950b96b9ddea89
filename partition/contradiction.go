package partition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// A leader holds every entry that was committed before its term (Raft's leader completeness). So when one that is not older than
// anything this member knows has another entry, where this member has applied one, then a majority has lost what it had
// acknowledged: disks came back as old copies, more of them than the design promises to survive. Who notices refuses the request
// before Raft sees it, which would cut applied entries off its log, and tells (design §10, safe mode).

// Contradiction is the proof of such a loss.
type Contradiction struct {
	Leader  raft.ServerID
	Office  uint64 // the term in which it leads
	Index   uint64 // where its log differs
	Theirs  uint64 // the term of its entry there
	Own     uint64 // the term of the entry that was committed there, or the highest that it can have
	Applied uint64 // how far this member had applied
}

func (c *Contradiction) String() string {
	return fmt.Sprintf("the leader of term %d, %s, has an entry of term %d at index %d, where one of term %d was committed; applied here up to %d",
		c.Office, c.Leader, c.Theirs, c.Index, c.Own, c.Applied)
}

// ErrLostCommits: a leader's log contradicts what was committed before it was elected.
var ErrLostCommits = errors.New("a majority lost entries that were committed")

// toldAgain is how long a member that is contradicted keeps quiet until it tells so again: what it told may have been cleared.
const toldAgain = time.Second

// committed is what a member knows of the terms of entries that were committed.
type committed struct {
	through uint64 // everything up to here was applied here, or is a hole
	terms   terms
	termOf  func(index uint64) (uint64, bool) // of this member's own log
	newest  uint64                            // the term of the entry at through; 0 when it is not known
}

// bounds returns between which terms the entry lies that was committed at index. Terms grow along a log, so that those of others
// bound the term of an entry that is not known itself.
func (c *committed) bounds(index uint64) (least, most uint64) {
	if t, ok := c.terms.at(index); ok {
		return t, t
	}
	most = math.MaxUint64
	if c.newest > 0 {
		most = c.newest
	}
	last := uint64(0) // index that the terms reach
	for _, r := range c.terms {
		last = r.Last
		if r.Last < index {
			least = r.Term
		} else {
			return least, r.Term
		}
	}
	if index > last {
		if t, ok := c.termOf(index); ok {
			return t, t
		}
	}
	return least, most
}

// refutes reports whether a log that has an entry of that term at index lacks what was committed; own is the term that it should
// have there, at the most.
func (c *committed) refutes(index, term uint64) (own uint64, yes bool) {
	if index == 0 || index > c.through {
		return 0, false
	}
	least, most := c.bounds(index)
	return most, term < least || term > most
}

// refutesHistory is the same for a log of which only a marker and its terms are known. By the Log Matching property one entry
// decides about all before it. Between two ranges of a marker there are only entries that carry no command, and what a member has
// applied last did.
func (c *committed) refutesHistory(index, term uint64, history terms) (own, theirs, at uint64, yes bool) {
	if index <= c.through {
		own, yes = c.refutes(index, term)
		return own, term, index, yes
	}
	at = c.through
	theirs, known := history.at(at)
	if own, yes = c.refutes(at, theirs); known {
		return own, theirs, at, yes
	}
	after := slices.IndexFunc(history, func(r termRange) bool { return r.First > at })
	if at == 0 || after <= 0 {
		return 0, 0, 0, false
	}
	_, own = c.bounds(at)
	return own, history[after].Term, at, true
}

// committedTerms returns what is known now. A copy: it is asked for seldom.
func (s *stateMachine) committedTerms(log store.LogGroup) committed {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := committed{through: max(s.index, s.docs.Applied()), terms: slices.Clone(s.terms), termOf: termOf(log)}
	if c.newest = s.term; c.through != s.index {
		c.newest = 0
		if least, most := c.bounds(c.through); least == most {
			c.newest = most
		}
	}
	return c
}

// reach notes how far the member is, for whoever only wants to know whether it is worth asking for more.
func (s *stateMachine) reach(index uint64) {
	if index > s.reached.Load() {
		s.reached.Store(index)
	}
}

// contradicts says why a leader's request must not reach Raft, nil when it may.
func (g *guard) contradicts(rpc raft.RPC) error {
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if len(req.Entries) == 0 || req.Entries[0].Index > g.reached() {
			return nil // nothing of it can be applied here already
		}
		return g.compare(req.RPCHeader, req.Term, func(c *committed) *Contradiction {
			for _, e := range req.Entries {
				if own, yes := c.refutes(e.Index, e.Term); yes {
					return &Contradiction{Index: e.Index, Theirs: e.Term, Own: own}
				}
			}
			return nil
		})
	case *raft.InstallSnapshotRequest:
		var p payload
		if m, ok := rpc.Reader.(openedMarker); ok {
			p, _ = decodePayload(m.payload) // who stores it refuses what can not be read
		}
		if own := g.founding(); own != 0 && p.founding != 0 && own != p.founding {
			return nil // another log altogether: refused as such
		}
		return g.compare(req.RPCHeader, req.Term, func(c *committed) *Contradiction {
			own, theirs, at, yes := c.refutesHistory(req.LastLogIndex, req.LastLogTerm, p.terms)
			if !yes {
				return nil
			}
			return &Contradiction{Index: at, Theirs: theirs, Own: own}
		})
	}
	return nil
}

// unmatched looks at the entry before those of a request that Raft refused: a leader takes it for one that this member may have. Raft
// changes nothing for such a request, so that it is early enough afterwards.
func (g *guard) unmatched(req *raft.AppendEntriesRequest, r raft.RPCResponse) error {
	resp, ok := r.Response.(*raft.AppendEntriesResponse)
	if !ok || r.Error != nil || resp.Success || resp.Term != req.Term || req.PrevLogEntry == 0 || req.PrevLogEntry > g.reached() {
		return nil
	}
	return g.compare(req.RPCHeader, req.Term, func(c *committed) *Contradiction {
		own, yes := c.refutes(req.PrevLogEntry, req.PrevLogTerm)
		if !yes {
			return nil
		}
		return &Contradiction{Index: req.PrevLogEntry, Theirs: req.PrevLogTerm, Own: own}
	})
}

// compare holds a leader's request against what is committed. A leader of an earlier term than this member has seen, or than the
// last entry it has applied, proves nothing: what it lacks may have been committed after it.
func (g *guard) compare(from raft.RPCHeader, term uint64, find func(*committed) *Contradiction) error {
	c := g.committed() // first: what is committed by then is of no later term than the one that is read next
	if term < max(g.term(), c.newest) {
		return nil
	}
	found := find(&c)
	if found == nil {
		return nil
	}
	found.Leader, found.Office, found.Applied = raft.ServerID(from.ID), term, c.through
	now := g.now()
	g.mu.Lock()
	tell := g.told.IsZero() || now.Sub(g.told) >= toldAgain
	if tell {
		g.told = now
	}
	g.mu.Unlock()
	if tell {
		g.contradicted(*found)
	}
	return fmt.Errorf("%w: %s", ErrLostCommits, found)
}

// openedMarker is a marker on its way to Raft, the payload of which was read already.
type openedMarker struct {
	io.Reader
	payload []byte
}

// openMarker reads the payload of a marker that arrives, so that it can be looked at, and given to Raft all the same.
func openMarker(rpc *raft.RPC) error {
	req, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if !ok || rpc.Reader == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(rpc.Reader, maxMarkerBytes+1))
	if err != nil {
		return fmt.Errorf("marker at %d: %w", req.LastLogIndex, err)
	}
	// What is too long is refused by whoever stores it.
	rpc.Reader = openedMarker{Reader: io.MultiReader(bytes.NewReader(b), rpc.Reader), payload: b}
	return nil
}

// contradicts reports whether what two members have applied can not come from one log, and where that shows.
func (s *MemberSurvey) contradicts(o *MemberSurvey) (at uint64, yes bool) {
	at = min(s.Applied, o.Applied)
	least, most := s.committed().bounds(at)
	otherLeast, otherMost := o.committed().bounds(at)
	return at, at > 0 && (most < otherLeast || otherMost < least)
}

func (s *MemberSurvey) committed() *committed {
	return &committed{through: s.Applied, terms: s.terms(), termOf: func(uint64) (uint64, bool) { return 0, false }}
}
