package liveness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is a model of one host F that follows, two hosts that compete for the partitions of which F's voice decides, and a
// wire that delays, loses, doubles and, if told to, reorders. It keeps the truth about F beside F's table.
type world struct {
	r       *rand.Rand
	now     time.Time
	reorder bool
	f       *Table
	l       [2]*Table
	wire    []message
	beats   [2]uint64 // handed out by each leader
	leads   [2]map[uint32]uint64
	follows map[uint32]followed // F's members, as Raft has them
	helped  map[uint32]int      // the candidate that F helped last; -1 nobody
	terms   map[uint32]uint64
	mute    time.Time // a restarted voter helps nobody until then (partition.guard)
	said    []promised
	log     []string
}

// promised is a time at which F followed somebody, and the time at which it broke that; zero while it did not.
type promised struct {
	p    uint32
	term uint64
	by   int
	at   time.Time // of an answer
	end  time.Time // F helped another one into office
}

type message struct {
	due    time.Time
	seq    uint64
	to     int // leader's number for answers, -1 for beats
	from   int
	beat   Beat
	answer Answer
	sent   time.Time
	table  *Table // the process that sent the beat
}

const modelPartitions = 3

func leaderName(i int) string { return fmt.Sprint("L", i) }

func newWorld(seed uint64, reorder bool) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 1)), now: at(0), reorder: reorder, f: NewTable(seed), follows: map[uint32]followed{},
		helped: map[uint32]int{}, terms: map[uint32]uint64{}}
	for i := range w.l {
		w.l[i], w.leads[i] = NewTable(seed*10+uint64(i)+1), map[uint32]uint64{}
	}
	for p := range uint32(modelPartitions) {
		w.helped[p] = -1
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, w.now.Sub(at(0)).String()+" "+fmt.Sprintf(format, args...))
}

func (w *world) step() {
	i, p := w.r.IntN(2), uint32(w.r.IntN(modelPartitions))
	switch w.r.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		w.send(i)
	case 6, 7, 8, 9, 16, 17, 19, 20:
		w.deliver()
	case 10:
		w.elect(i, p)
	case 11, 12:
		w.word(i, p)
	case 13:
		w.resign(i, p)
	case 14:
		if w.r.IntN(4) == 0 { // F takes an offer of the leader, who has given up its lease by then
			for j := range w.l {
				w.resign(j, p)
			}
			w.note("F unfollows %d", p)
			w.f.Unfollow(p)
			delete(w.follows, p)
		}
	case 15:
		w.restart()
	case 18:
		if w.r.IntN(4) == 0 { // F is told so, rightly or not
			w.note("L%d has died", i)
			w.f.Died(leaderName(i))
		}
	default:
		w.now = w.now.Add(time.Duration(1+w.r.IntN(20)) * time.Millisecond)
	}
}

// elect lets F help a candidate. Only one that F helped may lead.
func (w *world) elect(i int, p uint32) {
	if w.now.Before(w.mute) {
		return
	}
	if w.leads[i][p] > 0 { // Raft's candidates do not lead
		w.resign(i, p)
	}
	if !w.f.Release(p, leaderName(i), w.now, lease) {
		w.note("F refuses %d to L%d", p, i)
		return
	}
	w.terms[p]++
	w.note("F helps L%d to %d in term %d", i, p, w.terms[p])
	delete(w.follows, p)
	for n := range w.said {
		if s := &w.said[n]; s.p == p && s.by != i && s.end.IsZero() {
			s.end = w.now
		}
	}
	w.helped[p] = i
	w.leads[i][p] = w.terms[p]
}

// word is a request of Raft that F acknowledges.
func (w *world) word(i int, p uint32) {
	term := w.leads[i][p]
	if term == 0 || term < w.terms[p] {
		return
	}
	w.note("L%d has a word for %d in term %d", i, p, term)
	w.follows[p] = followed{leader: leaderName(i), term: term}
	w.f.Follow(p, term, leaderName(i))
	if w.r.IntN(5) > 0 { // or the answer is lost
		w.l[i].Led(p, term, "F")
	}
}

func (w *world) resign(i int, p uint32) {
	if w.leads[i][p] > 0 {
		w.note("L%d resigns %d", i, p)
		w.leads[i][p] = 0
		w.l[i].Resigned(p)
	}
}

func (w *world) restart() {
	switch w.r.IntN(8) {
	case 0:
		w.note("F restarts")
		w.f, w.follows, w.mute = NewTable(w.r.Uint64()), map[uint32]followed{}, w.now.Add(lease)
	case 1:
		i := w.r.IntN(2)
		w.note("L%d restarts", i)
		w.l[i], w.leads[i] = NewTable(w.r.Uint64()), map[uint32]uint64{}
	case 2:
		w.note("all forget")
		for _, t := range []*Table{w.f, w.l[0], w.l[1]} {
			t.Forget(func(string) bool { return true })
		}
	}
}

func (w *world) send(i int) {
	b, ok := w.l[i].Beat("F")
	if !ok || w.r.IntN(10) == 0 {
		return
	}
	w.note("L%d sends %+v", i, b)
	w.beats[i]++
	m := message{due: w.delay(), seq: w.beats[i], to: -1, from: i, beat: b, sent: w.now, table: w.l[i]}
	w.wire = append(w.wire, m)
	if w.r.IntN(10) == 0 {
		m.due = w.delay()
		w.wire = append(w.wire, m)
	}
}

func (w *world) delay() time.Time {
	d := w.r.IntN(8)
	if w.r.IntN(8) == 0 {
		d += w.r.IntN(200)
	}
	return w.now.Add(time.Duration(d) * time.Millisecond)
}

