//go:build unix

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// verdict is what an answer says of an operation.
type verdict uint8

const (
	done     verdict = iota // it happened
	refused                 // it did not, and may later, or elsewhere
	unknown                 // it may have
	answered                // it did not, for what the document is like
	broken                  // nobody should ever be told this
)

// judge tells what an error means.
func judge(err error) verdict {
	var gone *httpapi.UnreachableError
	var other *httpapi.Error
	switch {
	case err == nil:
		return done
	case errors.As(err, new(*adamant.NotLeaderError)), errors.As(err, new(*adamant.UnavailableError)), errors.As(err, new(*adamant.SafeModeError)):
		return refused
	case errors.As(err, new(*adamant.AmbiguousError)):
		return unknown
	case errors.As(err, new(*adamant.SeqMismatchError)), errors.As(err, new(*adamant.NotFoundError)), errors.As(err, new(*adamant.ExistsError)),
		errors.As(err, new(*adamant.FutureError)), errors.As(err, new(*adamant.HorizonError)):
		return answered
	case errors.As(err, &gone):
		if gone.Sent {
			return unknown
		}
		return refused
	case errors.As(err, &other):
		switch other.Kind {
		case httpapi.KindBusy, httpapi.KindTimeout, httpapi.KindClosed:
			return refused
		case httpapi.KindInternal: // of a host whose storage fails at that moment
			return unknown
		}
	}
	return broken
}

// route remembers which host leads each partition.
type route struct {
	f       *field
	leaders []atomic.Int32 // by position in the cluster file: 1 + position of the host, 0 for unknown
}

func newRoute(f *field) *route {
	return &route{f: f, leaders: make([]atomic.Int32, len(f.cluster.Load().Partitions))}
}

// at is where the document's leader is thought to be, or any host.
func (t *route) at(key adamant.Key, r *rand.Rand) *host {
	if i := t.leaders[t.f.cluster.Load().Locate(key.Hash())].Load(); i > 0 {
		return t.f.hosts[i-1]
	}
	return t.f.hosts[r.IntN(len(t.f.hosts))]
}

// learn takes from an answer where the leader is.
func (t *route) learn(key adamant.Key, asked *host, err error) {
	to := &t.leaders[t.f.cluster.Load().Locate(key.Hash())]
	var elsewhere *adamant.NotLeaderError
	name := ""
	switch v := judge(err); {
	case errors.As(err, &elsewhere):
		name = elsewhere.Leader
	case v == done || v == answered:
		name = asked.name
	}
	for i, h := range t.f.hosts {
		if h.name == name {
			to.Store(int32(i + 1))
			return
		}
	}
	to.Store(0)
}

// persist repeats a write until it is known to have happened, or the answer says something of the document, or the context ends.
// The write has to be one that takes effect once, however often it is sent.
func (t *route) persist(ctx context.Context, key adamant.Key, r *rand.Rand, write func(context.Context, *host) error) (doubt bool, err error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		h := t.at(key, r)
		once, cancel := context.WithTimeout(ctx, time.Duration(200+r.IntN(2800))*time.Millisecond)
		err := write(once, h)
		cancel()
		t.learn(key, h, err)
		switch judge(err) {
		case done, answered:
			return doubt, err
		case refused:
			t.f.Refused.Add(1)
		case unknown:
			doubt = true
			t.f.Ambiguous.Add(1)
		case broken:
			t.f.fail("%s answers a write of %s: %v", h.name, key, err)
		}
		if ctx.Err() != nil {
			return doubt, ctx.Err()
		}
		pause(ctx, time.Duration(r.Int64N(int64(wait)+1)))
	}
}
