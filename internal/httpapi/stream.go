package httpapi

import (
	"bufio"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"github.com/adamantdb/adamant"
)

// lines answers a request with one JSON value per line.
type lines func(r *request) (iter.Seq2[any, error], error)

func (s *Server) log(r *request) (iter.Seq2[any, error], error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	opts, err := r.readOptions()
	if err != nil {
		return nil, err
	}
	return mapped(s.host.Log(r.Context(), key, opts...), func(e adamant.LogEntry) any {
		return LogEntry{Index: e.Index, Term: e.Term, Chain: e.Chain.String(), Delta: Delta(e.Delta), Staleness: e.Staleness}
	}), nil
}

func (s *Server) inventory(r *request) (iter.Seq2[any, error], error) {
	opts, err := r.readOptions()
	if err != nil {
		return nil, err
	}
	partition, err := r.partitionParameter()
	if err != nil {
		return nil, err
	}
	scope := adamant.Scope{Space: r.query.Get("space"), Partition: partition}
	return mapped(s.host.Inventory(r.Context(), scope, opts...), func(i adamant.Info) any {
		return Info{Space: i.Key.Space, Key: i.Key.Key, Head: i.Head, Bytes: i.Bytes, Entries: i.Entries, LastIndex: i.LastIndex, Generation: i.Generation,
			Staleness: i.Staleness}
	}), nil
}

func mapped[T any](seq iter.Seq2[T, error], f func(T) any) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for v, err := range seq {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(f(v), nil) {
				return
			}
		}
	}
}

// stream wraps an answer of many lines. An error before the first line has its own status; a later one becomes the last
// line, an object with the key "error", because the status is sent already.
func (s *Server) stream(do lines, parameters ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, done, err := s.begin(w, r, s.slots, false, parameters)
		if err != nil {
			s.fail(w, err)
			return
		}
		defer done()
		seq, err := do(req)
		if err != nil {
			s.fail(w, err)
			return
		}
		out := newLineWriter(w, s.o.Stall)
		for v, err := range seq {
			if err != nil && !out.started {
				s.fail(w, err)
				return
			}
			if err != nil {
				v = fromError(err)
			}
			if out.line(v) != nil || err != nil {
				break
			}
		}
		out.end()
	})
}

// lineWriter writes lines with a deadline that moves as the client reads.
type lineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	buffer  *bufio.Writer
	started bool
}

func newLineWriter(w http.ResponseWriter, stall time.Duration) *lineWriter {
	l := &lineWriter{w: w, control: http.NewResponseController(w), stall: stall}
	l.buffer = bufio.NewWriterSize(l, 64<<10)
	return l
}

func (l *lineWriter) start() {
	if l.started {
		return
	}
	l.started = true
	h := l.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

func (l *lineWriter) line(v any) error {
	l.start()
	enc := json.NewEncoder(l.buffer)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Write is the buffer's way to the client.
func (l *lineWriter) Write(b []byte) (int, error) {
	// Test recorders have no deadlines; connections do. The one for reading would otherwise end a long stream, because the
	// server listens for the client's departure meanwhile.
	_ = l.control.SetWriteDeadline(time.Now().Add(l.stall))
	_ = l.control.SetReadDeadline(time.Now().Add(2 * l.stall))
	return l.w.Write(b)
}

// flush sends what was written so far.
func (l *lineWriter) flush() error {
	if err := l.buffer.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}

func (l *lineWriter) end() {
	l.start()
	_ = l.buffer.Flush() // the client may have gone
}
