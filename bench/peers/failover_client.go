package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
)

// clients write and read keys at all hosts, from a process that none of them runs in.
type clients struct {
	settings failoverSettings
	hosts    []reach
	list     []*client
	gone     atomic.Int64 // the host that was taken away, −1 for none
}

// client writes one key, one write at a time. Only its own goroutine uses it, but for what mu guards.
type client struct {
	all    *clients
	key    adamant.Key
	host   int // to ask first
	filler []byte

	mu    sync.Mutex
	seq   int64       // of the last write that was acknowledged
	acks  []time.Time // of all of them
	begun time.Time   // when the last acknowledged one was begun
	reads int64
	stale int64
}

func newClients(s failoverSettings, hosts []reach, keys, homes []int) *clients {
	all := &clients{settings: s, hosts: hosts}
	all.gone.Store(-1)
	rng := rand.New(rand.NewPCG(s.Seed, 7))
	for _, n := range keys {
		all.list = append(all.list, &client{all: all, key: documentKey(n), host: homes[n], filler: newPayload(rng, s.Size), seq: 1})
	}
	return all
}

// write lets every client write until the context ends. The first that fails stops the others.
func (all *clients) write(until context.Context, stop func()) error {
	return each(all.list, func(_ int, c *client) error {
		for until.Err() == nil {
			if err := c.write(until); err != nil {
				stop()
				return err
			}
			if t := all.settings.Think; t > 0 {
				rest(until, t)
			}
		}
		return nil
	})
}

// write makes one write durable: at one host after the other, each of which has so long to answer.
func (c *client) write(until context.Context) error {
	seq, begun := c.seq+1, time.Now()
	value := sequenced(seq, c.filler)
	for {
		ctx, cancel := context.WithTimeout(until, c.all.settings.Attempt)
		leader, err := c.all.hosts[c.host].put(ctx, c.key, seq, value)
		cancel()
		if err == nil {
			c.acknowledge(seq, begun, time.Now())
			return nil
		}
		if until.Err() != nil {
			return nil // the outcome is unknown; nobody asks
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("key %s: no acknowledgement in %v: %w", c.key, patience, err)
		}
		if gone := c.all.gone.Load(); leader >= 0 && leader < len(c.all.hosts) && int64(leader) != gone && leader != c.host {
			c.host = leader
			continue
		}
		c.next()
		rest(until, retryPause)
	}
}

// next turns to another host.
func (c *client) next() {
	for range c.all.hosts {
		if c.host = (c.host + 1) % len(c.all.hosts); int64(c.host) != c.all.gone.Load() {
			return
		}
	}
}

func (c *client) acknowledge(seq int64, begun, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq, c.begun = seq, begun
	c.acks = append(c.acks, now)
}

func (c *client) acknowledged() (seq int64, begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq, c.begun
}

// gap is the longest time between two acknowledgements of which the later one came after a moment, 0 if none came.
func (c *client) gap(after time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.acks); i++ {
		if c.acks[i].After(after) {
			longest = max(longest, c.acks[i].Sub(c.acks[i-1]))
		}
	}
	return longest
}

// readPatience is longer than most hosts stand still: what was asked meanwhile must not be answered as if it had been then.
const readPatience = 15 * time.Second

// read lets readers ask every host for every key until the context ends.
func (all *clients) read(until context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for _, c := range all.list {
		for _, h := range all.hosts {
			work.Go(func() {
				for until.Err() == nil {
					rest(until, all.settings.Read/2+rand.N(all.settings.Read+1))
					c.look(until, h)
				}
			})
		}
	}
}

// look reads once; a refusal tells nothing.
func (c *client) look(until context.Context, h reach) {
	known, _ := c.acknowledged()
	ctx, cancel := context.WithTimeout(until, readPatience)
	defer cancel()
	seq, err := h.get(ctx, c.key)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads++; seq < known {
		c.stale++
	}
}

// readBack counts the acknowledged writes that are not there any more.
func (all *clients) readBack(ctx context.Context) (lost int64, err error) {
	for _, c := range all.list {
		seq, err := c.find(ctx)
		if err != nil {
			return 0, err
		}
		lost += max(c.seq-seq, 0)
	}
	return lost, nil
}

// find asks all hosts in turn until one answers.
func (c *client) find(ctx context.Context) (int64, error) {
	for begun := time.Now(); ; c.next() {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		seq, err := c.all.hosts[c.host].get(attempt, c.key)
		cancel()
		if err == nil {
			return seq, nil
		}
		if ctx.Err() != nil || time.Since(begun) > patience {
			return 0, fmt.Errorf("read %s: %w", c.key, err)
		}
		rest(ctx, retryPause)
	}
}

// restored waits until every one of some clients has written what it began after a moment.
func restored(ctx context.Context, list []*client, after time.Time) error {
	return until(ctx, "every key is written again", func() bool {
		return !slices.ContainsFunc(list, func(c *client) bool {
			_, begun := c.acknowledged()
			return !begun.After(after)
		})
	})
}

func (all *clients) close() error {
	var errs []error
	for _, h := range all.hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

// rest waits, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
