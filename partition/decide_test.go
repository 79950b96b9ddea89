package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

func TestServingNeedsEverything(t *testing.T) {
	all := standing{leader: true, complete: true, barrier: true, lease: true}
	if r := all.serving(); r != Serves {
		t.Fatalf("a leader with everything: %v", r)
	}
	for _, c := range []struct {
		name   string
		change func(*standing)
		want   Refusal
	}{
		{"not leader", func(s *standing) { s.leader = false }, NotLeader},
		{"holes", func(s *standing) { s.complete = false }, Incomplete},
		{"no barrier", func(s *standing) { s.barrier = false }, NoBarrier},
		{"no lease", func(s *standing) { s.lease = false }, NoLease},
		{"safe mode", func(s *standing) { s.safeMode = true }, InSafeMode},
		{"handing over", func(s *standing) { s.handingOver = true }, HandingOver},
		{"failed", func(s *standing) { s.failed = true }, Failed},
	} {
		s := all
		c.change(&s)
		if got := s.serving(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLeaseCountsSendTimesOfVoters(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	voters := []raft.ServerID{"a", "b", "c"}
	var l lease
	if _, ok := l.majority(3, voters, "a", at(0), noBeats); ok {
		t.Fatal("a leader nobody acknowledged has a lease")
	}
	l.ack("replica", 3, at(90), 0) // a non-voter's word counts for nothing
	if _, ok := l.majority(3, voters, "a", at(100), noBeats); ok {
		t.Fatal("a non-voter's acknowledgement gave a lease")
	}
	l.ack("b", 3, at(10), 0)
	l.ack("b", 3, at(5), 0) // arrives late: an older send time changes nothing
	if got, ok := l.majority(3, voters, "a", at(100), noBeats); !ok || !got.Equal(at(10)) {
		t.Fatalf("majority since %v, %v", got, ok)
	}
	l.ack("c", 3, at(40), 0)
	if got, _ := l.majority(3, voters, "a", at(100), noBeats); !got.Equal(at(40)) {
		t.Fatalf("majority since %v", got.Sub(start))
	}
	five := []raft.ServerID{"a", "b", "c", "d", "e"}
	if got, _ := l.majority(3, five, "a", at(100), noBeats); !got.Equal(at(10)) {
		t.Fatalf("of five, the third newest counts: %v", got.Sub(start))
	}
	l.ack("b", 2, at(99), 0)
	if got, _ := l.majority(3, five, "a", at(100), noBeats); !got.Equal(at(10)) {
		t.Fatal("an acknowledgement of an older term counted")
	}
	if _, ok := l.majority(4, voters, "a", at(100), noBeats); ok {
		t.Fatal("acknowledgements of term 3 gave a lease in term 4")
	}
	if _, ok := l.majority(3, []raft.ServerID{"b", "c", "d"}, "a", at(100), noBeats); ok {
		t.Fatal("a leader outside of the voters has a lease")
	}
	l.ack("b", 4, at(150), 0)
	if _, ok := l.majority(4, voters, "a", at(160), noBeats); !ok {
		t.Fatal("no lease in the next term")
	}
}

func TestPromise(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var p promise
	p.extend("a", 3, at(0), 100*time.Millisecond)
	if !p.forbids("b", at(99)) || p.forbids("b", at(100)) {
		t.Fatal("the promise does not last exactly the lease")
	}
	if p.forbids("a", at(50)) {
		t.Fatal("the promise is against its own leader")
	}
	p.extend("a", 3, at(40), 100*time.Millisecond)
	p.extend("a", 3, at(20), 100*time.Millisecond) // processed late
	if !p.forbids("b", at(139)) {
		t.Fatal("an older request shortened the promise")
	}
	p.extend("x", 2, at(200), time.Second)
	if p.forbids("b", at(150)) {
		t.Fatal("a request of an older term extended the promise")
	}
	restarted := promise{until: at(100)}
	if !restarted.forbids("a", at(50)) {
		t.Fatal("a restarted voter does not know whom it promised: it must refuse everybody")
	}
}

// TestHarvestPoint checks the walk against its definition on random logs.
func TestHarvestPoint(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		// The group's log: terms by index, some entries are no-ops the state machine never saw.
		n := uint64(5 + r.IntN(30))
		leader := make([]uint64, n+1)
		var seen terms
		term := uint64(1)
		for i := uint64(1); i <= n; i++ {
			if r.IntN(5) == 0 {
				term += 1 + uint64(r.IntN(2))
			}
			leader[i] = term
			if r.IntN(4) > 0 {
				seen = seen.note(i, term)
			}
		}
		// The member's log: the same up to a point, then a stale suffix.
		same := uint64(r.IntN(int(n + 1)))
		last := same + uint64(r.IntN(4))
		termOf := func(i uint64) (uint64, bool) {
			switch {
			case i <= same:
				return leader[i], true
			case i <= last:
				return 100 + i, true
			}
			return 0, false
		}
		marker := 1 + uint64(r.IntN(int(n)))
		applied := uint64(r.IntN(int(same + 1)))
		got := harvestPoint(seen, marker, last, applied, termOf)
		if got > same {
			t.Fatalf("seed %d: harvested %d, but only %d is common", seed, got, same)
		}
		want := uint64(0)
		for k := min(marker, last); k > applied; k-- {
			if has, ok := seen.at(k); ok && k <= same && has == leader[k] {
				want = k
				break
			}
		}
		if got != want {
			t.Fatalf("seed %d: harvest point %d, want %d (terms %v, same %d, marker %d)", seed, got, want, seen, same, marker)
		}
	}
}

func TestTermsRoundTripAndBound(t *testing.T) {
	var history terms
	for i := uint64(1); i <= 3*maxTermRanges; i++ {
		history = history.note(2*i, i)
		history = history.note(2*i+1, i)
		history = history.note(2*i, i) // replayed after a restart
	}
	if len(history) != maxTermRanges {
		t.Fatalf("%d ranges", len(history))
	}
	back, err := decodePayload(payload{founding: 7, terms: history}.encode())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back) != fmt.Sprint(payload{founding: 7, terms: history}) {
		t.Fatal("round trip changed the ranges")
	}
	if len(payload{founding: 1 << 63, terms: history}.encode()) > maxMarkerBytes {
		t.Fatal("a full history does not fit a marker")
	}
}

func FuzzDecodePayload(f *testing.F) {
	f.Add(payload{founding: 9, terms: terms{{1, 2, 9}, {4, 12, 12}}}.encode())
	f.Add(payload{founding: 9, former: []uint64{7, 8}, terms: terms{{1, 2, 9}}}.encode())
	f.Add([]byte{})
	f.Add([]byte{payloadVersion, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePayload(b)
		if err != nil {
			return
		}
		history := p.terms
		if len(history) > maxTermRanges {
			t.Fatalf("%d ranges", len(history))
		}
		for i := 1; i < len(history); i++ {
			if history[i].First <= history[i-1].Last || history[i].Term <= history[i-1].Term {
				t.Fatalf("out of order: %v", history)
			}
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	barrier := command{EvalTerm: 9, Barrier: true}
	f.Add(barrier.encode())
	key := store.Key{Space: "space", Key: "k"}
	c := command{EvalTerm: 3, Proposal: 7, Mutation: store.Mutation{Kind: store.Append, Key: key, Generation: 4, HeadSeq: 9,
		Deltas: []store.Delta{{SeqBegin: 9, SeqEnd: 9, Redo: []byte(`{}`)}}}}
	f.Add(c.encode())
	c.Mutation = store.Mutation{Kind: store.Compact, Key: key, BaseSeq: 3, Base: []byte("{}"), Floor: 1, Dropped: true}
	f.Add(c.encode())
	several := together{}
	several.add(&c, 0)
	c.Mutation = store.Mutation{Kind: store.Delete, Key: store.Key{Space: "space", Key: "l"}, Generation: 4}
	several.add(&c, 0)
	f.Add(several.entry())
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := decodeEntry(b)
		if err != nil {
			return
		}
		if c := first[0]; len(first) == 1 {
			again, err := decodeEntry(c.encode())
			if err != nil {
				t.Fatalf("what was decoded does not decode again: %v", err)
			}
			if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", first) {
				t.Fatalf("round trip changed the command\n%+v\n%+v", first, again)
			}
		}
		var t2 together
		for i := range first {
			if !t2.add(&first[i], 0) {
				return
			}
		}
		again, err := decodeEntry(t2.entry())
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", first) {
			t.Fatalf("round trip changed the entry\n%+v\n%+v", first, again)
		}
	})
}

