package liveness

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

const lease = 100 * time.Millisecond

// at is a moment of the tests' clock.
func at(ms int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }

// pairOfHosts is a leading host, L, and a following one, F.
type pairOfHosts struct {
	t    *testing.T
	l, f *Table
}

func newPair(t *testing.T) *pairOfHosts { return &pairOfHosts{t, NewTable(7), NewTable(8)} }

// word is an acknowledged request of Raft.
func (h *pairOfHosts) word(p uint32, term uint64) {
	h.f.Follow(p, term, "L")
	h.l.Led(p, term, "F")
}

// beat exchanges one beat without delay and returns it with its answer.
func (h *pairOfHosts) beat(now time.Time) (Beat, Answer, []Pair) {
	h.t.Helper()
	b, ok := h.l.Beat("F")
	if !ok {
		h.t.Fatal("no beat")
	}
	a := h.f.Heard("L", b, now)
	return b, a, h.l.Answered("F", b, a, now)
}

// settle exchanges beats until one is answered with yes, twice at most.
func (h *pairOfHosts) settle(now time.Time) {
	h.t.Helper()
	for range 2 {
		if _, a, _ := h.beat(now); a.Yes {
			return
		}
	}
	h.t.Fatal("the hosts do not agree on a list")
}

func (h *pairOfHosts) acked(p uint32, term uint64, want time.Time) {
	h.t.Helper()
	if got := h.l.Acked(p, term, "F"); !got.Equal(want) {
		h.t.Fatalf("partition %d in term %d: acknowledged at %v, want %v", p, term, got, want)
	}
}

func (h *pairOfHosts) contact(p uint32, want time.Time) {
	h.t.Helper()
	if _, _, got := h.f.Contact(p); !got.Equal(want) {
		h.t.Fatalf("partition %d: contact at %v, want %v", p, got, want)
	}
}

func TestListTravelsOnceThenTheDigest(t *testing.T) {
	h := newPair(t)
	if _, ok := h.l.Beat("F"); ok {
		t.Fatal("a beat for a host that follows nothing")
	}
	h.word(3, 1)
	h.word(1, 4)
	b, a, _ := h.beat(at(0))
	if !b.Listed || !reflect.DeepEqual(b.Pairs, []Pair{{1, 4}, {3, 1}}) || !a.Yes {
		t.Fatalf("first beat %+v, answer %+v", b, a)
	}
	for i := range 3 {
		now := at(30 + 30*i)
		b, a, _ = h.beat(now)
		if b.Listed || len(b.Pairs) > 0 || !a.Yes {
			t.Fatalf("beat %+v, answer %+v", b, a)
		}
		h.acked(1, 4, now)
		h.acked(3, 1, now)
		h.contact(1, now)
		h.contact(3, now)
	}
	h.word(2, 1)
	if b, _, _ = h.beat(at(200)); !b.Listed || len(b.Pairs) != 3 {
		t.Fatalf("after a change: %+v", b)
	}
}

func TestNothingIsAcknowledgedBeforeABeat(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.acked(1, 4, time.Time{})
	h.contact(1, time.Time{})
	h.settle(at(0))
	h.acked(1, 4, at(0))
	h.acked(1, 5, time.Time{})
	h.acked(1, 3, time.Time{})
	h.acked(2, 4, time.Time{})
	if got := h.l.Acked(1, 4, "G"); !got.IsZero() {
		t.Fatalf("another host acknowledged at %v", got)
	}
}

// TestPairAddedLaterIsNotCredited with a beat that left before: the beat said nothing of it.
func TestPairAddedLaterIsNotCredited(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.settle(at(0))
	b, _ := h.l.Beat("F")
	a := h.f.Heard("L", b, at(31))
	h.word(2, 4)
	h.l.Answered("F", b, a, at(30))
	h.acked(1, 4, at(30))
	h.acked(2, 4, time.Time{})
	h.settle(at(60))
	h.acked(2, 4, at(60))
}

