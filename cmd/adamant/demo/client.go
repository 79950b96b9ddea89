package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
)

// node is what the demo uses of a host; *adamant.Host satisfies it.
type node interface {
	Create(ctx context.Context, key adamant.Key, delta adamant.Delta) error
	Append(ctx context.Context, key adamant.Key, deltas []adamant.Delta) (head int64, err error)
	Get(ctx context.Context, key adamant.Key, opts ...adamant.ReadOption) (adamant.Document, error)
	Log(ctx context.Context, key adamant.Key, opts ...adamant.ReadOption) iter.Seq2[adamant.LogEntry, error]
	Locate(key adamant.Key) adamant.Location
	Status() adamant.Status
	Metrics() adamant.Metrics
	WaitReady(ctx context.Context) error
	Kill() error
	Close() error
}

// client routes operations to leaders and retries them, as the client of an application would. It knows all hosts and
// that some may be dead. Safe for concurrent use.
type client struct {
	nodes func() map[string]node // the live ones now
	try   time.Duration          // bound of one attempt to write
	read  time.Duration          // bound of one attempt to read, which may be a long document

	redirects, unavailable, ambiguous, settled atomic.Int64
}

const (
	firstPause = 2 * time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// violation is an answer that breaks the contract: retrying would hide it.
type violation struct {
	key  adamant.Key
	what string
	err  error
}

func (v *violation) Error() string { return fmt.Sprintf("document %s: %s: %v", v.key, v.what, v.err) }
func (v *violation) Unwrap() error { return v.err }

// create makes a document with its first delta, and returns once that is acknowledged. A create whose outcome was unknown
// and which is then told that the document exists has succeeded: nobody else writes it.
func (c *client) create(ctx context.Context, key adamant.Key, d adamant.Delta) error {
	return c.retry(ctx, key, c.try, func(ctx context.Context, n node, unsure bool) error {
		err := n.Create(ctx, key, d)
		var exists *adamant.ExistsError
		if errors.As(err, &exists) {
			if unsure {
				c.settled.Add(1)
				return nil
			}
			return &violation{key, "exists although nobody created it", err}
		}
		return err
	})
}

// append adds deltas and returns once they are acknowledged. Repeating the same deltas after an unknown outcome is what
// makes it happen exactly once: if they did take effect the store says so, or names their end as the head.
func (c *client) append(ctx context.Context, key adamant.Key, deltas []adamant.Delta) error {
	want := deltas[len(deltas)-1].SeqEnd
	return c.retry(ctx, key, c.try, func(ctx context.Context, n node, unsure bool) error {
		head, err := n.Append(ctx, key, deltas)
		var mismatch *adamant.SeqMismatchError
		var missing *adamant.NotFoundError
		switch {
		case err == nil && head != want:
			return &violation{key, fmt.Sprintf("acknowledged at %d instead of %d", head, want), errors.New("wrong head")}
		case errors.As(err, &mismatch) && unsure && mismatch.Head == want:
			c.settled.Add(1)
			return nil
		case errors.As(err, &mismatch), errors.As(err, &missing):
			return &violation{key, fmt.Sprintf("an append of [%d, %d] does not fit", deltas[0].SeqBegin, want), err}
		}
		return err
	})
}

// get reads a document at its leader.
func (c *client) get(ctx context.Context, key adamant.Key) (d adamant.Document, err error) {
	err = c.retry(ctx, key, c.read, func(ctx context.Context, n node, _ bool) error {
		d, err = n.Get(ctx, key)
		return err
	})
	return d, err
}

// log reads a document's deltas at its leader.
func (c *client) log(ctx context.Context, key adamant.Key) (list []adamant.Delta, err error) {
	err = c.retry(ctx, key, c.read, func(ctx context.Context, n node, _ bool) error {
		list = nil
		for e, err := range n.Log(ctx, key) {
			if err != nil {
				return err
			}
			list = append(list, e.Delta)
		}
		return nil
	})
	return list, err
}

// retry does an operation at the leader until it succeeds, fails for good, or the context ends; each attempt is bounded. unsure tells the operation
// that an earlier attempt may have taken effect.
func (c *client) retry(ctx context.Context, key adamant.Key, bound time.Duration, do func(ctx context.Context, n node, unsure bool) error) error {
	unsure := false
	pause := firstPause
	target := ""
	for {
		name, n := c.pick(key, target)
		var err error
		if n == nil {
			err = &adamant.UnavailableError{Reason: "no host is alive"}
		} else {
			attempt, cancel := context.WithTimeout(ctx, bound)
			err = do(attempt, n, unsure)
			cancel()
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
		next, again, tookEffect := c.judge(err)
		if !again {
			return err
		}
		unsure = unsure || tookEffect
		if next != "" && next != name && next != target { // the named leader is worth an immediate attempt, once
			target = next
			continue
		}
		target = ""
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, lastPause)
	}
}

// judge says what to do after an error: which host to ask next if that is known, whether trying again makes sense, and
// whether the attempt may have taken effect.
func (c *client) judge(err error) (next string, again, unsure bool) {
	var elsewhere *adamant.NotLeaderError
	var unavailable *adamant.UnavailableError
	var closed *adamant.ClosedError
	var ambiguous *adamant.AmbiguousError
	switch {
	case errors.As(err, &elsewhere):
		c.redirects.Add(1)
		return elsewhere.Leader, true, false
	case errors.As(err, &ambiguous), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		c.ambiguous.Add(1)
		return "", true, true
	case errors.As(err, &unavailable), errors.As(err, &closed):
		c.unavailable.Add(1)
		return "", true, false
	}
	return "", false, false
}

// pick chooses the host to ask: the one asked for, else the leader that any live host knows of, else any live host.
func (c *client) pick(key adamant.Key, target string) (string, node) {
	live := c.nodes()
	if n := live[target]; n != nil {
		return target, n
	}
	if len(live) == 0 {
		return "", nil
	}
	names := slices.Sorted(maps.Keys(live))
	asked := names[rand.IntN(len(names))]
	if leader := live[asked].Locate(key).Leader; live[leader] != nil {
		return leader, live[leader]
	}
	return asked, live[asked]
}
