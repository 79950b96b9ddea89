package partition

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/hashicorp/raft"
)

// A group that an operator recovered (recover.go) has a new founding, and remembers those it had before. Members that were
// left out may come back, with a configuration that lists the others under their present server ids. Whatever such a member
// sends must not reach Raft here, nor the other way round: its log is another one.

// lineage is the founding of a group that was recovered, and what it was before. Never changed once published.
type lineage struct {
	founding uint64
	former   []uint64
	mark     []byte
}

// ErrSuperseded: a request comes from a member of another founding than this one's, one of which was recovered.
var ErrSuperseded = errors.New("the sender belongs to another founding of the partition, from before it was recovered or after")

// foundingMark follows the sender's address in the requests of a group that was recovered, and is followed by its founding in
// 16 hex digits.
var foundingMark = []byte(" founding ")

const foundingDigits = 16

func newLineage(founding uint64, former []uint64) *lineage {
	return &lineage{founding: founding, former: slices.Clone(former), mark: fmt.Appendf(slices.Clone(foundingMark), "%0*x", foundingDigits, founding)}
}

// cutMark takes the mark out of an address that arrived.
func cutMark(addr []byte) (rest []byte, founding uint64, marked bool) {
	at := bytes.LastIndex(addr, foundingMark)
	digits := at + len(foundingMark)
	if at < 0 || len(addr) < digits+foundingDigits {
		return addr, 0, false
	}
	founding, err := strconv.ParseUint(string(addr[digits:digits+foundingDigits]), 16, 64)
	if err != nil {
		return addr, 0, false
	}
	return slices.Concat(addr[:at], addr[digits+foundingDigits:]), founding, true
}

// mark adds the group's mark to an address, if the group was recovered.
func (g *guard) mark(addr []byte) []byte {
	if g.origin == nil {
		return addr
	}
	l := g.origin.Load()
	if l == nil {
		return addr
	}
	return slices.Concat(addr, l.mark)
}

// fence refuses a request of another founding where one of the two was recovered. A member of a recovered group always knows
// its founding, so that it takes nothing that does not name it; one that does not know any may be about to join.
func (g *guard) fence(command any) error {
	if g.origin == nil {
		return nil
	}
	h := rpcHeader(command)
	if h == nil {
		return nil
	}
	rest, founding, marked := cutMark(h.Addr)
	if marked {
		h.Addr = rest
	}
	own := g.origin.Load()
	switch {
	case own != nil && (!marked || founding != own.founding):
		return ErrSuperseded
	case own == nil && marked:
		if known := g.founding(); known != 0 && known != founding {
			return ErrSuperseded
		}
	}
	return nil
}

func rpcHeader(command any) *raft.RPCHeader {
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		return &r.RPCHeader
	case *raft.RequestVoteRequest:
		return &r.RPCHeader
	case *raft.RequestPreVoteRequest:
		return &r.RPCHeader
	case *raft.InstallSnapshotRequest:
		return &r.RPCHeader
	case *raft.TimeoutNowRequest:
		return &r.RPCHeader
	}
	return nil
}

// payload is what a marker made now carries. The caller holds mu.
func (s *stateMachine) payload() payload {
	p := payload{founding: s.founding, terms: s.terms}
	if l := s.lineage.Load(); l != nil {
		p.former = l.former
	}
	return p
}

// descend takes over from a marker of this founding where the group comes from. The caller holds mu, or nobody else runs.
func (s *stateMachine) descend(p payload) {
	if len(p.former) > 0 {
		s.lineage.Store(newLineage(p.founding, p.former))
	}
}

// Recovered reports whether an operator recovered the group.
func (p *Partition) Recovered() bool { return p.fsm.lineage.Load() != nil }

// Supersedes reports whether a founding is one that the group had before it was recovered: its members are out for good.
func (p *Partition) Supersedes(founding uint64) bool {
	l := p.fsm.lineage.Load()
	return l != nil && slices.Contains(l.former, founding)
}

// Shares reports whether a member that reports a founding, 0 when it knows none, may be taken to hold documents of this group.
func (p *Partition) Shares(founding uint64) bool {
	if own := p.Founding(); own == founding || own == 0 || founding == 0 && !p.Recovered() {
		return true
	}
	return false
}