// TestPairThatLeftAndCameBack is a new one for beats under way, and so is one of a later term.
func TestPairThatLeftAndCameBack(t *testing.T) {
	for name, change := range map[string]func(h *pairOfHosts) uint64{
		"same term": func(h *pairOfHosts) uint64 { h.l.Resigned(1); h.word(1, 4); return 4 },
		"next term": func(h *pairOfHosts) uint64 { h.word(1, 5); return 5 },
	} {
		t.Run(name, func(t *testing.T) {
			h := newPair(t)
			h.word(1, 4)
			h.settle(at(0))
			b, _ := h.l.Beat("F")
			a := h.f.Heard("L", b, at(31))
			term := change(h)
			h.l.Answered("F", b, a, at(30))
			h.acked(1, term, time.Time{})
			h.settle(at(60))
			h.acked(1, term, at(60))
		})
	}
}

func TestEarlierTermIsIgnored(t *testing.T) {
	h := newPair(t)
	h.word(1, 5)
	h.settle(at(0))
	h.l.Led(1, 4, "F")
	h.f.Follow(1, 4, "M")
	h.acked(1, 5, at(0))
	if leader, term, _ := h.f.Contact(1); leader != "L" || term != 5 {
		t.Fatalf("follows %s in term %d", leader, term)
	}
	if _, a, _ := h.beat(at(30)); !a.Yes {
		t.Fatalf("%+v", a)
	}
}

func TestLateAnswersDoNotTurnTimeBack(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.settle(at(0))
	b1, _ := h.l.Beat("F")
	a1 := h.f.Heard("L", b1, at(10))
	h.beat(at(20))
	h.l.Answered("F", b1, a1, at(10))
	h.acked(1, 4, at(20))
}

func TestResignedIsNeitherBeatenNorAcknowledged(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.word(2, 4)
	h.settle(at(0))
	h.l.Resigned(1)
	h.acked(1, 4, time.Time{})
	h.acked(2, 4, at(0))
	if b, _, _ := h.beat(at(30)); !reflect.DeepEqual(b.Pairs, []Pair{{2, 4}}) {
		t.Fatalf("%+v", b)
	}
	h.l.Resigned(2)
	if b, _, _ := h.beat(at(60)); !b.Listed || len(b.Pairs) > 0 {
		t.Fatalf("the last beat: %+v", b)
	}
	if b, ok := h.l.Beat("F"); ok {
		t.Fatalf("a host that leads nothing beats: %+v", b)
	}
}

// TestUnfollowedPairIsRefused by the answer to the next beat, which counts for the other pairs none the less.
func TestUnfollowedPairIsRefused(t *testing.T) {
	for name, leave := range map[string]func(f *Table){
		"unfollow":       func(f *Table) { f.Unfollow(1) },
		"release":        func(f *Table) { f.Release(1, "M", at(500), lease) },
		"another leader": func(f *Table) { f.Follow(1, 5, "M") },
		"a later term":   func(f *Table) { f.Follow(1, 5, "L") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newPair(t)
			h.word(1, 4)
			h.word(2, 4)
			h.settle(at(0))
			leave(h.f)
			b, a, lost := h.beat(at(510))
			if b.Listed || !a.Yes || !reflect.DeepEqual(a.Refused, []uint32{1}) || !reflect.DeepEqual(lost, []Pair{{1, 4}}) {
				t.Fatalf("answer %+v to %+v, lost %v", a, b, lost)
			}
			h.acked(1, 4, time.Time{})
			h.acked(2, 4, at(510))
			h.contact(2, at(510))
			h.settle(at(530))
			h.acked(2, 4, at(530))
			h.contact(2, at(530))
		})
	}
}

// TestBrokenListIsNotMendedByFollowingAgain: between two beats the pair may have been somewhere else.
func TestBrokenListIsNotMendedByFollowingAgain(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.settle(at(0))
	h.f.Unfollow(1)
	h.f.Follow(1, 4, "L")
	h.contact(1, time.Time{})
	if _, a, lost := h.beat(at(30)); !reflect.DeepEqual(a.Refused, []uint32{1}) || len(lost) != 1 {
		t.Fatalf("%+v, lost %v", a, lost)
	}
	h.acked(1, 4, time.Time{})
	h.contact(1, time.Time{})
	h.word(1, 4)
	h.settle(at(40))
	h.acked(1, 4, at(40))
}