func decodeEntry(b []byte) (all []command, err error) {
	s, err := openCommands(b)
	if err != nil {
		return nil, err
	}
	var room []store.Delta
	for {
		var c command
		if more, err := s.next(&c, &room); err != nil || !more {
			return all, err
		}
		all = append(all, c)
	}
}

// TestEntriesOfSeveralCommands decode to what was put into them, and damaged ones do not.
func TestEntriesOfSeveralCommands(t *testing.T) {
	one := func(key string) command {
		return command{EvalTerm: 3, Proposal: 7, Mutation: store.Mutation{Kind: store.Append, Key: store.Key{Space: "space", Key: key},
			Generation: 4, HeadSeq: 9, Deltas: []store.Delta{{SeqBegin: 9, SeqEnd: 9, Redo: []byte(`{}`)}}}}
	}
	var e together
	want := []command{one("a"), one("b"), one("c")}
	for i := range want {
		if !e.add(&want[i], 0) {
			t.Fatal("no room")
		}
	}
	barrier := command{EvalTerm: 3, Barrier: true, Founding: 5}
	if e.add(&barrier, 0) {
		t.Error("a barrier went into an entry with others")
	}
	entry := e.entry()
	if got, err := decodeEntry(entry); err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, ok, err := barrierIn(entry); ok || err != nil {
		t.Errorf("a barrier: %v, %v", ok, err)
	}
	for n := range entry {
		if _, err := decodeEntry(entry[:n]); err == nil {
			t.Errorf("the first %d bytes decode", n)
		}
	}
	if _, err := decodeEntry(append(entry[:len(entry):len(entry)], 0)); err == nil {
		t.Error("a byte too many")
	}
	among := slices.Concat([]byte{commandVersion, kindSeveral, 0, 2}, barrier.append(nil), barrier.append(nil), make([]byte, 100))
	if _, err := decodeEntry(among); err == nil {
		t.Error("barriers among others decode")
	}
	var alone together
	alone.add(&barrier, 0)
	if other := one("d"); alone.add(&other, 0) {
		t.Error("something followed a barrier in its entry")
	}
	if c, ok, err := barrierIn(alone.entry()); !ok || err != nil || c.Founding != 5 {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	large := one("e")
	large.Mutation.Deltas[0].Redo = make([]byte, maxTogether)
	if e.add(&large, 0) {
		t.Error("an entry of several commands has no bound")
	}
}

// TestNextStep reads a group as "a*V b.V c?n": letter = host, * leader, . alive and complete, ~ the same and back a short time
// ago, ? alive with holes, ! dead;
// V voter, n non-voter, - not in the configuration. A digit after the letter is the incarnation.
func TestNextStep(t *testing.T) {
	for _, c := range []struct{ name, group, voters, replicas, prefer, want string }{
		{"nothing to do", "a*V b.V c.V", "abc", "", "", "none"},
		{"a listed host is added as non-voter", "a*V b.V c.V d.-", "abd", "", "", "add d"},
		{"a dead one is not", "a*V b.V c.V d!-", "abd", "", "", "none"},
		{"a member with holes is not promoted", "a*V b.V c.V d?n", "abd", "", "", "none"},
		{"nor is the one it replaces removed meanwhile", "a*V b.V c.V d?n", "abd", "", "", "none"},
		{"a healed one is promoted", "a*V b.V c.V d.n", "abd", "", "", "promote d"},
		{"then the surplus voter goes", "a*V b.V c.V d.V", "abd", "", "", "remove c"},
		{"a lost disk comes back as another incarnation", "a*V b.V c1!V c2.-", "abc", "", "", "add c2"},
		{"heals", "a*V b.V c1!V c2?n", "abc", "", "", "none"},
		{"is promoted", "a*V b.V c1!V c2.n", "abc", "", "", "promote c2"},
		{"and replaces the old one", "a*V b.V c1!V c2.V", "abc", "", "", "remove c1"},
		{"a dead old incarnation that is a non-voter goes first", "a*V b.V c1!n c2?n", "abc", "", "", "remove c1"},
		{"no promotion without a majority of complete voters", "a*V b?V c?V d.n e!V", "abcde", "", "", "none"},
		{"no removal that leaves no majority of complete voters", "a*V b?V c?V d.V", "abc", "", "", "none"},
		{"a dead voter is not removed while nobody replaces it", "a*V b.V c!V", "abc", "", "", "none"},
		{"a dead voter that is not listed goes", "a*V b.V c.V d!V", "abc", "", "", "remove d"},
		{"a leader that leaves hands over first", "a*V b.V c.V d.V", "bcd", "", "", "transfer b"},
		{"but to a complete member only", "a*V b?V c.V d.V", "bcd", "", "", "transfer c"},
		{"the preferred leader gets it back", "a*V b.V c.V", "abc", "", "b", "transfer b"},
		{"not while it has holes", "a*V b?V c.V", "abc", "", "b", "none"},
		{"not while it is dead", "a*V b!V c.V", "abc", "", "b", "none"},
		{"not when it was gone a short time ago", "a*V b~V c.V", "abc", "", "b", "none"},
		{"which does not keep it from taking what nobody else can", "a*V b~V c?V d.V", "bcd", "", "", "transfer b"},
		{"a replica is added and stays a non-voter", "a*V b.V c.V d.n", "abc", "d", "", "none"},
		{"a voter listed as replica is demoted", "a*V b.V c.V d.V", "abc", "d", "", "demote d"},
		{"a replica that is not listed any more goes", "a*V b.V c.V d.n", "abc", "", "", "remove d"},
		{"one voter to three", "a*V b.-", "abc", "", "", "add b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := parseGroup(t, c.group)
			v.Desired = Desired{Voters: strings.Split(c.voters, ""), Prefer: c.prefer}
			if c.replicas != "" {
				v.Desired.Replicas = strings.Split(c.replicas, "")
			}
			got := nextStep(v)
			kind, _, _ := strings.Cut(got.String(), " ")
			text := kind
			if got.Kind != StepNone {
				host, inc, _ := strings.Cut(string(got.ID), "@")
				text += " " + host + strings.TrimPrefix(inc, "0")
			}
			if text != c.want {
				t.Fatalf("%s, want %s", got, c.want)
			}
		})
	}
}

