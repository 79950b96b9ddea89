package adamant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/simnet"
)

// catastrophe is a cluster of three hosts with an application on it: for each document a copy in memory at the host that leads,
// which appends without a pause, and is loaded anew elsewhere when that host tells of a catastrophic failure.
type catastrophe struct {
	*testCluster
	net  *simnet.Net
	over atomic.Bool
	wg   sync.WaitGroup

	mu     sync.Mutex
	told   map[told][]Catastrophe
	doubts map[told]int // writes that the application was told to be of unknown outcome
	acked  [catastropheDocuments]int64
}

// told is a document at a host.
type told struct {
	host string
	key  Key
}

const catastropheDocuments = 6

func newCatastrophe(t *testing.T) *catastrophe {
	sim := newSimulation()
	c := &catastrophe{net: sim.net, told: map[told][]Catastrophe{}, doubts: map[told]int{}}
	c.net.SetFaults(simnet.Faults{Delay: 5 * time.Millisecond}) // something is in flight nearly all the time
	hosts := map[string]config.Host{}
	for i, name := range []string{"h1", "h2", "h3"} {
		hosts[name] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
	}
	c.testCluster = &testCluster{t: t, sim: sim, hosts: map[string]*Host{}, config: &config.Cluster{Name: "test", Version: 1, Hosts: hosts,
		Partitions: []config.Partition{{ID: 0, Voters: []string{"h1", "h2", "h3"}}}}}
	c.change = func(o *Options) {
		name := o.Host
		o.Events.CatastrophicFailure = func(e Catastrophe) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told[told{name, e.Key}] = append(c.told[told{name, e.Key}], e)
		}
	}
	t.Cleanup(c.close)
	for name := range hosts {
		c.open(name)
	}
	c.ready()
	c.fill(catastropheDocuments, 1, 1) // nobody writes to that one
	return c
}

// leader is the host that serves; "" when there is none.
func (c *catastrophe) leader() string {
	for name, h := range c.live() {
		if _, err := h.Lease(0); err == nil {
			return name
		}
	}
	return ""
}

// batch is what the application sends first of all when it begins at seq: the same bytes each time.
func batch(key Key, seq int64) []Delta {
	return []Delta{testDelta(seq, fmt.Sprintf("%s, %d", key, seq)), testDelta(seq+1, fmt.Sprintf("%s, %d", key, seq+1))}
}

// write is the application's part for one document.
func (c *catastrophe) write(i int) {
	key, at, loaded := testKey(i), c.leader(), true
	for seq := int64(1); !c.over.Load(); {
		h := c.host(at)
		if h != nil && !loaded {
			d, err := h.Get(testContext(c.t), key)
			loaded = err == nil && d.Head >= seq-1 || seq == 1 && errors.As(err, new(*NotFoundError))
			if err == nil && d.Head < seq-1 {
				c.t.Errorf("%s loaded at %s: head %d, acknowledged %d", key, at, d.Head, seq-1)
				return
			}
		}
		if h == nil || !loaded {
			time.Sleep(5 * time.Millisecond)
			at = c.leader()
			continue
		}
		err := c.send(h, key, seq)
		switch {
		case err == nil:
			seq += 2
			c.mu.Lock()
			c.acked[i] = seq - 1
			c.mu.Unlock()
		case errors.As(err, new(*AmbiguousError)):
			if !c.catastrophic(told{at, key}, seq) {
				return
			}
			at, loaded = "", false
		case retriable(err):
			at, loaded = "", false
		default:
			c.t.Errorf("%s at seq %d: %v", key, seq, err)
			return
		}
	}
}

func (c *catastrophe) send(h *Host, key Key, seq int64) error {
	ctx := testContext(c.t)
	if seq > 1 {
		_, err := h.Append(ctx, key, batch(key, seq))
		return err
	}
	if err := h.Create(ctx, key, batch(key, 1)[0]); err != nil && Code(err) != CodeExists { // an earlier try of unknown outcome
		return err
	}
	_, err := h.Append(ctx, key, batch(key, 1)[1:])
	return err
}