// TestRefusedPartOfAList: what is followed of it counts from its first arrival on, on both sides.
func TestRefusedPartOfAList(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	h.l.Led(2, 4, "F") // F's member does not follow by now
	if _, a, lost := h.beat(at(10)); !reflect.DeepEqual(a.Refused, []uint32{2}) || !reflect.DeepEqual(lost, []Pair{{2, 4}}) {
		t.Fatalf("%+v, lost %v", a, lost)
	}
	h.acked(1, 4, at(10))
	h.contact(1, at(10))
	h.acked(2, 4, time.Time{})
	if h.f.Release(1, "M", at(10), lease) {
		t.Fatal("what the answer promised does not bind")
	}
}

// TestRefusalOfAnOldBeatSparesANewPair: what a beat did not say can not be refused by its answer.
func TestRefusalOfAnOldBeatSparesANewPair(t *testing.T) {
	h := newPair(t)
	h.l.Led(1, 4, "F")
	b, _ := h.l.Beat("F")
	a := h.f.Heard("L", b, at(0)) // refused: F does not follow yet
	if !reflect.DeepEqual(a.Refused, []uint32{1}) {
		t.Fatalf("%+v", a)
	}
	h.word(1, 5)
	if lost := h.l.Answered("F", b, a, at(0)); len(lost) > 0 {
		t.Fatalf("lost %v", lost)
	}
	h.settle(at(30))
	h.acked(1, 5, at(30))
}

func TestReleaseKeepsThePromise(t *testing.T) {
	for _, c := range []struct {
		name      string
		candidate string
		ms        int
		followed  bool
		released  bool
	}{
		{"another, just promised", "M", 0, true, false},
		{"another, at the last moment", "M", 99, true, false},
		{"another, once it is over", "M", 100, true, true},
		{"the leader itself", "L", 50, true, true},
		{"another, nobody followed", "M", 0, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newPair(t)
			h.word(1, 4)
			h.word(2, 4)
			h.settle(at(0))
			if !c.followed {
				h.f.Unfollow(1)
			}
			if got := h.f.Release(1, c.candidate, at(c.ms), lease); got != c.released {
				t.Fatalf("released: %v", got)
			}
			if leader, _, _ := h.f.Contact(1); (leader == "") != c.released {
				t.Fatalf("follows %q afterwards", leader)
			}
			if leader, _, _ := h.f.Contact(2); leader != "L" {
				t.Fatal("another partition was taken back as well")
			}
		})
	}
}

// TestFollowedWithoutABeatMayBeReleased: beats have promised nothing yet; what Raft's words promise is not the table's.
func TestFollowedWithoutABeatMayBeReleased(t *testing.T) {
	h := newPair(t)
	h.f.Follow(1, 4, "L")
	if !h.f.Release(1, "M", at(0), lease) {
		t.Fatal("bound by a beat that never came")
	}
}

// TestRestarts: either side forgets everything, and neither takes the other's old word for a new one.
func TestRestarts(t *testing.T) {
	t.Run("follower", func(t *testing.T) {
		h := newPair(t)
		h.word(1, 4)
		h.settle(at(0))
		h.f = NewTable(9)
		if _, a, _ := h.beat(at(30)); !a.Unlisted {
			t.Fatalf("%+v", a)
		}
		if _, _, lost := h.beat(at(40)); len(lost) != 1 {
			t.Fatalf("lost %v", lost)
		}
		h.acked(1, 4, time.Time{})
	})
	t.Run("leader", func(t *testing.T) {
		h := newPair(t)
		h.word(1, 4)
		h.settle(at(0))
		h.l = NewTable(9)
		h.l.Led(1, 4, "F") // same pairs
		b, _ := h.l.Beat("F")
		b.Listed, b.Pairs = false, nil
		if a := h.f.Heard("L", b, at(30)); a.Yes {
			t.Fatal("the digest of another process was taken for the old one's")
		}
		h.settle(at(40))
		h.acked(1, 4, at(40))
	})
}