func parseGroup(t *testing.T, text string) View {
	v := View{Peers: map[raft.ServerID]Peer{}, Applied: 1000, MaxLag: 10}
	for _, w := range strings.Fields(text) {
		host, inc, state, suffrage := w[:1], "0", w[1], w[2]
		if len(w) == 4 {
			inc, state, suffrage = w[1:2], w[2], w[3]
		}
		id := raft.ServerID(host + "@" + inc)
		if state == '*' {
			v.Self = id
		}
		if suffrage == 'V' || suffrage == 'n' {
			s := raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: raft.Voter}
			if suffrage == 'n' {
				s.Suffrage = raft.Nonvoter
			}
			v.Servers = append(v.Servers, s)
		}
		switch state {
		case '!':
		case '*', '.':
			v.Peers[id] = Peer{ID: id, Alive: true, Ready: true, Complete: true, Applied: 1000}
		case '~':
			v.Peers[id] = Peer{ID: id, Alive: true, Ready: true, Complete: true, Unsteady: true, Applied: 1000}
		case '?':
			v.Peers[id] = Peer{ID: id, Alive: true, Ready: true, Applied: 1000}
		default:
			t.Fatalf("state %q", state)
		}
	}
	return v
}

// TestMembershipConverges lets nextStep move random groups to random files: it must arrive, one voter at a time, never
// through a configuration whose complete voters are no majority.
func TestMembershipConverges(t *testing.T) {
	hosts := "abcdefg"
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		pick := func(n int) []string {
			p := r.Perm(len(hosts))
			var out []string
			for _, i := range p[:n] {
				out = append(out, hosts[i:i+1])
			}
			return out
		}
		sizes := []int{1, 3, 5}
		v := View{Applied: 100, Peers: map[raft.ServerID]Peer{}, MaxLag: 5}
		for i := range hosts {
			id := raft.ServerID(hosts[i:i+1] + "@0")
			v.Peers[id] = Peer{ID: id, Alive: true, Ready: true, Complete: true, Applied: 100}
		}
		for _, h := range pick(sizes[r.IntN(3)]) {
			v.Servers = append(v.Servers, raft.Server{ID: raft.ServerID(h + "@0"), Address: raft.ServerAddress(h + "@0")})
		}
		v.Self = v.Servers[r.IntN(len(v.Servers))].ID
		v.Desired.Voters = pick(sizes[r.IntN(3)])
		v.Desired.Prefer = v.Desired.Voters[0]
		for steps := 0; ; steps++ {
			if steps > 40 {
				t.Fatalf("seed %d: still moving: %v towards %v", seed, v.Servers, v.Desired)
			}
			s := nextStep(v)
			if s.Kind == StepNone {
				break
			}
			if s.Kind == StepAdd { // it arrives with holes and heals later
				v.Servers = append(v.Servers, raft.Server{ID: s.ID, Address: raft.ServerAddress(s.ID), Suffrage: raft.Nonvoter})
				p := v.Peers[s.ID]
				p.Complete = false
				v.Peers[s.ID] = p
				if mid := nextStep(v); mid.Kind == StepPromote && mid.ID == s.ID {
					t.Fatalf("seed %d: promoted with holes", seed)
				}
				p.Complete = true
				v.Peers[s.ID] = p
				continue
			}
			applyStep(&v, s)
			if !v.majorityComplete(v.voters()) {
				t.Fatalf("seed %d: %v left %v without a majority of complete voters", seed, s, v.Servers)
			}
		}
		got := map[string]bool{}
		for _, s := range v.Servers {
			if s.Suffrage != raft.Voter {
				t.Fatalf("seed %d: non-voter %s left over", seed, s.ID)
			}
			got[HostOf(s.ID)] = true
		}
		if len(got) != len(v.Desired.Voters) || HostOf(v.Self) != v.Desired.Prefer {
			t.Fatalf("seed %d: ended at %v led by %s, wanted %v", seed, v.Servers, v.Self, v.Desired)
		}
	}
}

