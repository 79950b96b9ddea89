package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowLine acknowledges everything, each after a time.
type slowLine struct {
	after time.Duration
	asked atomic.Int64
}

func (l *slowLine) ask(ctx context.Context, r request) reply {
	l.asked.Add(1)
	_ = pause(ctx, l.after)
	return reply{Head: r.Delta.SeqEnd}
}
func (l *slowLine) close() error { return nil }

// loop makes a foreground of so many documents behind one line.
func loop(l line, documents int, rate float64) *foreground {
	g := &foreground{clients: &clients{base: context.Background(), lines: map[string]line{"h1": l}}, free: make(chan *client, documents), rate: rate}
	for range documents {
		c := &client{all: g.clients, voters: []string{"h1"}, host: "h1", size: minClientSize, text: make([]byte, minClientSize)}
		g.clients.list = append(g.clients.list, c)
		g.free <- c
	}
	return g
}

// Latencies count from when a write was due: one that a slow write held up is slow itself, and so is one that could not even
// begin.
func TestOpenLoopCountsWhoWaits(t *testing.T) { synctest.Test(t, testOpenLoopCountsWhoWaits) }

func testOpenLoopCountsWhoWaits(t *testing.T) {
	const slow, rate = 100 * time.Millisecond, 1000
	l := &slowLine{after: slow}
	g := loop(l, 1, rate)
	g.start(context.Background())
	time.Sleep(4 * slow)
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	// Some 400 were due, a handful were done.
	if n := g.during.TotalCount(); n < 300 || l.asked.Load() > 10 {
		t.Errorf("%d latencies of %d writes", n, l.asked.Load())
	}
	if p50 := g.during.ValueAtQuantile(50); p50 < (slow * 3 / 2).Microseconds() {
		t.Errorf("p50 is %d µs, though most writes waited for several that took %v", p50, slow)
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) { synctest.Test(t, testOpenLoopKeepsItsRate) }

func testOpenLoopKeepsItsRate(t *testing.T) {
	const slow = 5 * time.Millisecond
	g := loop(&slowLine{after: slow}, 64, 2000)
	begun := time.Now()
	g.start(context.Background())
	time.Sleep(200 * time.Millisecond)
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	want := 2000 * time.Since(begun).Seconds()
	if n := float64(g.during.TotalCount()); n > want+1 || n < 390 {
		t.Errorf("%.0f writes, want about %.0f", n, want)
	}
	if least := g.during.Min(); least < slow.Microseconds()*99/100 {
		t.Errorf("a write that takes %v took %d µs", slow, least)
	}
	if n := g.clients.writes(); n != g.during.TotalCount() {
		t.Errorf("%d acknowledged, %d latencies", n, g.during.TotalCount())
	}
	if c := g.addTo(census{Documents: 1, Heads: 2, Entries: 3}); c.Documents != 65 || c.Heads != 2+g.clients.writes() || c.Entries != 3+g.clients.writes() {
		t.Errorf("%+v", c)
	}
}

// brokenLine refuses for good.
type brokenLine struct{ slowLine }

func (l *brokenLine) ask(context.Context, request) reply { return reply{Code: codeOther, Text: "no"} }

func TestOpenLoopFails(t *testing.T) {
	g := loop(&brokenLine{}, 4, 1000)
	g.start(context.Background())
	<-g.running.ended
	if err := g.stop(); err == nil {
		t.Error("writes that fail are no error")
	}
}