// catastrophic waits for the event that goes with a write of unknown outcome.
func (c *catastrophe) catastrophic(at told, seq int64) bool {
	c.mu.Lock()
	c.doubts[at]++
	nth := c.doubts[at]
	c.mu.Unlock()
	for deadline := time.Now().Add(bound); ; time.Sleep(time.Millisecond) {
		var e Catastrophe
		c.mu.Lock()
		seen := 0
		for _, e = range c.told[at] {
			if e.Unknown {
				seen++
			}
			if seen == nth {
				break
			}
		}
		c.mu.Unlock()
		if seen == nth {
			if e.Partition != 0 || e.Epoch == 0 || e.Reason == "" || e.LastSeq < seq-1 && !(e.LastSeq == -1 && seq == 1) {
				c.t.Errorf("told of %v while seq %d was in flight: %+v", at, seq, e)
				return false
			}
			return true
		}
		if time.Now().After(deadline) {
			c.t.Errorf("%v: no event for %d writes of unknown outcome", at, nth)
			return false
		}
	}
}

// progress waits until every document has grown.
func (c *catastrophe) progress() {
	c.t.Helper()
	c.mu.Lock()
	before := c.acked
	c.mu.Unlock()
	c.wait("every document to grow", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range before {
			if c.acked[i] < before[i]+4 {
				return fmt.Errorf("%s: %d acknowledged, %d before", testKey(i), c.acked[i], before[i])
			}
		}
		return nil
	})
}

// inDoubt counts the documents for which an outcome was unknown.
func (c *catastrophe) inDoubt() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.doubts)
}

// verify compares what every host holds, delta for delta, with what was sent, and what was told with what was in doubt.
func (c *catastrophe) verify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, events := range c.told {
		n := 0
		for _, e := range events {
			if e.Unknown {
				n++
			}
		}
		if n != c.doubts[at] {
			c.t.Errorf("%v: %d writes of unknown outcome, told of %+v", at, c.doubts[at], events)
		}
	}
	for name := range c.live() {
		for i := range catastropheDocuments {
			c.wait("the last deltas", func() error { return c.stored(name, i, c.acked[i]) })
		}
	}
}

// stored compares what a host holds of a document, delta for delta, with what was sent. A follower may be about to apply the last.
func (c *catastrophe) stored(host string, i int, acked int64) error {
	next := int64(1)
	for e, err := range c.host(host).Log(context.Background(), testKey(i), WithConsistency(ReadStale)) {
		if err != nil {
			return err
		}
		want := batch(testKey(i), next)[0]
		if e.Delta.SeqBegin != next || e.Delta.SeqEnd != next || !bytes.Equal(e.Delta.Redo, want.Redo) || !bytes.Equal(e.Delta.Undo, want.Undo) {
			c.t.Fatalf("%s: %s: %+v in the place of seq %d", host, testKey(i), e.Delta, next)
		}
		next++
	}
	if next-1 < acked {
		return fmt.Errorf("%s: %s ends at %d, acknowledged %d", host, testKey(i), next-1, acked)
	}
	return nil
}

// TestCatastrophicFailure (design §9): a leader with writes in flight is cut off, or its requests arrive and no answer comes
// back. Each document with a write of unknown outcome gets an event there, and no other does; the application loads the document
// at the new leader and sends the same deltas again; every host holds each of them once.
func TestCatastrophicFailure(t *testing.T) {
	for name, cut := range map[string]func(n *simnet.Net, leader, other string){
		"isolated":     func(n *simnet.Net, l, o string) { n.Cut(l, o) },
		"answers lost": func(n *simnet.Net, l, o string) { n.CutOneWay(o, l) },
	} {
		t.Run(name, simulated(func(t *testing.T) {
			c := newCatastrophe(t)
			for i := range catastropheDocuments {
				c.wg.Go(func() { c.write(i) })
			}
			defer c.wg.Wait()
			defer c.over.Store(true)
			for before := 0; c.inDoubt() == before && !t.Failed(); { // the leader may have lost office just before
				before = c.inDoubt()
				c.progress()
				leader := c.leader()
				for _, other := range c.config.HostNames() {
					if other != leader && leader != "" {
						cut(c.net, leader, other)
					}
				}
				c.progress()
				if now := c.leader(); now == leader && leader != "" {
					t.Errorf("%s leads on", leader)
				}
				c.net.Heal()
			}
			c.progress()
			c.over.Store(true)
			c.wg.Wait()
			c.healthy()
			c.verify()
		}))
	}
}