func applyStep(v *View, s Step) {
	switch s.Kind {
	case StepTransfer:
		v.Self = s.ID
	case StepRemove:
		for i := range v.Servers {
			if v.Servers[i].ID == s.ID {
				v.Servers = append(v.Servers[:i:i], v.Servers[i+1:]...)
				return
			}
		}
	case StepPromote, StepDemote:
		for i := range v.Servers {
			if v.Servers[i].ID == s.ID {
				v.Servers[i].Suffrage = raft.Voter
				if s.Kind == StepDemote {
					v.Servers[i].Suffrage = raft.Nonvoter
				}
			}
		}
	}
}

func TestDecideBirth(t *testing.T) {
	d := Desired{Voters: []string{"a", "b", "c"}, Replicas: []string{"d"}, Prefer: "b"}
	answer := func(hosts string) (list []Probe) {
		for _, h := range strings.Split(hosts, "") {
			list = append(list, Probe{Host: h, ID: raft.ServerID(h + "@1"), Answered: true, Running: true, Version: 4})
		}
		return list
	}
	with := func(list []Probe, host string, change func(*Probe)) []Probe {
		for i := range list {
			if list[i].Host == host {
				change(&list[i])
			}
		}
		return list
	}
	data := func(p *Probe) { p.HasData = true }
	for _, c := range []struct {
		name   string
		self   string
		probes []Probe
		force  bool
		want   bool
	}{
		{"everybody is there and empty", "b", answer("abcd"), false, true},
		{"somebody else founds it", "a", answer("abcd"), false, false},
		{"a member is missing", "b", answer("abd"), false, false},
		{"a member does not run yet", "b", with(answer("abcd"), "c", func(p *Probe) { p.Running = false }), false, false},
		{"a member has data", "b", with(answer("abcd"), "c", data), false, false},
		{"a host that is no member any more has data", "b", with(answer("abcdx"), "x", data), false, false},
		{"a host that is no member does not answer", "b", with(answer("abcdx"), "x", func(p *Probe) { *p = Probe{Host: "x"} }), false, false},
		{"a host follows another version of the file", "b", with(answer("abcdx"), "x", func(p *Probe) { p.Version = 5 }), false, false},
		{"another host is about to found it", "b", with(answer("abcd"), "a", func(p *Probe) { p.Founds = true }), false, false},
		{"this host is", "b", with(answer("abcd"), "b", func(p *Probe) { p.Founds = true }), false, true},
		{"an operator forces it", "b", answer("ab"), true, true},
		{"an operator forces it over one that is gone", "b", with(answer("abx"), "x", func(p *Probe) { *p = Probe{Host: "x"} }), true, true},
		{"but never over data", "b", with(answer("abx"), "x", data), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := DecideBirth(c.self, 4, d, c.probes, c.force)
			if got.Bootstrap != c.want {
				t.Fatalf("%+v", got)
			}
			if !got.Bootstrap && got.Reason == "" {
				t.Fatal("no reason given")
			}
			for _, s := range got.Servers {
				if (HostOf(s.ID) == "d") != (s.Suffrage == raft.Nonvoter) {
					t.Fatalf("suffrage of %s", s.ID)
				}
			}
		})
	}
}

