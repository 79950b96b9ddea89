package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/adamantdb/adamant/config"
)

// plan is one run: a cluster, its clients and what befalls them. It is made from a seed and is plain data, so that it can be
// printed, kept, and cut down.
type plan struct {
	Seed      uint64             `json:"seed"`
	Hosts     []string           `json:"hosts"`
	Voters    [][]string         `json:"voters"`  // of each partition
	Clients   int                `json:"clients"` // each does one thing at a time
	Documents int                `json:"documents"`
	Lasts     time.Duration      `json:"lasts"` // how long the faults go on, in nanoseconds
	Busy      bool               `json:"busy"`  // clients go on while the cluster heals
	Rates     map[string]float64 `json:"rates"` // of the hosts' clocks
	Wild      bool               `json:"wild"`  // clocks differ by more than Timing.ClockDrift: lease reads prove nothing
	Delay     time.Duration      `json:"delay"`
	Fsync     time.Duration      `json:"fsync"`           // how long each takes; only with -slow
	Files     bool               `json:"files,omitempty"` // hosts follow cluster files, and are not given configurations
	Steps     []step             `json:"steps"`

	Beyond bool `json:"beyond,omitempty"` // more is lost than is survived: safe mode is what is expected

	// Of plans of hours only.
	Heartbeat time.Duration `json:"heartbeat,omitempty"` // Timing.Heartbeat
	Scrub     time.Duration `json:"scrub,omitempty"`     // in which everything is read once
	Bursts    []burst       `json:"bursts,omitempty"`    // when clients write
	Trickle   time.Duration `json:"trickle,omitempty"`   // the mean pause of each client in between, if it does anything
}

// step is one fault. It undoes itself, so that any step can be left out.
type step struct {
	At    time.Duration `json:"at"`
	For   time.Duration `json:"for"`
	Kind  string        `json:"kind"`
	Hosts []string      `json:"hosts,omitempty"`
	N     int           `json:"n,omitempty"` // percent kept, a partition, a number of bytes: by kind
	// Voters are those that partition N gets; the first is preferred.
	Voters []string `json:"voters,omitempty"`
	// Victim is who heals from the hosts: its disk is lost first, or, with Missed, it is away while others write.
	Victim string `json:"victim,omitempty"`
	Missed bool   `json:"missed,omitempty"`
}

func (s step) String() string {
	text := fmt.Sprintf("%s %s for %s (%d)", s.Kind, strings.Join(s.Hosts, ","), s.For, s.N)
	if s.Victim != "" {
		text += fmt.Sprintf(": %s heals (it missed something: %t)", s.Victim, s.Missed)
	}
	if s.Voters != nil {
		text += fmt.Sprintf(": voters %v", s.Voters)
	}
	return text
}

// The kinds of steps. Each names the hosts it concerns.
const (
	crash    = "crash"    // hosts lose power, and come back after For, one after the other; N percent of what was not synced stays
	restart  = "restart"  // a host is closed, and opened again after For
	split    = "split"    // the hosts and the rest can't reach each other
	oneWay   = "one-way"  // nothing gets from the first host to the second
	flap     = "flap"     // the host is cut off and back, many times
	slow     = "slow"     // links of the host pass N bytes a second
	lossy    = "lossy"    // every link loses N percent, and repeats and reorders some
	freeze   = "freeze"   // what is on its way to and from the host waits
	wipe     = "wipe"     // the host's disk is lost, once the cluster has nothing to heal
	transfer = "transfer" // leaderships go to the host
	members  = "members"  // partition N gets other voters; the hosts named learn it For later than the others
	badFile  = "bad-file" // the hosts are given configurations that they must refuse
	failSync = "fail-sync"
	failIO   = "fail-write"
	full     = "full"
	failOpen = "fail-open" // the host is restarted, and a read, a write, an fsync or everything written fails while it opens (N)
	jump     = "jump"      // the host's clock goes forward by N ms

	failRead  = "fail-read"   // one read of stored data fails
	slowDisk  = "slow-disk"   // each fsync takes N ms; only with -slow
	flip      = "flip"        // N bits of the host's files are inverted while it is off; of its tables, while it runs, with N < 0
	restore   = "restore"     // the host's directory is replaced by the copy of it that was made when the plan began
	badSource = "bad-source"  // what one of the hosts answers to the victim's repair is cut short, repeated, refused, or false, N times in ten
	dying     = "source-dies" // one of the hosts loses power with its N-th listing or documents for the victim
	deposed   = "source-led"  // leaderships move from it, or to it, with such an answer
	stranger  = "stranger"    // calls of another version, and garbage, come to the host in the name of another one
	version   = "version"     // the host's program is one of another version for For: of links (N 0), of repair (1), of what hosts report (2)
	staleFile = "stale-file"  // the host is closed and opened again with the first configuration that there was
)