// deliver takes one message that is due off the wire.
func (w *world) deliver() {
	var due []int
	for n, m := range w.wire {
		if !m.due.After(w.now) {
			due = append(due, n)
		}
	}
	if len(due) == 0 {
		return
	}
	n := due[w.r.IntN(len(due))]
	m := w.wire[n]
	if !w.reorder { // the oldest of its kind
		for _, o := range due {
			if w.wire[o].from == m.from && w.wire[o].to == m.to && w.wire[o].seq < m.seq {
				n, m = o, w.wire[o]
			}
		}
	}
	w.wire = slices.Delete(w.wire, n, n+1)
	if w.r.IntN(10) == 0 {
		return
	}
	if m.to >= 0 {
		w.note("L%d hears %+v to version %d sent %s", m.to, m.answer, m.beat.Version, m.sent.Sub(at(0)))
		if m.table == w.l[m.to] { // else the process that asked is gone
			m.table.Answered("F", m.beat, m.answer, m.sent)
		}
		return
	}
	if !w.reorder { // what a later one overtook is lost with its link
		w.wire = slices.DeleteFunc(w.wire, func(o message) bool { return o.to < 0 && o.from == m.from && o.seq < m.seq })
	}
	a := w.f.Heard(leaderName(m.from), m.beat, w.now)
	w.note("F hears L%d: %+v, answers %+v", m.from, m.beat, a)
	for p, f := range w.follows { // the truth at the time of the answer, whatever the answer is
		if f.leader == leaderName(m.from) {
			w.said = append(w.said, promised{p: p, term: f.term, by: m.from, at: w.now})
		}
	}
	w.wire = append(w.wire, message{due: w.delay(), seq: m.seq, to: m.from, from: m.from, beat: m.beat, answer: a, sent: m.sent, table: m.table})
}

// check holds what the leaders rely on against the truth.
func (w *world) check() error {
	for i, l := range w.l {
		for p := range uint32(modelPartitions) {
			for term := uint64(1); term <= w.terms[p]; term++ {
				s := l.Acked(p, term, "F")
				if s.IsZero() {
					continue
				}
				if w.leads[i][p] != term {
					return fmt.Errorf("L%d: partition %d, term %d: acknowledged, but not led", i, p, term)
				}
				if !w.holds(i, p, term, s) {
					return fmt.Errorf("L%d counts on an acknowledgement of partition %d, term %d since %s that F did not give or did not keep", i, p, term, s.Sub(at(0)))
				}
			}
		}
	}
	return nil
}

func (w *world) holds(i int, p uint32, term uint64, since time.Time) bool {
	return slices.ContainsFunc(w.said, func(s promised) bool {
		return s.p == p && s.term == term && s.by == i && !s.at.Before(since) && (s.end.IsZero() || !s.end.Before(s.at.Add(lease)))
	})
}

// agree exchanges beats without a fault, and the words that answers call for, and says what is missing then.
func (w *world) agree() error {
	for p := range uint32(modelPartitions) {
		w.now, w.mute = w.now.Add(2*lease), time.Time{}
		w.elect(w.r.IntN(2), p)
	}
	for i := range w.l {
		for p, term := range w.leads[i] {
			if term == w.terms[p] && w.helped[p] == i {
				w.f.Follow(p, term, leaderName(i))
				w.l[i].Led(p, term, "F")
			} else if term > 0 {
				w.resign(i, p)
			}
		}
	}
	for range 5 {
		w.now = w.now.Add(10 * time.Millisecond)
		for i, l := range w.l {
			if b, ok := l.Beat("F"); ok {
				a := w.f.Heard(leaderName(i), b, w.now)
				for _, lost := range l.Answered("F", b, a, w.now) {
					w.f.Follow(lost.Partition, lost.Term, leaderName(i))
					l.Led(lost.Partition, lost.Term, "F")
				}
			}
		}
	}
	for i, l := range w.l {
		for p, term := range w.leads[i] {
			if term > 0 && !l.Acked(p, term, "F").Equal(w.now) {
				return fmt.Errorf("L%d: partition %d, term %d: acknowledged at %s, it is %s", i, p, term, l.Acked(p, term, "F").Sub(at(0)), w.now.Sub(at(0)))
			}
			if _, _, c := w.f.Contact(p); term > 0 && !c.Equal(w.now) {
				return fmt.Errorf("F misses the leader of partition %d", p)
			}
			if _, over := w.f.Gap(p); term > 0 && over {
				return fmt.Errorf("F waits for no beat of the leader of partition %d", p)
			}
		}
	}
	return nil
}

// schedules runs many short histories. What a leader counts on F has promised and kept; and whatever has happened, a few
// rounds without a fault are enough for all to be acknowledged.
func schedules(t *testing.T, n uint64, reorder bool) {
	acked := 0
	for seed := range n {
		w := newWorld(seed, reorder)
		for range 150 {
			w.step()
			if err := w.check(); err != nil {
				w.fail(t, seed, err)
			}
		}
		for p := range uint32(modelPartitions) {
			for i := range w.l {
				if !w.l[i].Acked(p, w.leads[i][p], "F").IsZero() {
					acked++
				}
			}
		}
		if err := w.agree(); err != nil {
			w.fail(t, seed, err)
		}
	}
	if uint64(acked) < n/10 {
		t.Fatalf("only %d acknowledgements stood at the end of %d histories: the model shows little", acked, n)
	}
}

func (w *world) fail(t *testing.T, seed uint64, err error) {
	t.Helper()
	for _, l := range w.log[max(0, len(w.log)-40):] {
		t.Log(l)
	}
	t.Fatalf("seed %d: %v", seed, err)
}

// TestLeadersCountOnKeptPromises on a wire that keeps the order, as a link does.
func TestLeadersCountOnKeptPromises(t *testing.T) { schedules(t, 3000, false) }
