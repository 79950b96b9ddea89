package httpapi

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/adamantdb/adamant"
)

// The routing table, for balancers. A request that waits holds no slot of the requests at work, but one of the watchers, who
// have a bound of their own; the beginning of the shutdown ends them all, so that they turn to another host.

// routing answers the whole table, what has changed in it since a version, or one entry when a key is given.
func (s *Server) routing() http.Handler {
	now := s.work(s.route, "key", "after")
	later := s.watch(s.nextRouting, "after", "wait")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			later.ServeHTTP(w, r)
			return
		}
		now.ServeHTTP(w, r)
	})
}

func (s *Server) route(r *request) (any, error) {
	text := r.query.Get("key")
	if text == "" {
		after, err := r.routingVersion()
		if err != nil {
			return nil, err
		}
		return answerRouting(s.host.WatchRouting(ended(r.Context()), after))
	}
	if r.query.Has("after") {
		return nil, badRequest(http.StatusBadRequest, `parameters "key" and "after" exclude each other`)
	}
	key, err := adamant.ParseKey(text)
	if err != nil {
		return nil, err
	}
	return s.host.Locate(key), nil
}

// ended is a context that is over: what need not be waited for is told all the same.
func ended(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	cancel()
	return ctx
}

// answerRouting takes the end of the wait for an answer without news.
func answerRouting(u adamant.RoutingUpdate, err error) (any, error) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return u, nil
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// routingVersion is the parameter after; without it, that of somebody who knows nothing.
func (r *request) routingVersion() (v adamant.RoutingVersion, err error) {
	if err := v.UnmarshalText([]byte(r.query.Get("after"))); err != nil {
		return v, badRequest(http.StatusBadRequest, "after %q: want the version of an earlier answer", clip(r.query.Get("after")))
	}
	return v, nil
}

// wait is the parameter wait, at most the server's longest timeout; 0 without it.
func (r *request) wait() (time.Duration, error) {
	text := r.query.Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > r.server.o.MaxTimeout {
		return 0, badRequest(http.StatusBadRequest, "wait %q: want a duration from 0 to %s", clip(text), r.server.o.MaxTimeout)
	}
	return d, nil
}

// watch wraps an answer that may take as long as nothing happens.
func (s *Server) watch(do func(w http.ResponseWriter, r *request), parameters ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, done, err := s.begin(w, r, s.watchers, false, parameters)
		if err != nil {
			s.fail(w, err)
			return
		}
		defer done()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)()
		req.Request = r.WithContext(ctx)
		do(w, req)
	})
}

// nextRouting is a long poll: it answers when the table has changed, or without news when the wait is over.
func (s *Server) nextRouting(w http.ResponseWriter, r *request) {
	after, err := r.routingVersion()
	wait, err2 := r.wait()
	if err = errors.Join(err, err2); err != nil {
		s.fail(w, err)
		return
	}
	control := http.NewResponseController(w) // test recorders have no deadlines
	_ = control.SetReadDeadline(time.Now().Add(wait + s.o.Stall))
	_ = control.SetWriteDeadline(time.Now().Add(wait + s.o.Stall))
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	v, err := answerRouting(s.host.WatchRouting(ctx, after))
	s.reply(w, v, err)
}

// routingStream writes a line for each change as it comes, and one without news when nothing has come for a while, so that both
// sides notice when the other is gone.
func (s *Server) routingStream(w http.ResponseWriter, r *request) {
	after, err := r.routingVersion()
	if err != nil {
		s.fail(w, err)
		return
	}
	out := newLineWriter(w, s.o.Stall)
	for {
		ctx, cancel := context.WithTimeout(r.Context(), s.o.KeepAlive)
		u, err := s.host.WatchRouting(ctx, after)
		cancel()
		switch {
		case r.Context().Err() != nil:
			out.end()
			return
		case err == nil, errors.Is(err, context.DeadlineExceeded):
			after = u.Version
		case !out.started:
			s.fail(w, err)
			return
		default:
			_ = out.line(fromError(err)) // the client may have gone
			out.end()
			return
		}
		if out.line(u) != nil || out.flush() != nil {
			return
		}
	}
}

// Routing asks the first reachable host for its whole routing table.
func (c *Client) Routing(ctx context.Context) (adamant.RoutingUpdate, error) {
	var u adamant.RoutingUpdate
	return u, c.call(ctx, http.MethodGet, "/v1/routing", nil, &u)
}

// NextRouting asks what has changed since a version, and waits when that is nothing.
func (c *Client) NextRouting(ctx context.Context, after adamant.RoutingVersion, wait time.Duration) (adamant.RoutingUpdate, error) {
	var u adamant.RoutingUpdate
	return u, c.call(ctx, http.MethodGet, withQuery("/v1/routing", "after", after.String(), "wait", wait.String()), nil, &u)
}

// FollowRouting iterates over the changes since a version as the first reachable host tells of them; lines without news are
// left out. It ends when that host stops.
func (c *Client) FollowRouting(ctx context.Context, after adamant.RoutingVersion) iter.Seq2[adamant.RoutingUpdate, error] {
	return func(yield func(adamant.RoutingUpdate, error) bool) {
		for u, err := range stream[adamant.RoutingUpdate](ctx, c, withQuery("/v1/routing/stream", "after", after.String())) {
			if err == nil && !u.Whole && len(u.Routes) == 0 {
				continue
			}
			if !yield(u, err) {
				return
			}
		}
	}
}