// weights say how often each kind is chosen.
var weights = []struct {
	kind string
	n    int
}{{crash, 6}, {restart, 3}, {split, 6}, {oneWay, 4}, {flap, 2}, {slow, 2}, {lossy, 3}, {freeze, 4}, {wipe, 2}, {transfer, 4},
	{members, 6}, {badFile, 1}, {failSync, 2}, {failIO, 2}, {full, 2}, {failOpen, 2}, {jump, 3},
	{failRead, 3}, {slowDisk, 4}, {flip, 2}, {restore, 1}, {badSource, 5}, {dying, 2}, {deposed, 2}, {stranger, 1}, {staleFile, 1}, {version, 2}}

// newPlan is the plan of a seed.
func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0xada))
	p := newBase(seed, r, []int{3, 4, 5, 5})
	voters := slices.Clone(p.Voters)
	gap := time.Duration(300+r.IntN(2000)) * time.Millisecond
	for at := 500 * time.Millisecond; at < p.Lasts; at += time.Duration(r.Int64N(2*gap.Milliseconds())) * time.Millisecond {
		p.Steps = append(p.Steps, p.nextStep(r, voters, at))
	}
	return p
}

// newBase chooses everything but the steps. One of the numbers of hosts is taken.
func newBase(seed uint64, r *rand.Rand, hosts []int) plan {
	p := plan{Seed: seed, Clients: 3 + r.IntN(3), Documents: 4 + r.IntN(4), Lasts: time.Duration(6+r.IntN(10)) * time.Second,
		Busy: r.IntN(2) == 0, Rates: map[string]float64{}, Delay: time.Duration(1+r.IntN(8)) * time.Millisecond}
	p.Files = r.IntN(4) == 0
	p.Fsync = time.Duration(r.IntN(4000)) * time.Microsecond
	p.shape(r, hosts[r.IntN(len(hosts))])
	for _, h := range p.Hosts {
		p.Rates[h] = 1 + (r.Float64()-0.5)*0.04 // two of them differ by less than the drift of 5 %
	}
	if p.Wild = r.IntN(8) == 0; p.Wild {
		for _, h := range p.Hosts {
			p.Rates[h] = 0.5 + 1.5*r.Float64()
		}
	}
	return p
}

// nextStep chooses a fault, by its weight. voters are those that the partitions have by then.
func (p *plan) nextStep(r *rand.Rand, voters [][]string, at time.Duration) step {
	total := 0
	for _, w := range weights {
		total += w.n
	}
	k, kind := r.IntN(total), ""
	for _, w := range weights {
		if k -= w.n; k < 0 {
			kind = w.kind
			break
		}
	}
	if kind == jump && !p.Wild {
		kind = freeze // no promise survives a clock that is stepped
	}
	s := p.newStep(r, kind, at)
	if kind == members {
		voters[s.N] = p.replaceOne(r, voters[s.N])
		s.Voters = voters[s.N]
	}
	return s
}

// shape chooses hosts and partitions.
func (p *plan) shape(r *rand.Rand, hosts int) {
	for i := range hosts {
		p.Hosts = append(p.Hosts, fmt.Sprintf("h%d", i+1))
	}
	for range 1 + r.IntN(2) {
		voters := 3
		if hosts == 5 && r.IntN(4) == 0 {
			voters = 5
		}
		var v []string
		for _, i := range r.Perm(hosts)[:voters] {
			v = append(v, p.Hosts[i])
		}
		p.Voters = append(p.Voters, v)
	}
}

