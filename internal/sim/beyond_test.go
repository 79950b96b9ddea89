package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var beyondSeeds = flag.Int("beyond", 0, "how many seeds TestBeyond runs, from -seed on; 0: those of the ordinary run")

// How many seeds the ordinary run takes, and how many with -short or the race detector.
const (
	ordinaryBeyond = 60
	shortBeyond    = 12
)

// beyondPlan is a run beyond what the design promises to survive: the disks of a majority of the first partition's voters are lost,
// or come back as old copies, at the same moment.
type beyondPlan struct {
	plan  `json:"cluster"`
	Hurt  []string      `json:"hurt"`
	Wiped []string      `json:"wiped,omitempty"` // of these; the others get old copies
	Away  []string      `json:"away,omitempty"`  // voters that hold everything, and are not there when those come back
	Cut   bool          `json:"cut,omitempty"`   // they are up, and nobody reaches them
	Late  time.Duration `json:"late,omitempty"`  // until they are back, 0: they never are
	Kept  int           `json:"kept"`            // writes before the copies are made
	Lost  int           `json:"lost"`            // between then and the loss
	More  int           `json:"more"`            // after it, before everybody is back
	Moves bool          `json:"moves,omitempty"` // leaderships move before the loss
	Busy  bool          `json:"busy,omitempty"`  // clients write while they come back
	Crash int           `json:"crash,omitempty"` // rounds of crashes after that; in the last one of all hosts
	Out   string        `json:"out,omitempty"`   // what the operator does about two histories
}

// What an operator can do.
const (
	keepOld = "recover" // what was acknowledged before the loss is kept
	keepNew = "empty"   // what was acknowledged after it is
)

func newBeyond(seed uint64) beyondPlan {
	r := rand.New(rand.NewPCG(seed, 0xbe))
	p := beyondPlan{plan: plan{Seed: seed, Documents: 2 + r.IntN(5), Delay: time.Duration(1+r.IntN(5)) * time.Millisecond, Beyond: true},
		Kept: r.IntN(8), Lost: 2 + r.IntN(40), More: []int{0, 0, 1, 3, 20, 60}[r.IntN(6)], Moves: r.IntN(4) == 0, Busy: r.IntN(3) == 0,
		Crash: r.IntN(3), Out: []string{"", keepOld, keepNew}[r.IntN(3)]}
	hosts := []int{3, 3, 5}[r.IntN(3)]
	for i := range hosts {
		p.Hosts = append(p.Hosts, fmt.Sprintf("h%d", i+1))
	}
	voters := slices.Clone(p.Hosts)
	if hosts == 5 && r.IntN(2) == 0 { // another partition that keeps its majority
		voters = voters[:3]
		p.Voters = [][]string{voters, p.Hosts[2:]}
		p.Hurt = voters[:2]
	} else {
		p.Voters = [][]string{voters}
		for _, i := range r.Perm(hosts)[:hosts/2+1] {
			p.Hurt = append(p.Hurt, p.Hosts[i])
		}
		slices.Sort(p.Hurt)
	}
	switch r.IntN(6) {
	case 0:
		p.Wiped = p.Hurt
	case 1:
		p.Wiped = p.Hurt[:1+r.IntN(len(p.Hurt)-1)]
	}
	if r.IntN(5) > 0 {
		p.Away = p.witnesses()
		p.Cut = r.IntN(3) == 0
		if r.IntN(8) > 0 {
			p.Late = time.Duration(2000+r.IntN(15000)) * time.Millisecond
		}
	}
	return p
}

// witnesses are the voters of the first partition that lose nothing.
func (p beyondPlan) witnesses() []string {
	return slices.DeleteFunc(slices.Clone(p.Voters[0]), func(h string) bool { return slices.Contains(p.Hurt, h) })
}

func (p beyondPlan) json() string {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		panic(err) // plain data
	}
	return string(b)
}

// TestBeyond: where more is lost than the design survives, the answer is safe mode and clear errors, never wrong data (design §10):
// once somebody is there who holds what was acknowledged, nobody serves anything less; no member's documents mix two histories, what
// no quorum lost is served, and an operator can choose either history.
func TestBeyond(t *testing.T) {
	n := ordinaryBeyond
	switch {
	case *firstSeed != 0 && *beyondSeeds == 0:
		n = 1
	case *beyondSeeds != 0:
		n = *beyondSeeds
	case raceDetector || testing.Short():
		n = shortBeyond
	}
	var lost, safe, out atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d seeds: %d lost what was acknowledged, %d of these in safe mode, %d brought back", n, lost.Load(), safe.Load(), out.Load())
		if n == ordinaryBeyond && !t.Failed() && (lost.Load() < ordinaryBeyond/4 || safe.Load() < ordinaryBeyond/4 || out.Load() < ordinaryBeyond/8) {
			t.Error("too few of the plans do what they are for")
		}
	})
	for seed := max(*firstSeed, 1); seed < max(*firstSeed, 1)+uint64(n); seed++ {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			t.Parallel()
			b := runBeyond(t, newBeyond(seed))
			for _, c := range []struct {
				is bool
				n  *atomic.Int64
			}{{b.lost[0], &lost}, {b.safe, &safe}, {b.out, &out}} {
				if c.is {
					c.n.Add(1)
				}
			}
		})
	}
}

// TestBeyondThirdComesLater: two of three are old copies, and the third, which holds what was acknowledged since, comes back later: before
// the others have written anything, and when their log is still shorter, and longer, than its own. Without the guard the leader went
// on serving, the third followed it, and documents differed at equal seq.
func TestBeyondThirdComesLater(t *testing.T) {
	hosts := []string{"h1", "h2", "h3"}
	for _, more := range []int{0, 2, 60} {
		for _, cut := range []bool{false, true} {
			for _, out := range []string{keepOld, keepNew} {
				t.Run(fmt.Sprintf("%d-%t-%s", more, cut, out), func(t *testing.T) {
					p := beyondPlan{plan: plan{Seed: 1, Hosts: hosts, Voters: [][]string{hosts}, Delay: time.Millisecond, Documents: 2, Beyond: true},
						Hurt: hosts[:2], Away: hosts[2:], Cut: cut, Late: 10 * time.Second, Kept: 3, Lost: 30, More: more, Crash: 2, Out: out}
					if b := runBeyond(t, p); !b.lost[0] || !b.safe || !b.out {
						t.Errorf("lost %t, safe mode %t, brought back %t\n%s", b.lost[0], b.safe, b.out, b.timeline.String())
					}
				})
			}
		}
	}
}

// runBeyond runs a plan and reports what was wrong.
func runBeyond(t *testing.T, p beyondPlan) *beyond {
	var b *beyond
	var pulse atomic.Int64
	var shown atomic.Pointer[world]
	done := make(chan struct{})
	defer close(done)
	go watchdog(p.plan, &pulse, &shown, done)
	bubble(t, func() {
		b = &beyond{world: newWorld(p.plan, &pulse), p: p, acked: map[int][]wrote{}, lost: map[uint32]bool{}}
		shown.Store(b.world)
		b.play()
		if left := b.left(); len(left) > 0 {
			b.complain("goroutines are left:\n%s", strings.Join(left, "\n\n"))
		}
	})
	if wrong := b.wrongs(); len(wrong) > 0 {
		t.Errorf("seed %d failed; replay it with: go test ./internal/sim -run TestBeyond$ -seed %d\n%s\n\nplan:\n%s\n\nwrong:\n%s", p.Seed, p.Seed, b.timeline.String(), p.json(),
			strings.Join(wrong, "\n"))
	}
	return b
}