func TestLeadersAreToldApart(t *testing.T) {
	f := NewTable(1)
	a, b := NewTable(2), NewTable(3)
	f.Follow(1, 4, "A")
	f.Follow(2, 4, "B")
	a.Led(1, 4, "F")
	b.Led(2, 4, "F")
	b.Led(1, 3, "F") // once led by B
	ba, _ := a.Beat("F")
	bb, _ := b.Beat("F")
	if got := f.Heard("A", ba, at(0)); !got.Yes {
		t.Fatalf("%+v", got)
	}
	if got := f.Heard("B", bb, at(10)); !reflect.DeepEqual(got.Refused, []uint32{1}) {
		t.Fatalf("%+v", got)
	}
	if _, _, got := f.Contact(1); !got.Equal(at(0)) {
		t.Fatalf("contact %v", got)
	}
	if got := f.Heard("B", ba, at(20)); !reflect.DeepEqual(got.Refused, []uint32{1}) {
		t.Fatal("A's list was confirmed to B")
	}
}

// TestAnswerOfAnUnknownHost changes nothing.
func TestAnswerOfAnUnknownHost(t *testing.T) {
	h := newPair(t)
	if _, ok := h.l.Beat("F"); ok {
		t.Fatal("a beat for a host that follows in nothing")
	}
	if got := h.l.Answered("F", Beat{Version: 1}, Answer{Yes: true}, at(5)); got != nil {
		t.Fatalf("%v", got)
	}
}

// TestForgottenHosts: what is dropped counts for nothing any more, not by an answer that comes late, and a host that is
// followed is not dropped.
func TestForgottenHosts(t *testing.T) {
	h := newPair(t)
	h.word(1, 5)
	h.settle(at(0))
	all := func(string) bool { return true }
	h.f.Forget(all)
	h.contact(1, at(0))
	old, _ := h.l.Beat("F")
	late := h.f.Heard("L", old, at(10))
	h.l.Forget(all)
	h.acked(1, 5, time.Time{})
	h.word(1, 6)
	h.l.Answered("F", old, late, at(10))
	h.acked(1, 6, time.Time{})
	h.settle(at(20))
	h.acked(1, 6, at(20))
}

// TestChurnLeavesNothing: hosts that come back on new disks again and again leave nothing behind.
func TestChurnLeavesNothing(t *testing.T) {
	table := NewTable(1)
	for i := range 1000 {
		now := at(i)
		server := fmt.Sprint("h@", i)
		table.Follow(1, uint64(2*i+1), server)
		table.Heard(server, Beat{Version: 1, Digest: 9, Listed: true, Pairs: []Pair{{1, uint64(2*i + 1)}}}, now)
		table.Unfollow(1)
		table.Led(2, 7, server)
		table.Forget(func(s string) bool { return s != server })
	}
	if n := table.Len(); n > 2 {
		t.Errorf("%d servers are held", n)
	}
}

// TestGap: the longest pause between beats is remembered for a while, also across lists; time in which nothing was followed is none.
func TestGap(t *testing.T) {
	h := newPair(t)
	gap := func(want time.Duration) {
		t.Helper()
		if got, _ := h.f.Gap(1); got != want {
			t.Fatalf("gap %v, want %v", got, want)
		}
	}
	gap(0)
	h.word(1, 1)
	h.settle(at(0))
	gap(0)
	h.beat(at(30))
	gap(30 * time.Millisecond)
	h.beat(at(94))
	gap(64 * time.Millisecond)
	h.beat(at(100))
	gap(62 * time.Millisecond) // a part of it is forgotten with each beat
	h.word(2, 1)
	h.settle(at(130)) // another list
	if got, _ := h.f.Gap(1); got < 58*time.Millisecond || got > 62*time.Millisecond {
		t.Fatalf("gap %v after another list", got)
	}
	for i := range 200 {
		h.beat(at(140 + 10*i))
	}
	gap(10 * time.Millisecond)
	h.f.Unfollow(1)
	h.f.Unfollow(2)
	gap(0)
	h.beat(at(9000))
	h.word(1, 2)
	h.settle(at(9010))
	if got, _ := h.f.Gap(1); got > 10*time.Millisecond {
		t.Fatalf("gap %v, but nothing was followed", got)
	}
}

