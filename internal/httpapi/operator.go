package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/adamantdb/adamant"
)

// health says whether the process is worth keeping: once a durable step has failed only a restart helps.
func (s *Server) health(*request) (any, error) {
	st := s.host.Status()
	return Health{Host: st.Host, Incarnation: st.Incarnation, Cluster: st.Cluster, OK: st.Failed == "", Reason: st.Failed}, nil
}

// ready says whether the host can take its part of the work now.
func (s *Server) ready(*request) (any, error) {
	st := s.host.Status()
	ok, reason := st.Ready()
	return Health{Host: st.Host, Incarnation: st.Incarnation, Cluster: st.Cluster, OK: ok, Reason: reason}, nil
}

func (s *Server) status(*request) (any, error) { return s.host.Status(), nil }

// routing answers the whole table, or one entry when a key is given.
func (s *Server) routing(r *request) (any, error) {
	if text := r.query.Get("key"); text != "" {
		key, err := adamant.ParseKey(text)
		if err != nil {
			return nil, err
		}
		return s.host.Locate(key), nil
	}
	return struct {
		Partitions []adamant.Location `json:"partitions"`
	}{s.host.Routing()}, nil
}

func (s *Server) transfer(r *request) (any, error) {
	id, err := r.partition()
	if err != nil {
		return nil, err
	}
	var req transferRequest
	if err := r.body(&req); err != nil {
		return nil, err
	}
	return nil, s.host.Transfer(r.Context(), id, req.Host)
}

func (s *Server) safeMode(r *request) (any, error) {
	id, err := r.partition()
	if err != nil {
		return nil, err
	}
	var req safeModeRequest
	if err := r.body(&req); err != nil {
		return nil, err
	}
	st := s.host.Status()
	for i := range st.Partitions {
		if st.Partitions[i].ID == id {
			return nil, s.host.SetSafeMode(id, req.Reason)
		}
	}
	return nil, badRequest(http.StatusNotFound, "host %s is not a member of partition %d", st.Host, id)
}

// drain goes on after the client has gone, within its deadline: half a drain helps nobody.
func (s *Server) drain(r *request) (any, error) {
	deadline, ok := r.Context().Deadline()
	if !ok {
		deadline = time.Now().Add(s.o.Timeout)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), deadline)
	defer cancel()
	return nil, s.host.Drain(ctx)
}
