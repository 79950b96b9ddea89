package httpapi

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/adamantdb/adamant"
)

// action answers one request: with a value that becomes the JSON body (nil: no content), or an error.
type action func(r *request) (any, error)

// request is one request with its parameters, read strictly.
type request struct {
	*http.Request
	server *Server
	query  url.Values
}

func (s *Server) routes(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	// Reading one's own state is never refused for being busy.
	mux.Handle("GET /v1/health", s.answer(s.health))
	mux.Handle("GET /v1/ready", s.answer(s.ready))
	mux.Handle("GET /v1/status", s.answer(s.status))
	mux.Handle("GET /metrics", metrics)

	const document = "/v1/documents/{space}/{key}"
	mux.Handle("GET /v1/routing", s.routing())
	mux.Handle("GET /v1/routing/stream", s.watch(s.routingStream, "after"))
	mux.Handle("GET "+document, s.work(s.get, "consistency", "forward"))
	mux.Handle("POST "+document, s.work(s.create, "forward"))
	mux.Handle("DELETE "+document, s.work(s.delete, "forward"))
	mux.Handle("GET "+document+"/headpatch", s.work(s.headPatch, "consistency", "forward", "after"))
	mux.Handle("GET "+document+"/rewind", s.work(s.rewind, "consistency", "forward", "to"))
	mux.Handle("POST "+document+"/append", s.work(s.append, "forward"))
	mux.Handle("POST "+document+"/compact", s.work(s.compact, "forward"))
	mux.Handle("POST "+document+"/replace", s.work(s.replace, "forward"))
	mux.Handle("GET "+document+"/log", s.stream(s.log, "consistency"))
	mux.Handle("GET /v1/inventory", s.stream(s.inventory, "consistency", "space", "partition"))
	mux.Handle("GET /v1/history", s.stream(s.history, "partition", "since", "wait"))

	mux.Handle("POST /v1/partitions/{id}/transfer", s.work(s.transfer))
	mux.Handle("GET /v1/partitions/{id}/safemode", s.work(s.showSafeMode))
	mux.Handle("POST /v1/partitions/{id}/safemode", s.work(s.safeMode))
	mux.Handle("POST /v1/partitions/{id}/safemode/clear", s.work(s.clearSafeMode))
	mux.Handle("GET /v1/partitions/{id}/versions", s.work(s.versions, "key"))
	mux.Handle("POST /v1/drain", s.work(s.drain))
	return s.known(mux)
}

// known answers requests that no route wants, in JSON too.
func (s *Server) known(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &probe{header: http.Header{}}
		mux.ServeHTTP(probe, r)
		switch probe.status {
		case http.StatusMethodNotAllowed:
			w.Header().Set("Allow", probe.header.Get("Allow"))
			s.fail(w, badRequest(http.StatusMethodNotAllowed, "%s is not served here; %s is", r.Method, probe.header.Get("Allow")))
		default:
			s.fail(w, badRequest(http.StatusNotFound, "no such route: %s", clip(r.URL.Path)))
		}
	})
}

// probe takes a response nobody shall see.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// answer wraps an action that takes no parameters.
func (s *Server) answer(do action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := do(&request{Request: r, server: s})
		s.reply(w, v, err)
	})
}

// work wraps an action that counts as a request at work: it takes a slot, knows its parameters, and has a deadline.
func (s *Server) work(do action, parameters ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, done, err := s.begin(w, r, s.slots, true, parameters)
		if err != nil {
			s.fail(w, err)
			return
		}
		defer done()
		v, err := do(req)
		s.reply(w, v, err)
	})
}

// begin checks the parameters, takes one of the slots and sets the deadline. done releases both.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, slots chan struct{}, deadline bool, parameters []string) (*request, func(), error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil, badRequest(http.StatusBadRequest, "query: %v", err)
	}
	for name, values := range query {
		if name != "timeout" && !slices.Contains(parameters, name) {
			return nil, nil, badRequest(http.StatusBadRequest, "unknown parameter %q", clip(name))
		}
		if len(values) > 1 {
			return nil, nil, badRequest(http.StatusBadRequest, "parameter %q is given %d times", name, len(values))
		}
	}
	req := &request{Request: r, server: s, query: query}
	timeout, err := req.timeout()
	if err != nil {
		return nil, nil, err
	}
	if err := req.forward(); err != nil {
		return nil, nil, err
	}
	select {
	case slots <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		return nil, nil, &Error{Kind: KindBusy, Message: "too many requests at work", status: http.StatusServiceUnavailable}
	}
	if !deadline {
		return req, func() { <-slots }, nil
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	req.Request = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBody)
	req.Body = r.Body
	return req, func() { cancel(); <-slots }, nil
}

