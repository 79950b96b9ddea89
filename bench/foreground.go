package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/adamantdb/adamant"
)

// Foreground writes go to documents of their own. So many are in flight at the most; a closed loop of closedWriters finds what
// the cluster can do.
const (
	foregroundDocuments = 256
	closedWriters       = 64
)

// foreground writes at a fixed rate, whatever becomes of the writes: an open loop. A write's latency counts from when it
// was due, so that one that had to wait for others to end is as slow as it was for whoever wanted it.
type foreground struct {
	trial   trial
	clients *clients
	free    chan *client
	rate    float64 // writes a second

	before, during *hdrhistogram.Histogram
	running        *openLoop // nil when nothing runs
}

// newForeground makes the documents, and lines to all hosts but the one that will go.
func newForeground(ctx context.Context, r *repairTrial) (*foreground, error) {
	lines, err := r.fleet.lines(ctx)
	if err != nil {
		return nil, err
	}
	if l := lines[r.victim]; l != nil {
		delete(lines, r.victim)
		if err := l.close(); err != nil {
			return nil, errors.Join(err, closeLines(lines))
		}
	}
	g := &foreground{trial: r.trial, clients: &clients{lines: lines, gone: r.victim}, free: make(chan *client, foregroundDocuments)}
	g.clients.base, g.clients.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	rng := rand.New(rand.NewPCG(r.seed, 2))
	for n := range foregroundDocuments {
		key := adamant.Key{Space: "foreground", Key: fmt.Sprintf("d%d", n)}
		p := &r.fleet.cluster.Partitions[r.fleet.cluster.Locate(key.Hash())]
		c := &client{all: g.clients, key: key, voters: p.Voters, host: p.Prefer, size: max(r.settings.Size, minClientSize), undo: []byte(payloadUndo)}
		c.text = make([]byte, max(foregroundText, 2*c.size))
		for i := range c.text {
			if c.text[i] = byte(rng.Uint32()); r.settings.Text {
				c.text[i] = payloadLetters[int(c.text[i])%len(payloadLetters)]
			}
		}
		g.clients.list = append(g.clients.list, c)
	}
	if err := g.clients.create(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	for _, c := range g.clients.list {
		g.free <- c
	}
	return g, nil
}

// foregroundText is so long that the deltas of a document have little in common.
const foregroundText = 32 << 10

// minClientSize leaves room for a seq in a client's delta.
const minClientSize = 64

// calibrate finds the rate that a closed loop reaches, and the latencies at the share of it that is wanted while all hosts
// are whole.
func (g *foreground) calibrate(ctx context.Context) error {
	length := g.trial.settings.Calibrate
	g.trial.tell("calibrating", 0)
	until, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	some := &clients{base: g.clients.base, giveUp: g.clients.giveUp, lines: g.clients.lines, gone: g.clients.gone, list: g.clients.list[:closedWriters]}
	had, begun := some.writes(), time.Now()
	if err := some.run(until, cancel, 0); err != nil {
		return err
	}
	g.rate = float64(some.writes()-had) / time.Since(begun).Seconds() * g.trial.settings.Load
	if ctx.Err() != nil || g.rate == 0 {
		return errors.Join(ctx.Err(), errors.New("no write was acknowledged in a closed loop"))
	}
	g.trial.tell("writing before the repair", 0)
	g.start(ctx)
	err := pause(ctx, length)
	err = errors.Join(err, g.stop())
	g.before = g.during
	return err
}

// start begins to write.
func (g *foreground) start(ctx context.Context) {
	until, cancel := context.WithCancel(ctx)
	l := &openLoop{g: g, rec: newRecorder(), cancel: cancel, ended: make(chan struct{})}
	g.running = l
	go l.run(until)
}

// stop ends that, waits for what is in flight, and keeps the latencies of what was due until then.
func (g *foreground) stop() error {
	l := g.running
	g.running = nil
	l.cancel()
	<-l.ended
	g.during = hdrhistogram.Import(l.rec.snapshot())
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (g *foreground) close() (err error) {
	if g.running != nil {
		err = g.stop()
	}
	return errors.Join(err, g.clients.close())
}

// addTo adds what was written to what all hosts must hold.
func (g *foreground) addTo(c census) census {
	writes := g.clients.writes()
	return census{Documents: c.Documents + int64(len(g.clients.list)), Heads: c.Heads + writes, Entries: c.Entries + writes} // all have been acknowledged
}

func (g *foreground) figures(out figures) error {
	if g.before.TotalCount() == 0 || g.during.TotalCount() == 0 {
		return fmt.Errorf("%d foreground writes before the repair, %d during it: too few to say anything", g.before.TotalCount(), g.during.TotalCount())
	}
	before, during := float64(g.before.ValueAtQuantile(99)), float64(g.during.ValueAtQuantile(99))
	out["foregroundWritesPerSecond"], out["foregroundWritesDuring"] = g.rate, float64(g.during.TotalCount())
	out["foregroundP99BeforeMicros"], out["foregroundP99DuringMicros"], out["foregroundP99Ratio"] = before, during, during/before
	out["foregroundP50BeforeMicros"], out["foregroundP50DuringMicros"] = float64(g.before.ValueAtQuantile(50)), float64(g.during.ValueAtQuantile(50))
	return nil
}

// openLoop is one run of foreground writes.
type openLoop struct {
	g      *foreground
	rec    *recorder
	cancel context.CancelFunc
	ended  chan struct{}
	failed atomic.Pointer[error]
}

// run writes when writes are due, until the context ends. Those that were due by then and could not even begin, because too
// many others were in flight, count as long as they have waited.
func (l *openLoop) run(until context.Context) {
	defer close(l.ended)
	var writes sync.WaitGroup
	defer writes.Wait()
	begun, interval := time.Now(), time.Duration(float64(time.Second)/l.g.rate)
	for n := 0; ; n++ {
		due := begun.Add(time.Duration(n) * interval)
		if wait := time.Until(due); wait > 0 && pause(until, wait) != nil {
			return
		}
		var c *client
		select {
		case c = <-l.g.free: // also when the loop has just ended: this one was due before
		default:
			select {
			case c = <-l.g.free:
			case <-until.Done():
			}
		}
		if c == nil {
			for now := time.Now(); due.Before(now); due = due.Add(interval) {
				l.rec.record(n, now.Sub(due))
			}
			return
		}
		writes.Go(func() { l.write(until, c, n, due) })
	}
}

// write does not give up when the loop ends: what is in flight may be acknowledged.
func (l *openLoop) write(until context.Context, c *client, n int, due time.Time) {
	if err := c.write(context.WithoutCancel(until), askAppend); err != nil {
		l.failed.CompareAndSwap(nil, &err)
		l.cancel()
		return
	}
	l.rec.record(n, time.Since(due))
	l.g.free <- c
}
