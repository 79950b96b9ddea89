package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options of a Server. The zero value of a field means its default.
type Options struct {
	// MaxBody bounds the body of one request, in bytes. Default 16 MiB.
	MaxBody int64
	// MaxRequests bounds the requests at work; health, readiness, status and metrics do not count. Default 256.
	MaxRequests int
	// MaxWatchers bounds the requests that wait for the routing table to change. Default 256.
	MaxWatchers int
	// Timeout is the deadline of an operation whose request names none; MaxTimeout is the longest one may name.
	// Defaults 10 s and 60 s.
	Timeout, MaxTimeout time.Duration
	// Stall is for how long a client may keep a stream from progressing. Default 30 s.
	Stall time.Duration
	// KeepAlive is after how long without news a stream of the routing table has a line without any. Less than Stall. Default
	// 10 s.
	KeepAlive time.Duration
	// Grace is for how long requests at work may go on after the shutdown began. Default 10 s.
	Grace time.Duration
	// Version is shown in the metrics.
	Version string
	Logger  *slog.Logger
}

func (o Options) withDefaults() Options {
	duration := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 20
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = 256
	}
	if o.MaxWatchers <= 0 {
		o.MaxWatchers = 256
	}
	duration(&o.Timeout, 10*time.Second)
	duration(&o.MaxTimeout, time.Minute)
	duration(&o.Stall, 30*time.Second)
	duration(&o.KeepAlive, min(10*time.Second, o.Stall/2))
	duration(&o.Grace, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server is the endpoint of one host.
type Server struct {
	host    Host
	o       Options
	slots   chan struct{} // a token per request at work
	handler http.Handler

	watchers chan struct{}   // a token per request that waits for the routing table to change
	stopping context.Context // ends when the shutdown begins
	stop     context.CancelFunc
}

// New returns a server for a host. It listens nowhere yet.
func New(host Host, options Options) *Server {
	s := &Server{host: host, o: options.withDefaults()}
	s.slots, s.watchers = make(chan struct{}, s.o.MaxRequests), make(chan struct{}, s.o.MaxWatchers)
	s.stopping, s.stop = context.WithCancel(context.Background())
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(host, s.o.Version))
	s.handler = s.guard(s.routes(promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})))
	return s
}

// Handler serves all routes, without a listener's rules about who may connect.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on l until the context ends; then it lets the requests at work finish within the grace time.
// It closes l. The error is nil after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       s.o.MaxTimeout,
		WriteTimeout:      s.o.MaxTimeout + s.o.Stall, // streams move theirs as they progress
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer s.stop()
	select {
	case err := <-ended:
		return fmt.Errorf("HTTP endpoint: %w", err)
	case <-ctx.Done():
	}
	s.stop()
	grace, stop := context.WithTimeout(context.Background(), s.o.Grace)
	defer stop()
	err := server.Shutdown(grace)
	if err != nil { // requests were still at work: cut them off
		cancel()
		err = errors.Join(fmt.Errorf("HTTP endpoint: requests were cut off after %v", s.o.Grace), server.Close())
	}
	<-ended
	return err
}

// guard keeps browsers of foreign pages out and logs what was answered.
func (s *Server) guard(next http.Handler) http.Handler {
	var origins http.CrossOriginProtection
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, &Error{Kind: KindForbidden, Message: "requests of web pages are refused", status: http.StatusForbidden})
	}))
	inner := origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		switch {
		case foreignHost(r):
			s.fail(seen, &Error{Kind: KindForbidden, Message: "the Host header names another machine", status: http.StatusForbidden})
		default:
			inner.ServeHTTP(seen, r)
		}
		level := slog.LevelDebug
		if seen.status >= http.StatusInternalServerError {
			level = slog.LevelInfo
		}
		s.o.Logger.Log(r.Context(), level, "http", "method", r.Method, "path", r.URL.Path, "status", seen.status, "took", time.Since(start))
	})
}

// foreignHost reports whether a plain request that came over loopback was addressed to a name that is not: the sign of
// a web page whose name was rebound to this machine.
func foreignHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || r.TLS != nil || !local.IP.IsLoopback() {
		return false
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		name = h
	}
	if name == "localhost" {
		return false
	}
	ip := net.ParseIP(trimBrackets(name))
	return ip == nil || !ip.IsLoopback()
}

func trimBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
