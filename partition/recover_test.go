package partition

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// surveyed is a member whose log is of the terms given, as pairs of term and last index.
func surveyed(id string, applied uint64, holes Spans, terms ...uint64) MemberSurvey {
	s := MemberSurvey{ID: id, Founding: 7, Applied: applied, Holes: holes, Voters: []string{"h1@1", "h2@1", "h3@1", "h4@1", "h5@1"}}
	for i := 0; i < len(terms); i += 2 {
		s.Terms = append(s.Terms, TermSpan{Term: terms[i], First: s.Last + 1, Last: terms[i+1]})
		s.LastTerm, s.Last = terms[i], terms[i+1]
	}
	s.Term = s.LastTerm
	return s
}

func TestPlanRecovery(t *testing.T) {
	ahead := surveyed("h1@1", 10, nil, 2, 10)
	ahead.Ahead = 14
	replica := surveyed("h3@1", 10, nil, 2, 10)
	replica.Voters, replica.Replicas = []string{"h1@1", "h2@1"}, []string{"h3@1"}
	for _, c := range []struct {
		name    string
		surveys []MemberSurvey
		known   uint64
		base    uint64
		through []uint64
		lost    string
		unsure  string
	}{
		{"one, all applied", []MemberSurvey{surveyed("h1@1", 10, nil, 2, 10)}, 0, 10, []uint64{10}, "none", "none"},
		{"its log is kept", []MemberSurvey{surveyed("h1@1", 7, nil, 2, 10)}, 0, 10, []uint64{10}, "none", "[8,10]"},
		{"others knew more", []MemberSurvey{surveyed("h1@1", 10, nil, 2, 10)}, 15, 15, []uint64{10}, "[11,15]", "none"},
		{"others had committed it", []MemberSurvey{surveyed("h1@1", 7, nil, 2, 10)}, 9, 10, []uint64{10}, "none", "[10,10]"},
		{"it has pulled from who was ahead", []MemberSurvey{ahead}, 0, 14, []uint64{10}, "[11,14]", "none"},
		{"a replica is left", []MemberSurvey{replica}, 0, 10, []uint64{10}, "none", "none"},
		{"each lacks what the other has", []MemberSurvey{surveyed("h1@1", 20, Spans{{5, 8}}, 2, 20), surveyed("h2@1", 18, Spans{{11, 12}}, 2, 18)}, 0, 20,
			[]uint64{20, 18}, "none", "none"},
		{"both lack a part", []MemberSurvey{surveyed("h1@1", 20, Spans{{5, 8}}, 2, 20), surveyed("h2@1", 20, Spans{{7, 12}}, 2, 20)}, 0, 20,
			[]uint64{20, 20}, "[7,8]", "none"},
		{"the longer log is of an older term", []MemberSurvey{surveyed("h1@1", 4, nil, 2, 6, 3, 9), surveyed("h2@1", 4, nil, 2, 15)}, 0, 9,
			[]uint64{9, 6}, "none", "[5,9]"},
		{"the log of the other has an end of its own", []MemberSurvey{surveyed("h1@1", 4, nil, 2, 6, 5, 9), surveyed("h2@1", 5, nil, 2, 6, 4, 8)}, 0, 9,
			[]uint64{9, 6}, "none", "[6,9]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := PlanRecovery(c.surveys, c.known, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			var through []uint64
			for _, m := range r.Members {
				through = append(through, m.Through)
			}
			if r.Base != c.base || !slices.Equal(through, c.through) || r.Lost.String() != c.lost || r.Uncertain.String() != c.unsure {
				t.Errorf("base %d, through %v, lost %s, uncertain %s", r.Base, through, r.Lost, r.Uncertain)
			}
			if m := r.marker(); m.Index != r.Base+uint64(len(r.Members)) || m.Term != r.Term || r.Term <= 5+termJump-5 || len(r.Voters) == 0 {
				t.Errorf("%+v, marker %+v", r, m)
			}
		})
	}
}