// replaceOne replaces a voter by another host, if there is one, and prefers another.
func (p *plan) replaceOne(r *rand.Rand, voters []string) []string {
	next := slices.Clone(voters)
	r.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
	var others []string
	for _, h := range p.Hosts {
		if !slices.Contains(next, h) {
			others = append(others, h)
		}
	}
	if len(others) > 0 {
		next[r.IntN(len(next))] = others[r.IntN(len(others))]
	}
	return next
}

// newStep chooses whom it concerns and how long it lasts.
func (p *plan) newStep(r *rand.Rand, kind string, at time.Duration) step {
	s := step{At: at, Kind: kind, For: time.Duration(50+r.IntN(3000)) * time.Millisecond}
	order := r.Perm(len(p.Hosts))
	pick := func(n int) {
		for _, i := range order[:n] {
			s.Hosts = append(s.Hosts, p.Hosts[i])
		}
		slices.Sort(s.Hosts)
	}
	switch kind {
	case crash:
		s.N = []int{0, 0, 50, 90}[r.IntN(4)]
		pick([]int{1, 1, 1, 2, len(p.Hosts)}[r.IntN(5)])
	case split:
		pick(1 + r.IntN(len(p.Hosts)-1))
	case oneWay:
		s.Hosts = []string{p.Hosts[order[0]], p.Hosts[order[1]]}
	case slow:
		s.N = 2000 << r.IntN(5)
		pick(1)
	case lossy:
		s.N = 1 + r.IntN(25)
	case members:
		s.N = r.IntN(len(p.Voters))
		pick(r.IntN(len(p.Hosts)))
	case badFile:
		pick(1 + r.IntN(len(p.Hosts)))
	case failOpen:
		s.N = r.IntN(16) // which fault, and whose file
		pick(1)
	case failSync, failIO, full:
		s.N = r.IntN(5) // see places
		pick(1)
	case slowDisk:
		s.N = 5 << r.IntN(8)
		pick(1)
	case flip:
		s.N = []int{1, 1, 3, 20, -3, -20}[r.IntN(6)]
		pick(1)
	case badSource, dying, deposed:
		s.N = 3 + r.IntN(8)
		if kind != badSource {
			s.N = 1 + r.IntN(3)
		}
		p.pickSources(r, &s)
	case version:
		s.N = r.IntN(3)
		pick(1)
	case jump:
		s.N = 100 + r.IntN(3000)
		pick(1)
	default:
		pick(1)
	}
	return s
}

// pickSources chooses who heals, and from whom it does so badly: one voter, or whoever answers first.
func (p *plan) pickSources(r *rand.Rand, s *step) {
	voters := p.Voters[r.IntN(len(p.Voters))]
	order := r.Perm(len(voters))
	s.Victim, s.Missed = voters[order[0]], r.IntN(3) == 0
	if r.IntN(2) == 0 {
		s.Hosts = []string{voters[order[1]]}
		return
	}
	s.Hosts = slices.DeleteFunc(slices.Clone(p.Hosts), func(h string) bool { return h == s.Victim })
}

// without leaves a step out.
func (p plan) without(i int) plan {
	p.Steps = slices.Delete(slices.Clone(p.Steps), i, i+1)
	return p
}

func (p plan) json() string {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		panic(err) // plain data
	}
	return string(b)
}

// cluster is the first configuration.
func (p plan) cluster() *config.Cluster {
	c := &config.Cluster{Name: "sim", Version: 1, Hosts: map[string]config.Host{}}
	for i, h := range p.Hosts {
		c.Hosts[h] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
	}
	width := ^uint64(0)/uint64(len(p.Voters)) + 1 // 0 for a single partition
	for i, v := range p.Voters {
		c.Partitions = append(c.Partitions, config.Partition{ID: uint32(i), From: uint64(i) * width, Voters: slices.Clone(v), Prefer: v[0]})
	}
	return c
}