// TestLaggingVotersAreNoMajority: a voter without holes, so far behind that it will be sent a marker, does not hold what a
// voter to be removed holds. The exhaustive search found it ("lagging").
func TestLaggingVotersAreNoMajority(t *testing.T) {
	v := View{Self: "a@1", Desired: Desired{Voters: []string{"a", "b", "d"}}, Applied: 5000, MaxLag: 256, Reach: 1000,
		Servers: []raft.Server{{ID: "a@1"}, {ID: "b@1"}, {ID: "c@1"}, {ID: "d@1"}},
		Peers: map[raft.ServerID]Peer{
			"a@1": {ID: "a@1", Alive: true, Complete: true, Applied: 5000},
			"b@1": {ID: "b@1", Alive: true, Complete: true, Applied: 7}, // lags
			"c@1": {ID: "c@1", Alive: true, Complete: true, Applied: 5000},
			"d@1": {ID: "d@1", Alive: true, Applied: 5000}, // has a hole
		}}
	if s := nextStep(v); s.Kind != StepNone {
		t.Fatalf("%s: of what remains only the leader holds everything", s)
	}
	b := v.Peers["b@1"]
	b.Applied = 4200
	v.Peers["b@1"] = b
	if s := nextStep(v); s.Kind != StepRemove || s.ID != "c@1" {
		t.Fatalf("%s: the log reaches b", s)
	}
}

