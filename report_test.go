package adamant

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/liveness"
	"github.com/adamantdb/adamant/mesh"
)

func TestReportRoundTrip(t *testing.T) {
	r := report{Incarnation: "0123456789abcdef", Process: 1 << 63, Number: 9, Base: 7, Version: 3, Lease: 400_000, Members: []memberReport{
		{Partition: 0, Flags: flagComplete | flagDraining, Epoch: 5, Applied: 1 << 40, Leader: "h1@0123456789abcdef", Founding: 1<<64 - 1},
		{Partition: 1<<32 - 1},
	}}
	got, err := decodeReport(r.encode())
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add((&report{Incarnation: "x", Members: []memberReport{{Partition: 1, Leader: "a@b"}}}).encode())
	f.Add([]byte{})
	f.Add([]byte{reportVersion, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReport(b)
		if err != nil {
			return
		}
		if len(r.Members) > maxReportRows || len(r.Members) > len(b) {
			t.Fatalf("%d members out of %d bytes", len(r.Members), len(b))
		}
		if again, err := decodeReport(r.encode()); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

// TestReportsCarryWhatChanged: quiet members are left out, whatever is lost on the way, and both sides agree in the end.
func TestReportsCarryWhatChanged(t *testing.T) {
	now := time.Now()
	sent := sentReports{process: 1, taken: map[string]uint64{}}
	var table reportTable
	members := []memberReport{{Partition: 1}, {Partition: 2}, {Partition: 3}}
	// send makes a report of the present members; lost: it or its answer does not arrive.
	send := func(lost, answerLost bool) *report {
		t.Helper()
		r := report{Incarnation: "i", Members: slices.Clone(members)}
		if rows := sent.reported(); slices.Equal(rows, members) {
			r.Members = rows // as Host.report does
		}
		sent.next(&r)
		p := sent.prepare("b", r)
		err := errors.New("lost")
		if !lost {
			_, err = table.take("a", *p, now)
		}
		if answerLost {
			err = errors.New("lost")
		}
		sent.answered("b", r.Number, err)
		return p
	}
	agree := func() {
		t.Helper()
		have := table.byHost["a"].members
		if len(have) != len(members) {
			t.Fatalf("%d members, want %d", len(have), len(members))
		}
		for _, m := range members {
			if have[m.Partition] != m {
				t.Fatalf("%+v, want %+v", have[m.Partition], m)
			}
		}
	}
	if p := send(false, false); len(p.Members) != 3 || p.Base != 0 {
		t.Fatalf("first: %+v", p)
	}
	if p := send(false, false); len(p.Members) != 0 || p.Base == 0 {
		t.Fatalf("nothing changed: %+v", p)
	}
	members[1].Applied = 7
	if p := send(false, true); len(p.Members) != 1 {
		t.Fatalf("one changed: %+v", p)
	}
	agree()
	if p := send(false, false); p.Base != 0 || len(p.Members) != 3 {
		t.Fatalf("after a lost answer: %+v", p)
	}
	members[0].Applied = 8
	send(true, true)
	members[2].Epoch = 9
	send(false, false)
	agree()
	members = []memberReport{{Partition: 1}, {Partition: 4}, {Partition: 3}} // one went, one came
	if p := send(false, false); p.Base != 0 {
		t.Fatalf("others: %+v", p)
	}
	agree()
	table = reportTable{} // the other host was restarted
	if p := send(false, false); p.Base == 0 {
		t.Fatalf("%+v", p)
	}
	if len(table.byHost) != 0 {
		t.Fatal("a report was taken that builds upon one that is not known")
	}
	send(false, false)
	agree()
	sent = sentReports{process: 2, taken: map[string]uint64{"b": 1}} // this one was, and remembers too much
	send(false, false)
	send(false, false)
	agree()
}

// TestHostsThatComeAndGo are not given leadership back at once: later, the more often they do.
func TestHostsThatComeAndGo(t *testing.T) {
	const heartbeat = 100 * time.Millisecond
	table := reportTable{heartbeat: heartbeat}
	now := time.Now()
	process, number := uint64(1), uint64(0)
	hear := func(after time.Duration) bool {
		t.Helper()
		now, number = now.Add(after), number+1
		r := report{Incarnation: "1", Process: process, Number: number, Members: []memberReport{{Partition: 0}}}
		if _, err := table.take("a", r, now); err != nil {
			t.Fatal(err)
		}
		return !table.peers(0, now)["a@1"].Unsteady
	}
	for range 3 {
		if !hear(freshFor / 2) {
			t.Fatal("a host that was never gone")
		}
	}
	wait := func(want time.Duration) {
		t.Helper()
		for waited := time.Duration(0); ; waited += heartbeat {
			if steady := hear(heartbeat); steady || waited > 2*want {
				if waited < want-2*heartbeat || waited > want {
					t.Fatalf("steady after %s, want %s", waited, want)
				}
				return
			}
		}
	}
	if hear(2 * freshFor) {
		t.Fatal("a host that was silent")
	}
	wait(calm * heartbeat)
	process, number = 2, 0
	if hear(heartbeat) {
		t.Fatal("a host that was restarted")
	}
	wait(2 * calm * heartbeat)
	for range 10 {
		hear(2 * freshFor)
	}
	wait(calm * heartbeat << (maxBreaks - 1))
	for range 2 * forgiven * int(heartbeat) / int(freshFor) {
		hear(freshFor / 2)
	}
	if hear(2 * freshFor) {
		t.Fatal("a host that was silent")
	}
	wait(calm * heartbeat) // long ago
}

// TestReportsTellOfADrain: also when a report that began before it came to be the newest, and nothing has changed since.
func TestReportsTellOfADrain(t *testing.T) {
	c := newTestCluster(t, 1, 3, 1, nil)
	c.ready()
	h := c.host("h1")
	h.report(true)
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	for _, row := range h.report(false).Members {
		if row.Flags&flagDraining == 0 {
			t.Errorf("partition %d: %+v", row.Partition, row)
		}
	}
}

// TestHostsThatGaveUpForTheirDisk are not given leadership back at once.
func TestHostsThatGaveUpForTheirDisk(t *testing.T) { synctest.Test(t, testHostsThatGaveUpForTheirDisk) }

func testHostsThatGaveUpForTheirDisk(t *testing.T) {
	c := newSimCluster(t, 2, 3, 1, nil)
	c.ready()
	h, other := c.host("h1"), c.host("h2")
	m := h.allMembers()[0]
	unsteady := func() bool {
		return other.reports.peers(m.id, time.Now())[h.serverID].Unsteady
	}
	c.wait("a report", func() error {
		if p, ok := other.reports.peers(m.id, time.Now())[h.serverID]; !ok || p.Unsteady {
			return fmt.Errorf("%+v, %v", p, ok)
		}
		return nil
	})
	h.stuck(m, time.Now())
	c.wait("the other host to hear of it", func() error {
		if !unsteady() {
			return errors.New("not yet")
		}
		return nil
	})
	time.Sleep(calm * h.opts.Timing.Heartbeat / 2)
	if !unsteady() {
		t.Error("leadership would be given back at once")
	}
	time.Sleep(calm*h.opts.Timing.Heartbeat/2 + 2*reportWhole)
	if unsteady() {
		t.Error("leadership would never be given back")
	}
}

// TestReportsAndBeatsFit: whatever the number of partitions, and however long the names of hosts, reports, beats and the answers to
// these fit into the frames that they travel in; what is small overtakes other requests.
func TestReportsAndBeatsFit(t *testing.T) {
	limits := mesh.Limits{}.WithDefaults()
	check := func(what string, members int, request, answer []byte) {
		t.Helper()
		r := express(request, time.Second)
		if limit := limits.Payload(r.Class); len(request) > limit || len(answer) > limit {
			t.Errorf("%s of %d members: %d bytes, answer %d, in frames of %d", what, members, len(request), len(answer), limit)
		}
		if members <= 100 && r.Class != mesh.Urgent {
			t.Errorf("%s of %d members is of class %d", what, members, r.Class)
		}
	}
	server := mesh.Identity{Host: strings.Repeat("h", config.MaxName), Incarnation: strings.Repeat("a", 16)}.ID()
	for members := 1; members < config.MaxPartitions; {
		members = min(members*21/20+1, config.MaxPartitions)
		r := report{Incarnation: server, Process: math.MaxUint64, Number: math.MaxUint64, Base: math.MaxUint64, Version: math.MaxUint64, Lease: math.MaxUint64}
		small, large := liveness.Beat{Listed: true}, liveness.Beat{Version: math.MaxUint64, Listed: true}
		var refused liveness.Answer
		for i := range members {
			id := math.MaxUint32 - uint32(members) + uint32(i)
			r.Members = append(r.Members, memberReport{Partition: id, Flags: math.MaxUint8, Epoch: math.MaxUint64, Applied: math.MaxUint64, Leader: server, Founding: math.MaxUint64})
			small.Pairs = append(small.Pairs, liveness.Pair{Partition: id, Term: 1})
			large.Pairs = append(large.Pairs, liveness.Pair{Partition: id, Term: math.MaxUint64})
			refused.Refused = append(refused.Refused, id)
		}
		check("a report", members, append([]byte{callReport}, r.encode()...), nil)
		for _, b := range []liveness.Beat{small, large} {
			check("a beat", members, b.AppendBinary([]byte{callBeat}), refused.AppendBinary(nil))
		}
	}
}