// forward is the parameter that overrides the host's own choice whether to send operations to the leader.
func (r *request) forward() error {
	text := r.query.Get("forward")
	if text == "" {
		return nil
	}
	if text != "true" && text != "false" {
		return badRequest(http.StatusBadRequest, "forward %q: want true or false", clip(text))
	}
	r.Request = r.WithContext(adamant.Forwarding(r.Context(), text == "true"))
	return nil
}

func (r *request) timeout() (time.Duration, error) {
	text := r.query.Get("timeout")
	if text == "" {
		return r.server.o.Timeout, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > r.server.o.MaxTimeout {
		return 0, badRequest(http.StatusBadRequest, "timeout %q: want a duration up to %v, as in 2s", clip(text), r.server.o.MaxTimeout)
	}
	return d, nil
}

// key is the document of the route.
func (r *request) key() (adamant.Key, error) {
	k := adamant.Key{Space: r.PathValue("space"), Key: r.PathValue("key")}
	return k, k.Validate()
}

// partition is the partition of the route.
func (r *request) partition() (uint32, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
	if err != nil {
		return 0, badRequest(http.StatusBadRequest, "partition %q is not a number", clip(r.PathValue("id")))
	}
	return uint32(id), nil
}

// readOptions is the parameter consistency.
func (r *request) readOptions() ([]adamant.ReadOption, error) {
	text := r.query.Get("consistency")
	if text == "" {
		return nil, nil
	}
	c, err := adamant.ParseConsistency(text)
	if err != nil {
		return nil, badRequest(http.StatusBadRequest, "%v", err)
	}
	return []adamant.ReadOption{adamant.WithConsistency(c)}, nil
}

// partitionParameter is an optional parameter that is a partition's number; nil without it.
func (r *request) partitionParameter() (*uint32, error) {
	text := r.query.Get("partition")
	if text == "" {
		return nil, nil
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, badRequest(http.StatusBadRequest, "partition %q is not a number", clip(text))
	}
	id32 := uint32(id)
	return &id32, nil
}

// seq is a required parameter that is a sequence number.
func (r *request) seq(name string) (int64, error) {
	n, err := strconv.ParseInt(r.query.Get(name), 10, 64)
	if err != nil {
		return 0, badRequest(http.StatusBadRequest, "parameter %q: want a sequence number, got %q", name, clip(r.query.Get(name)))
	}
	return n, nil
}

// body reads the JSON body, strictly and bounded.
func (r *request) body(into any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return badRequest(http.StatusUnsupportedMediaType, "want the Content-Type application/json")
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return badRequest(http.StatusRequestEntityTooLarge, "the body is over the limit of %d bytes", large.Limit)
		}
		return badRequest(http.StatusBadRequest, "body: %v", err)
	}
	if err := decodeStrict(data, into); err != nil {
		return badRequest(http.StatusBadRequest, "body: %v", err)
	}
	return nil
}

// reply writes the answer of an action.
func (s *Server) reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	status := http.StatusOK
	switch a := v.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
		return
	case created:
		status, v = http.StatusCreated, a.body
	case Health:
		if !a.OK {
			status = http.StatusServiceUnavailable
		}
	}
	body, err := marshal(v)
	if err != nil {
		s.fail(w, err)
		return
	}
	s.write(w, status, body)
}

// created is an answer with the status 201.
type created struct{ body any }

func (s *Server) fail(w http.ResponseWriter, err error) {
	e := fromError(err)
	switch e.Kind {
	case KindUnavailable, KindNotLeader:
		w.Header().Set("Retry-After", "1")
	}
	body, err := marshal(e)
	if err != nil { // strings and numbers always marshal
		body = []byte(`{"code":0,"kind":"internal","error":"the error cannot be written"}`)
	}
	s.write(w, e.status, body)
}

func (s *Server) write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	// The client may have gone; there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}
