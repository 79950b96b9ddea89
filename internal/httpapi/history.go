package httpapi

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/adamantdb/adamant"
)

// history answers with what is kept and newer than since; when that is nothing, it waits for the first notice for as long as
// the parameter wait says: a client that follows asks again with the time of the last notice it has seen.
func (s *Server) history(r *request) (iter.Seq2[any, error], error) {
	partition, err := r.partitionParameter()
	if err != nil {
		return nil, err
	}
	q := adamant.HistoryQuery{Partition: partition}
	if text := r.query.Get("since"); text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, badRequest(http.StatusBadRequest, "since %q is not a time as RFC 3339 has it", clip(text))
		}
		q.Since = at
	}
	wait, err := r.wait()
	if err != nil {
		return nil, err
	}
	return func(yield func(any, error) bool) {
		news := false
		for n, err := range s.host.History(r.Context(), q) {
			if news = true; !yield(n, err) || err != nil {
				return
			}
		}
		if news || wait == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		q.Follow = true
		for n, err := range s.host.History(ctx, q) {
			if !errors.Is(err, context.DeadlineExceeded) {
				yield(n, err)
			}
			return
		}
	}, nil
}

// History asks the first reachable host for what it remembers and is newer than since, and waits for something if there is
// nothing. partition may be "".
func (c *Client) History(ctx context.Context, partition string, since time.Time, wait time.Duration) iter.Seq2[adamant.Notice, error] {
	return stream[adamant.Notice](ctx, c, historyPath(partition, since, wait))
}

func historyPath(partition string, since time.Time, wait time.Duration) string {
	from, patience := "", ""
	if !since.IsZero() {
		from = since.Format(time.RFC3339Nano)
	}
	if wait > 0 {
		patience = wait.String()
	}
	return withQuery("/v1/history", "partition", partition, "since", from, "wait", patience)
}
