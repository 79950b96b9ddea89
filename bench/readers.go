package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
)

// Readers ask every host for every document: one that no longer leads must refuse. A host that stands still answers what it
// was asked meanwhile when it goes on, at once and before it has heard of anything: that is what is tested most.
const (
	readsAtOnce = 64                    // of one document at one host; more are left out
	eagerly     = 20 * time.Millisecond // between two reads of a document whose leader was taken away, and of all at a host that is back
	quorumEvery = 4                     // so many reads of a host are from the lease until one asks a quorum
	readTimeout = 15 * time.Second      // longer than most hosts stand still
)

// read lets readers ask until the context ends, and waits for what is in flight then.
func (all *clients) read(until context.Context, every time.Duration) {
	var work sync.WaitGroup
	number := 0
	for _, c := range all.list {
		for host := range all.lines {
			number++
			r := &reader{client: c, host: host, number: number, slots: make(chan struct{}, readsAtOnce)}
			work.Go(func() { r.run(until, every) })
		}
	}
	work.Wait()
}

// reader asks one host for one document.
type reader struct {
	client *client
	host   string
	number int // to tell its reads from others'
	slots  chan struct{}
	asked  int
}

func (r *reader) run(until context.Context, every time.Duration) {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(r.client.all.base)
	defer cancel() // what is still unanswered when nobody writes any more tells nothing
	for {
		wait := every/2 + rand.N(every+1)
		if r.client.all.attentive(r.host) || r.client.interrupted() {
			wait = min(wait, eagerly)
		}
		if pause(until, wait) != nil {
			return
		}
		level := adamant.ReadLease
		if r.asked++; r.asked%quorumEvery == 0 {
			level = adamant.ReadQuorum
		}
		select {
		case r.slots <- struct{}{}:
			work.Go(func() {
				r.once(ctx, level)
				<-r.slots
			})
		default:
		}
	}
}

// once reads what a reader at the head that was acknowledged last lacks.
func (r *reader) once(ctx context.Context, level adamant.Consistency) {
	c := r.client
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	known := c.acknowledged()
	s := sight{client: r.number, host: r.host, known: known, call: c.all.now()}
	a := c.all.lines[r.host].ask(ctx, request{Do: askHead, Key: c.key, After: max(known-1, 0), Level: level, Partition: c.partition})
	s.ret = c.all.now()
	if a.Code != 0 {
		return // refused
	}
	s.head, s.epoch, s.newest = a.Head, a.Epoch, a.Newest
	c.seen.read(s)
}

// attentive says whether a host is back since a moment ago.
func (all *clients) attentive(host string) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.back == host && time.Since(all.backAt) < attention
}

// attention is how long a host that is back is asked eagerly.
const attention = time.Second

// interrupted says whether the document's leader was taken away and nobody else has served it yet, or only just.
func (c *client) interrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut.led && (c.cut.after.IsZero() || time.Since(c.cut.after) < attention)
}