func TestPlanRecoveryRefuses(t *testing.T) {
	other, unknown := surveyed("h2@1", 10, nil, 2, 10), surveyed("h2@1", 10, nil, 2, 10)
	other.Founding, unknown.Founding = 8, 0
	h1 := surveyed("h1@1", 10, nil, 2, 10)
	for want, list := range map[string][]MemberSurvey{
		"nobody survives": nil,
		"is of partition": {h1, other},
		"holds nothing":   {h1, unknown},
		"surveyed twice":  {h1, h1},
	} {
		if _, err := PlanRecovery(list, 0, 0, 9); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestRecoverMembers of real storage: entries that the best log does not confirm are dropped, those it confirms are applied, the one
// marker is everywhere, and a second time changes nothing.
func TestRecoverMembers(t *testing.T) {
	best, _ := filled(t, 10, 4)
	short, _ := filled(t, 8, 2)
	short.id = "h2@1"
	must(t, short.log.DeleteRange(7, 8)) // 7 and 8 are of a leader that nobody followed
	k := key("never")
	c := command{EvalTerm: 1, Proposal: 1, Mutation: store.Mutation{Kind: store.Create, Key: k, Deltas: []store.Delta{delta(1, "{}")}, HeadSeq: 1,
		Chain: store.SeedChain(k).Next(func() []byte { d := delta(1, "{}"); return d.AppendBinary(nil) }())}}
	must(t, short.log.StoreLogs([]*raft.Log{{Index: 7, Term: 1, Type: raft.LogCommand, Data: c.encode()}}))
	nodes := []*node{best, short}
	var surveys []MemberSurvey
	for _, nd := range nodes {
		s, err := Survey(0, nd.id, nd.log, nd.docs)
		must(t, err)
		s.Founding, s.Voters = 7, []string{"h1@1", "h2@1", "h3@1", "h4@1", "h5@1"}
		s.LastTerm = s.Terms[len(s.Terms)-1].Term
		surveys = append(surveys, s)
	}
	r, err := PlanRecovery(surveys, 12, 0, 1000)
	must(t, err)
	remembered := 0
	for round := range 2 {
		for _, nd := range nodes {
			must(t, r.Recover(nd.id, nd.log, nd.docs, func() error { remembered++; return nil }))
			m, ok, err := nd.log.Marker()
			must(t, err)
			last, _ := nd.log.LastIndex()
			term, err := currentTerm(nd.log)
			must(t, err)
			if !ok || m.Index != 14 || m.Term != r.Term || last != 0 || term != r.Term {
				t.Fatalf("%s, round %d: marker %+v, the log ends at %d in term %d", nd.id, round, m, last, term)
			}
		}
	}
	if got := best.docs.Status(); got.Holes.String() != "[11,12] [14,14]" || got.Applied != 14 || best.head("d10") != 1 || remembered != 2 {
		t.Errorf("best: %+v, holes %s", got, got.Holes)
	}
	if got := short.docs.Status(); got.Holes.String() != "[7,13]" || short.head("d6") != 1 || short.head("never") != -1 {
		t.Errorf("short: %+v, holes %s", got, got.Holes)
	}
	if r.Lost.String() != "[11,12]" {
		t.Errorf("lost %s", r.Lost)
	}
	best.open(nil)
	if p := best.part; p.Founding() != uint64(r.Founding) || !p.Recovered() || !p.Supersedes(7) || p.Supersedes(8) || p.Shares(7) || p.Shares(0) || !p.Shares(p.Founding()) {
		t.Errorf("founding %016x, the plan says %s", p.Founding(), r.Founding)
	}
	stranger := raft.ServerID("h9@1")
	if err := r.Recover(stranger, short.log, short.docs, nil); err == nil {
		t.Error("a member that takes no part is recovered")
	}
}

// TestRecoveredGroupKeepsOthersOut: every request of a recovered group names its founding, and none without it, or with another one,
// reaches Raft. Other groups look at marks only to refuse them.
func TestRecoveredGroupKeepsOthersOut(t *testing.T) {
	guardOf := func(founding uint64, l *lineage) *guard {
		g := &guard{self: "h1@1", origin: new(atomic.Pointer[lineage]), founding: func() uint64 { return founding }}
		if l != nil {
			g.origin.Store(l)
		}
		return g
	}
	recovered := guardOf(9, newLineage(9, []uint64{7}))
	again := guardOf(11, newLineage(11, []uint64{7, 9}))
	old, young := guardOf(7, nil), guardOf(0, nil)
	for _, c := range []struct {
		name     string
		from, to *guard
		refused  bool
	}{
		{"within the group", recovered, recovered, false},
		{"from before", old, recovered, true},
		{"from who knows no founding", young, recovered, true},
		{"from a later recovery", again, recovered, true},
		{"from an earlier recovery", recovered, again, true},
		{"back to the old group", recovered, old, true},
		{"to who is about to join", recovered, young, false},
		{"within the old group", old, old, false},
	} {
		h := c.from.header()
		for _, command := range []any{&raft.AppendEntriesRequest{RPCHeader: h}, &raft.RequestPreVoteRequest{RPCHeader: h}, &raft.InstallSnapshotRequest{RPCHeader: h},
			&raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: h.ID, Addr: slices.Concat(h.Addr, offeredMark)}},
			&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ID: h.ID, Addr: c.from.mark([]byte{0, 0, 0, 0, 0, 0, 0, 5})}}} {
			if err := c.to.fence(command); errors.Is(err, ErrSuperseded) != c.refused {
				t.Errorf("%s: %T: %v", c.name, command, err)
			}
			if c.refused {
				continue
			}
			switch r := command.(type) {
			case *raft.RequestVoteRequest:
				if !takeMark(r) || string(r.Addr) != "h1@1" {
					t.Errorf("%s: vote from %q", c.name, r.Addr)
				}
			case *raft.TimeoutNowRequest:
				if term, ok := offerTerm(r); !ok || term != 5 {
					t.Errorf("%s: offer of term %d, %v", c.name, term, ok)
				}
			default:
				if got := rpcHeader(command).Addr; string(got) != "h1@1" {
					t.Errorf("%s: %T from %q", c.name, command, got)
				}
			}
		}
	}
	if rest, _, marked := cutMark([]byte("h1@1 founding 12")); marked || string(rest) != "h1@1 founding 12" {
		t.Errorf("%q is taken for a mark", rest)
	}
}