// TestAddTakesItsOwnOnly: a member that holds the partition of another founding is never taken in.
func TestAddTakesItsOwnOnly(t *testing.T) {
	v := View{Self: "a@1", Desired: Desired{Voters: []string{"a", "b"}}, Servers: []raft.Server{{ID: "a@1"}}, Founding: 7,
		Peers: map[raft.ServerID]Peer{"a@1": {ID: "a@1", Alive: true, Complete: true}, "b@1": {ID: "b@1", Alive: true, Ready: true, Founding: 9}}}
	if s := nextStep(v); s.Kind != StepNone {
		t.Fatalf("%s", s)
	}
	v.Peers["b@1"] = Peer{ID: "b@1", Alive: true, Ready: true, Founding: 7}
	if s := nextStep(v); s.Kind != StepAdd || s.ID != "b@1" {
		t.Fatalf("%s", s)
	}
}

// TestOutdatedLeaderPrefersNobody: hosts that follow different cluster files must not hand leadership to and fro.
func TestOutdatedLeaderPrefersNobody(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *View)
		want   StepKind
	}{
		"the same file":                    {func(*View) {}, StepTransfer},
		"the preferred host has a newer":   {func(v *View) { v.Peers["b@0"] = newer(v.Peers["b@0"]) }, StepNone},
		"a third host has a newer":         {func(v *View) { v.Peers["c@0"] = newer(v.Peers["c@0"]) }, StepNone},
		"this host has it, too":            {func(v *View) { v.Peers["c@0"], v.Peers["a@0"] = newer(v.Peers["c@0"]), newer(v.Peers["a@0"]) }, StepTransfer},
		"only this host has the newer one": {func(v *View) { v.Peers["a@0"] = newer(v.Peers["a@0"]) }, StepTransfer},
		"who has it is dead": {func(v *View) {
			p := newer(v.Peers["c@0"])
			p.Alive = false
			v.Peers["c@0"] = p
		}, StepTransfer},
	} {
		v := parseGroup(t, "a*V b.V c.V")
		v.Desired = Desired{Voters: []string{"a", "b", "c"}, Prefer: "b"}
		if c.change(&v); nextStep(v).Kind != c.want {
			t.Errorf("%s: %s", name, nextStep(v))
		}
	}
}

