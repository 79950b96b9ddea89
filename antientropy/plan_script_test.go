package antientropy

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata/*.txt")

// TestPlanStories plays testdata/*.txt: blocks of one event with its expected outputs, separated by "----". Lines before
// a block that begin with # are the story's text. The grammar of events is story.play.
func TestPlanStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playFile(t, file) })
	}
}

func playFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newStory()
	var out bytes.Buffer
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, want, found := strings.Cut(block, "----")
		if !found {
			fmt.Fprintf(&out, "%s\n\n", block)
			continue
		}
		var got strings.Builder
		for _, line := range strings.Split(strings.TrimSpace(head), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			lines, err := s.play(line)
			if err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			for _, l := range lines {
				fmt.Fprintln(&got, l)
			}
		}
		if !*update && strings.TrimSpace(got.String()) != strings.TrimSpace(want) {
			t.Fatalf("after\n%s\ngot\n%s\nwant\n%s", head, got.String(), strings.TrimSpace(want))
		}
		fmt.Fprintf(&out, "%s----\n%s\n", head, got.String())
	}
	if *update {
		if err := os.WriteFile(file, append(bytes.TrimSpace(out.Bytes()), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// story drives one plan.
type story struct {
	p      *plan
	o      planOptions
	start  time.Time
	now    time.Time
	random []float64              // to be used up; then 0.5
	sleeps bool                   // show when the plan wants to be woken
	healed map[uint8]interval.Set // by buckets that are finished as soon as the plan wants it
}

func newStory() *story {
	s := &story{start: time.Unix(1000, 0), healed: map[uint8]interval.Set{}}
	s.now = s.start
	s.o = planOptions{interval: 10 * time.Second, quiet: 10 * time.Minute, perPeer: 2, limit: 1 << 20, memory: 64 << 20, random: s.draw}
	return s
}

func (s *story) draw() float64 {
	if len(s.random) == 0 {
		return 0.5
	}
	v := s.random[0]
	s.random = s.random[1:]
	return v
}

// play takes one line: a verb and key=value words.
//
//	options interval= quiet= perPeer= limit= memory= rate=     before the first event
//	random 0.1 0.9 ...                                   the next draws
//	show sleeps | show calls                            whether sleeps are shown
//	wait 2s                                              time passes, and the plan is told
//	restart                                              a new plan
//	later 2s                                             time passes before the next event
//	observe p= applied= holes= peers=b,c:sick,d:dead healed=0-127:[1,5] replica
//	gone p=     want p= bucket= hash=     forgive p=
//	compared call= took= fail= outcome=same|other|elsewhere|unavailable index= truth=both|mine|theirs|none unable differ= docs= missing= coverage=
//	answered call= took= bytes= fail= ended=0-31 failed=7:refused lists= pulls= large= coverage=
//	answered ... finished=0-31:[1,100]                   the same as ended=, and settled as soon as the plan wants it
//	settled session= finished=0-31:[1,100] failed=7:local
//	fetched call= fail=     diagnosed call= keys=a,b undecided fail=     marked p= buckets= lost= healed= err     closed p= holes= healed= err
func (s *story) play(line string) ([]string, error) {
	verb, rest, _ := strings.Cut(line, " ")
	w, err := parseWords(rest)
	if err != nil {
		return nil, err
	}
	switch verb {
	case "options":
		w.duration("interval", &s.o.interval)
		w.duration("quiet", &s.o.quiet)
		w.int("perPeer", &s.o.perPeer)
		w.int("limit", &s.o.limit)
		w.int64("memory", &s.o.memory)
		w.int64("rate", &s.o.rate)
		return nil, w.err
	case "random":
		for _, v := range strings.Fields(rest) {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return nil, err
			}
			s.random = append(s.random, f)
		}
		return nil, nil
	case "show":
		s.sleeps = rest == "sleeps"
		return nil, nil
	case "restart":
		s.p = nil
		return nil, nil
	case "later":
		d, err := time.ParseDuration(rest)
		s.now = s.now.Add(d)
		return nil, err
	case "wait":
		d, err := time.ParseDuration(rest)
		s.now = s.now.Add(d)
		return s.step(tick{}), err
	}
	e, err := s.event(verb, w)
	if err != nil {
		return nil, err
	}
	return s.step(e), nil
}

func (s *story) event(verb string, w *words) (event, error) {
	var e event
	switch verb {
	case "observe":
		o := observed{Partition: w.partition(), Holes: w.set("holes"), Healed: w.healed("healed"), Peers: w.peers(), Voter: !w.flag("replica")}
		w.uint64("applied", &o.Applied)
		e = o
	case "gone":
		e = gone{w.partition()}
	case "forgive":
		e = forgiven{w.partition()}
	case "want":
		o := wanted{Partition: w.partition()}
		b := 0
		w.int("bucket", &b)
		w.uint64("hash", &o.Hash)
		o.Bucket = uint8(b)
		e = o
	case "compared":
		e = w.compared()
	case "answered":
		a := answered{result: w.result(), Coverage: w.set("coverage"), Failed: w.failed()}
		w.int("lists", &a.Lists)
		w.int("pulls", &a.Pulls)
		w.int("large", &a.Large)
		a.Ended = w.buckets("ended")
		for _, f := range w.finished() {
			a.Ended, s.healed[f.Bucket] = append(a.Ended, f.Bucket), f.Healed
		}
		e = a
	case "settled":
		d := settled{Finished: w.finished(), Failed: w.failed()}
		w.uint64("session", &d.Session)
		e = d
	case "fetched":
		e = fetched{w.result()}
	case "diagnosed":
		d := diagnosed{result: w.result(), Undecided: w.flag("undecided")}
		for _, k := range strings.FieldsFunc(w.take("keys"), func(r rune) bool { return r == ',' }) {
			d.Documents = append(d.Documents, Document{Reason: k})
		}
		e = d
	case "marked":
		m := marked{Partition: w.partition(), Buckets: w.buckets("buckets"), Lost: w.buckets("lost"), Healed: w.set("healed")}
		if w.flag("err") {
			m.Err = errors.New("engine closed")
		}
		e = m
	case "closed":
		c := closed{Partition: w.partition(), Holes: w.set("holes"), Healed: w.healed("healed")}
		if w.flag("err") {
			c.Err = errors.New("engine closed")
		}
		e = c
	default:
		return nil, fmt.Errorf("unknown verb %q", verb)
	}
	if s.p != nil && w.call > 0 && s.p.calls[w.call] == nil {
		return nil, fmt.Errorf("no call %d in flight", w.call)
	}
	return e, w.end()
}

func (s *story) step(e event) []string {
	if s.p == nil {
		s.p = newPlan(s.o, s.now)
	}
	var lines []string
	var settle []settled
	for _, o := range s.p.step(e, s.now) {
		if z, ok := o.(sleep); ok {
			if s.sleeps {
				lines = append(lines, s.describeSleep(z))
			}
			continue
		}
		if f, ok := o.(finish); ok && s.settles(f) {
			var list []finishedBucket
			for _, b := range f.Buckets {
				list = append(list, finishedBucket{b, s.healed[b]})
				delete(s.healed, b)
			}
			settle = append(settle, settled{Session: f.Session, Finished: list})
			continue
		}
		lines = append(lines, describe(o))
	}
	for _, e := range settle {
		lines = append(lines, s.step(e)...)
	}
	if err := checkPlan(s.p); err != nil {
		lines = append(lines, "BROKEN: "+err.Error())
	}
	return lines
}

// settles reports whether the story has told what becomes of the buckets.
func (s *story) settles(f finish) bool {
	return !slices.ContainsFunc(f.Buckets, func(b uint8) bool { return s.healed[b] == nil })
}

func (s *story) describeSleep(z sleep) string {
	if z.Until.IsZero() {
		return "sleep"
	}
	return fmt.Sprintf("sleep %s", z.Until.Sub(s.now).Round(time.Millisecond))
}

func describe(o output) string {
	switch o := o.(type) {
	case compare:
		at := "its applied index"
		if o.At > 0 {
			at = fmt.Sprint(o.At)
		}
		return fmt.Sprintf("call %d: compare p%d with %s at %s", o.Call, o.Partition, o.Peer, at)
	case list:
		if o.Buckets == nil {
			return fmt.Sprintf("call %d: session %d lists more of %s", o.Call, o.Session, o.Peer)
		}
		return fmt.Sprintf("call %d: session %d lists p%d buckets %s of %s", o.Call, o.Session, o.Partition, ranges(o.Buckets), o.Peer)
	case pull:
		return fmt.Sprintf("call %d: session %d pulls up to %d", o.Call, o.Session, o.Limit)
	case fetch:
		within := ""
		if o.Session > 0 {
			within = fmt.Sprintf(" within session %d", o.Session)
		}
		return fmt.Sprintf("call %d: fetch p%d document %x of %s%s", o.Call, o.Partition, o.Hash, o.Peer, within)
	case diagnose:
		return fmt.Sprintf("call %d: diagnose p%d bucket %d of %s, different at %d", o.Call, o.Partition, o.Bucket, o.Peer, o.Index)
	case finish:
		return fmt.Sprintf("session %d finishes buckets %s", o.Session, ranges(o.Buckets))
	case drop:
		return fmt.Sprintf("end session %d", o.Session)
	case giveUp:
		return fmt.Sprintf("session %d gives up buckets %s", o.Session, ranges(o.Buckets))
	case mark:
		return fmt.Sprintf("mark p%d buckets %s healed %s", o.Partition, ranges(o.Buckets), o.Healed)
	case closeHoles:
		return fmt.Sprintf("close holes of p%d", o.Partition)
	case report:
		var names []string
		for _, d := range o.Divergence.Documents {
			names = append(names, d.Reason)
		}
		return fmt.Sprintf("DIVERGED p%d from %s at %d: bucket %d, documents %v", o.Divergence.Partition, o.Divergence.Peer, o.Divergence.Index,
			o.Divergence.Bucket, names)
	}
	return fmt.Sprintf("%T", o)
}

func ranges(buckets []uint8) string {
	var set interval.Set
	for _, b := range buckets {
		set = set.Union(interval.Of(uint64(b), uint64(b)))
	}
	var parts []string
	for _, r := range set {
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(parts, ",")
}

// checkPlan verifies the invariants that plan states.
func checkPlan(p *plan) error {
	flights, reserved := map[*host]int{}, int64(0)
	for _, c := range p.calls {
		flights[c.host]++
		reserved += c.reserved
	}
	if reserved != p.reserved || p.reserved > p.o.memory && len(p.calls) > 1 && reservers(p) > 1 {
		return fmt.Errorf("%d bytes reserved, %d by calls", p.reserved, reserved)
	}
	sessions := map[*host]map[*session]bool{}
	for _, pt := range p.parts {
		if err := checkPart(p, pt); err != nil {
			return err
		}
		if pt.buckets == nil {
			continue
		}
		for i := range pt.buckets {
			b := &pt.buckets[i]
			if b.session == nil {
				continue
			}
			if !b.busy || !b.session.has(uint8(i)) || b.session.gone {
				return fmt.Errorf("p%d bucket %d and its session disagree", pt.id, i)
			}
			if sessions[b.session.host] == nil {
				sessions[b.session.host] = map[*session]bool{}
			}
			if !b.session.vacated {
				sessions[b.session.host][b.session] = true
			}
			if err := checkSession(p, b.session); err != nil {
				return err
			}
		}
		if !pt.holes.Covers(pt.buckets[0].missing) {
			return fmt.Errorf("p%d misses more than its holes", pt.id)
		}
	}
	for _, s := range p.ready {
		if s.gone || s.vacated || s.busy {
			return fmt.Errorf("session %d is to send a request, and has none", s.id)
		}
	}
	if len(p.finishes) > mostFinishes {
		return fmt.Errorf("%d finishes", len(p.finishes))
	}
	for _, h := range p.hosts {
		if flights[h] != h.inFlight || h.inFlight > p.o.perPeer {
			return fmt.Errorf("%d calls to %s, counted %d", flights[h], h.name, h.inFlight)
		}
		if len(sessions[h]) != h.sessions || h.sessions > p.o.perPeer {
			return fmt.Errorf("%d sessions with %s, counted %d", len(sessions[h]), h.name, h.sessions)
		}
	}
	return nil
}

// checkSession verifies that a session waits for something.
func checkSession(p *plan, s *session) error {
	switch {
	case s.vacated && len(s.buckets) > 0:
		return fmt.Errorf("session %d has something to ask, and no place", s.id)
	case !s.vacated && !s.busy && !slices.Contains(p.ready, s), s.vacated && len(s.ended)+len(s.ending) == 0:
		return fmt.Errorf("session %d waits for nothing", s.id)
	case (len(s.ended) > 0) != slices.Contains(p.ended, s), (len(s.ending) > 0) != (p.finishes[s.id] == s):
		return fmt.Errorf("session %d, finishing %d and %d buckets, is not where it belongs", s.id, len(s.ending), len(s.ended))
	}
	return nil
}

// checkPart verifies that a member is kept where it belongs, and that a healthy one keeps no buckets.
func checkPart(p *plan, pt *part) error {
	places := 0
	for _, l := range p.late {
		if l == pt {
			places++
		}
	}
	if e := &pt.entry; e.in == inAgenda {
		places++
		if e.slot >= len(p.agenda) || p.agenda[e.slot] != pt || !e.turn.Equal(pt.up()) {
			return fmt.Errorf("p%d is not in the agenda where it says", pt.id)
		}
	}
	waits := !pt.sick() && !pt.comparing
	if want := map[bool]int{true: 1}[waits]; places != want {
		return fmt.Errorf("p%d waits in %d places, sick %v, comparing %v", pt.id, places, pt.sick(), pt.comparing)
	}
	if pt.sick() && pt.buckets == nil || !pt.sick() && pt.buckets != nil && !slices.Contains(p.cooling, pt) {
		return fmt.Errorf("p%d has buckets: %v, sick: %v", pt.id, pt.buckets != nil, pt.sick())
	}
	return nil
}

func reservers(p *plan) int {
	n := 0
	for _, c := range p.calls {
		if c.reserved > 0 {
			n++
		}
	}
	return n
}