// TestDied: who follows a process that is gone is told so until it is heard of again, and its promise holds.
func TestDied(t *testing.T) {
	h := newPair(t)
	died := func(want bool) {
		t.Helper()
		if _, got := h.f.Gap(1); got != want {
			t.Fatalf("died: %v, want %v", got, want)
		}
	}
	h.f.Died("L")
	h.word(1, 1)
	h.settle(at(0))
	died(false)
	h.f.Died("somebody else")
	died(false)
	before, _ := h.f.Unrest(at(1), lease)
	h.f.Died("L")
	h.f.Died("L")
	died(true)
	if after, _ := h.f.Unrest(at(1), lease); after != before+1 {
		t.Errorf("%d changes, want one", after-before)
	}
	if h.f.Release(1, "x", at(0).Add(lease-1), lease) {
		t.Error("what was promised to the dead was forgotten")
	}
	h.beat(at(30))
	died(false)
	h.f.Died("L")
	h.word(2, 1)
	h.settle(at(60)) // another list
	died(false)
}

// TestLeft: who follows a leader that its host names no more is told so, and that it is named again.
func TestLeft(t *testing.T) {
	h := newPair(t)
	left := func(p uint32, want bool) {
		t.Helper()
		if _, got := h.f.Gap(p); got != want {
			t.Fatalf("partition %d: left %v, want %v", p, got, want)
		}
	}
	h.word(1, 1)
	h.word(2, 1)
	h.settle(at(0))
	left(1, false)
	h.l.Resigned(1)
	left(1, false)
	h.beat(at(30))
	left(1, true)
	left(2, false)
	h.beat(at(60))
	left(1, true)
	h.contact(1, at(0))
	h.l.Led(1, 1, "F")
	h.settle(at(90))
	left(1, false)
	h.l.Resigned(1)
	h.beat(at(120))
	left(1, true)
	h.word(1, 2) // it leads again, in another term
	left(1, false)
	h.f.Follow(3, 1, "L") // not named yet
	h.word(4, 1)
	h.settle(at(150))
	left(3, false)
	for _, p := range []uint32{1, 2, 4} {
		h.l.Resigned(p)
	}
	lost, ok := h.l.Beat("F") // on its way: another one is due until there is an answer
	if !ok || !lost.Listed || len(lost.Pairs) > 0 {
		t.Fatalf("beat %+v, %v, of a host that leads nothing any more", lost, ok)
	}
	left(4, false)
	h.settle(at(180))
	left(4, true)
	if b, ok := h.l.Beat("F"); ok {
		t.Errorf("beat %+v of a host that leads nothing, as the other one knows", b)
	}
}

// TestLastPairLeft: a leader that gives up the only partition that its host leads a follower in is named no more there, either.
func TestLastPairLeft(t *testing.T) {
	h := newPair(t)
	h.word(1, 1)
	h.settle(at(0))
	h.l.Resigned(1)
	for i := range 10 {
		if b, ok := h.l.Beat("F"); ok {
			h.l.Answered("F", b, h.f.Heard("L", b, at(30+30*i)), at(30+30*i))
		}
	}
	if _, over := h.f.Gap(1); !over {
		t.Error("the follower was never told that its leader gave up: no beat names nobody")
	}
}

// TestTheDeadMayLeadAgain: a process that came back and leads again is not dead.
func TestTheDeadMayLeadAgain(t *testing.T) {
	h := newPair(t)
	h.word(1, 1)
	h.settle(at(0))
	h.f.Died("L")
	h.f.Follow(1, 2, "M") // another host leads
	h.f.Follow(1, 5, "L") // and, long after, the first one, in a new process: its request has just arrived
	if _, over := h.f.Gap(1); over {
		t.Error("a leader that was heard of in a later term counts as dead")
	}
}

// TestDiedBeforeItsFirstBeat: a leader that dies before its first list arrived is dead, too.
func TestDiedBeforeItsFirstBeat(t *testing.T) {
	h := newPair(t)
	h.word(1, 1)
	h.f.Died("L")
	if _, over := h.f.Gap(1); !over {
		t.Error("a leader that died before its first beat is waited for as if it were silent")
	}
}