func newer(p Peer) Peer {
	p.Version++
	return p
}

func noBeats(raft.ServerID, uint64) time.Time { return time.Time{} }

// A leader is left alone only when nothing but news can make a step necessary.
func TestSettledConfigurations(t *testing.T) {
	voter := func(id raft.ServerID) raft.Server { return raft.Server{ID: id, Suffrage: raft.Voter} }
	view := func() View {
		v := View{Self: "a@1", Desired: Desired{Voters: []string{"a", "b", "c"}, Replicas: []string{"d"}, Prefer: "a"}, Peers: map[raft.ServerID]Peer{},
			Servers: []raft.Server{voter("a@1"), voter("b@1"), voter("c@1"), {ID: "d@1", Suffrage: raft.Nonvoter}}}
		for _, s := range v.Servers {
			v.Peers[s.ID] = Peer{ID: s.ID}
		}
		return v
	}
	for name, change := range map[string]func(*View){
		"another is preferred":         func(v *View) { v.Desired.Prefer = "b" },
		"a voter is to be a replica":   func(v *View) { v.Desired.Voters, v.Desired.Replicas = []string{"a", "b"}, []string{"c", "d"} },
		"a replica is to vote":         func(v *View) { v.Desired.Voters, v.Desired.Replicas = []string{"a", "b", "c", "d"}, nil },
		"one is too many":              func(v *View) { v.Desired.Replicas = nil },
		"one is missing":               func(v *View) { v.Desired.Replicas = []string{"d", "e"} },
		"another is listed":            func(v *View) { v.Desired.Replicas = []string{"e"} },
		"one was never heard of":       func(v *View) { delete(v.Peers, "c@1") },
		"a newer incarnation is there": func(v *View) { delete(v.Peers, "c@1"); v.Peers["c@2"] = Peer{ID: "c@2", Alive: true} },
	} {
		v := view()
		if change(&v); v.settled() {
			t.Errorf("%s: settled", name)
		}
	}
	if v := view(); !v.settled() {
		t.Error("a configuration that is as it is wanted is not settled")
	}
}
