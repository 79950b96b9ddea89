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

// member is the state of this host's member of the partition of the route.
func (s *Server) member(r *request) (adamant.PartitionStatus, string, error) {
	id, err := r.partition()
	if err != nil {
		return adamant.PartitionStatus{}, "", err
	}
	st := s.host.Status()
	for i := range st.Partitions {
		if st.Partitions[i].ID == id {
			return st.Partitions[i], st.Host, nil
		}
	}
	return adamant.PartitionStatus{}, "", badRequest(http.StatusNotFound, "host %s is not a member of partition %d", st.Host, id)
}

func (s *Server) showSafeMode(r *request) (any, error) {
	p, host, err := s.member(r)
	if err != nil {
		return nil, err
	}
	return SafeMode{Host: host, Partition: p.ID, Reason: p.SafeMode, Divergences: p.Divergences, Restoring: p.Restoring}, nil
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
	if _, _, err := s.member(r); err != nil {
		return nil, err
	}
	return nil, s.host.SetSafeMode(id, req.Reason)
}

func (s *Server) clearSafeMode(r *request) (any, error) {
	p, _, err := s.member(r)
	if err != nil {
		return nil, err
	}
	var req clearRequest
	if err := r.body(&req); err != nil {
		return nil, err
	}
	waiting, err := s.host.ClearSafeMode(r.Context(), p.ID, req.Keep)
	if err != nil {
		return nil, err
	}
	return clearAnswer{Waiting: waiting}, nil
}

func (s *Server) versions(r *request) (any, error) {
	p, _, err := s.member(r)
	if err != nil {
		return nil, err
	}
	key, err := adamant.ParseKey(r.query.Get("key"))
	if err != nil {
		return nil, err
	}
	c, err := s.host.Compare(r.Context(), p.ID, key)
	if err != nil {
		return nil, err
	}
	return c, nil
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