func TestPayloadOfRecoveredGroup(t *testing.T) {
	p := payload{founding: 9, former: []uint64{7, 8}, terms: terms{{1, 2, 9}}}
	back, err := decodePayload(p.encode())
	if err != nil || fmt.Sprint(back) != fmt.Sprint(p) {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []payload{{founding: 9, former: []uint64{9}}, {founding: 9, former: []uint64{0}}, {founding: 9, former: make([]uint64, maxFormer+1)}} {
		if _, err := decodePayload(bad.encode()); err == nil {
			t.Errorf("%v is taken", bad.former)
		}
	}
	if p := (payload{founding: 9}).encode(); p[0] != payloadVersion {
		t.Errorf("a group that was never recovered has a payload of version %d", p[0])
	}
	var f Founding
	if err := f.UnmarshalText([]byte("00000000000000ff")); err != nil || f != 255 || f.String() != "00000000000000ff" {
		t.Errorf("%s, %v", f, err)
	}
}

// FuzzFounding: a founding is what its text says, and no text says two.
func FuzzFounding(f *testing.F) {
	for _, text := range []string{"00000000000000ff", "ff", "0x000000000000ff", "00000000000000ff ", "00000000000000FF", ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Founding
		if got.UnmarshalText(b) != nil {
			if got != 0 {
				t.Fatalf("%q is refused and is %s", b, got)
			}
			return
		}
		if text, err := got.MarshalText(); err != nil || !bytes.Equal(text, b) {
			t.Fatalf("%q became %q, %v", b, text, err)
		}
	})
}

// FuzzCutMark: the founding that a request names in its sender's address, behind which other marks may stand.
func FuzzCutMark(f *testing.F) {
	mark := newLineage(0x12, nil).mark
	f.Add([]byte("h1@1"), []byte(""))
	f.Add([]byte("h1@1"), []byte(" 7"))
	f.Add(append([]byte("h1@1"), mark...), mark)
	f.Add([]byte("h1@1 founding 00000000000000"), []byte("zz"))
	f.Fuzz(func(t *testing.T, addr, behind []byte) {
		if rest, _, marked := cutMark(addr); !marked && !bytes.Equal(rest, addr) || marked && len(rest) != len(addr)-len(mark) {
			t.Fatalf("%q became %q, %v", addr, rest, marked)
		}
		if bytes.Contains(append(mark[1:len(mark):len(mark)], behind...), foundingMark) {
			return // the last one counts
		}
		rest, founding, marked := cutMark(slices.Concat(addr, mark, behind))
		if !marked || founding != 0x12 || !bytes.Equal(rest, slices.Concat(addr, behind)) {
			t.Fatalf("%q with a mark before %q became %q, founding %x, %v", addr, behind, rest, founding, marked)
		}
	})
}
