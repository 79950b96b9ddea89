package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/adamantdb/adamant"
)

// headAnswer is what create and append answer.
type headAnswer struct {
	Head int64 `json:"head"`
}

func (s *Server) get(r *request) (any, error) {
	return s.read(r, func(ctx context.Context, key adamant.Key, opts []adamant.ReadOption) (adamant.Document, error) {
		return s.host.Get(ctx, key, opts...)
	})
}

func (s *Server) headPatch(r *request) (any, error) {
	after, err := r.seq("after")
	if err != nil {
		return nil, err
	}
	return s.read(r, func(ctx context.Context, key adamant.Key, opts []adamant.ReadOption) (adamant.Document, error) {
		return s.host.HeadPatch(ctx, key, after, opts...)
	})
}

func (s *Server) rewind(r *request) (any, error) {
	to, err := r.seq("to")
	if err != nil {
		return nil, err
	}
	return s.read(r, func(ctx context.Context, key adamant.Key, opts []adamant.ReadOption) (adamant.Document, error) {
		return s.host.Rewind(ctx, key, to, opts...)
	})
}

func (s *Server) read(r *request, do func(context.Context, adamant.Key, []adamant.ReadOption) (adamant.Document, error)) (any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	opts, err := r.readOptions()
	if err != nil {
		return nil, err
	}
	d, err := do(r.Context(), key, opts)
	if err != nil {
		return nil, err
	}
	return Document{Head: d.Head, Reads: d.Reads, Staleness: d.Staleness, JSON: json.RawMessage(d.JSON)}, nil
}

func (s *Server) create(r *request) (any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	var d Delta
	if err := r.body(&d); err != nil {
		return nil, err
	}
	if err := s.host.Create(r.Context(), key, adamant.Delta(d)); err != nil {
		return nil, unknownOutcome(key, err)
	}
	return created{headAnswer{Head: d.SeqEnd}}, nil
}

func (s *Server) append(r *request) (any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	var req appendRequest
	if err := r.body(&req); err != nil {
		return nil, err
	}
	deltas := make([]adamant.Delta, len(req.Deltas))
	for i, d := range req.Deltas {
		deltas[i] = adamant.Delta(d)
	}
	head, err := s.host.Append(r.Context(), key, deltas)
	if err != nil {
		return nil, unknownOutcome(key, err)
	}
	return headAnswer{Head: head}, nil
}

func (s *Server) compact(r *request) (any, error) {
	key, req, err := r.base()
	if err != nil {
		return nil, err
	}
	if !req.hasHistory {
		return nil, badRequest(http.StatusBadRequest, `body: "history" is missing`)
	}
	return nil, unknownOutcome(key, s.host.Compact(r.Context(), key, req.Seq, req.JSON, req.History))
}

func (s *Server) replace(r *request) (any, error) {
	key, req, err := r.base()
	if err != nil {
		return nil, err
	}
	if req.hasHistory {
		return nil, badRequest(http.StatusBadRequest, `body: unknown key "history"`)
	}
	return nil, unknownOutcome(key, s.host.Replace(r.Context(), key, req.Seq, req.JSON))
}

func (r *request) base() (adamant.Key, baseRequest, error) {
	var req baseRequest
	key, err := r.key()
	if err != nil {
		return key, req, err
	}
	return key, req, r.body(&req)
}

func (s *Server) delete(r *request) (any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	return nil, unknownOutcome(key, s.host.Delete(r.Context(), key))
}

// unknownOutcome makes sure that a write whose deadline passed is never reported as if it had not happened.
func unknownOutcome(key adamant.Key, err error) error {
	if err == nil || adamant.Code(err) != 0 {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &adamant.AmbiguousError{Key: key, Reason: err.Error(), Err: err}
	}
	return err
}
