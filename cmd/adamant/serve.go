package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/headroom"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	host          adamant.Options
	http          string
	httpTLS       httpapi.TLSFiles
	logLevel      string
	logFormat     string
	logEngine     string
	reads         string
	handOver      time.Duration
	exitOnFailure bool
	listening     func(net.Addr) // told where the HTTP endpoint listens; may be nil
}

func newServe() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one host",
		Long: `serve runs one host of a cluster until it gets SIGTERM or SIGINT; then it hands its leaderships over, finishes the
requests at work and stops. A second signal stops it at once. Without --cluster-file it is a cluster of its own and opens
no port but the HTTP endpoint's.

The HTTP endpoint (docs/http.md) has no passwords: it is served on loopback addresses and unix sockets only, unless a
certificate, its key and a client authority are given.`,
		Example: `  adamant serve --cluster-file cluster.json --host h1 --dir /var/lib/adamant
  adamant serve --dir data --http unix:/run/adamant.sock
  adamant serve --cluster-file cluster.json --host h1 --dir data --http 10.0.0.1:7480 --http-cert h1.pem --http-key h1.key --http-client-ca ca.pem`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.host.ClusterFile, "cluster-file", "", "cluster file; it is polled for changes")
	f.StringVar(&o.host.Host, "host", "", "name of this host in the cluster file")
	f.StringVar(&o.host.Dir, "dir", "", "data directory (required)")
	f.IntVar(&o.host.Partitions, "partitions", 0, "partitions of a cluster of one host, fixed when the directory is made (default 8)")
	f.StringVar(&o.logEngine, "log-engine", adamant.LogPebble.String(), "engine of the Raft logs, fixed when the directory is made: pebble or bolt")
	f.StringVar(&o.reads, "consistency", adamant.ReadLease.String(), "of reads that name none: lease, quorum or stale")
	f.BoolVar(&o.host.Forward, "forward", false, "send operations on documents that another host leads there, in place of an error that names it")
	f.BoolVar(&o.host.ForceBootstrap, "force-bootstrap", false, "found partitions although listed hosts cannot be asked whether they hold data")
	f.DurationVar(&o.handOver, "hand-over", 5*time.Second, "how long to try to hand leaderships over before stopping")
	f.StringVar(&o.http, "http", defaultHTTP, `address of the HTTP endpoint, or unix:PATH; "" for none`)
	f.StringVar(&o.httpTLS.Cert, "http-cert", "", "certificate of the HTTP endpoint")
	f.StringVar(&o.httpTLS.Key, "http-key", "", "its key")
	f.StringVar(&o.httpTLS.ClientCA, "http-client-ca", "", "authority of the clients that are let in")
	f.BoolVar(&o.exitOnFailure, "exit-on-failure", false, "end when a write or fsync failed for good, in place of serving stale reads until it is restarted")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return cmd
}

// serve runs a host and its HTTP endpoint until the context ends or one of them fails.
func serve(ctx context.Context, o serveOptions, logs io.Writer) (err error) {
	logger, err := newLogger(logs, o.logLevel, o.logFormat)
	if err != nil {
		return usageError{err}
	}
	if err := o.resolve(); err != nil {
		return usageError{err}
	}
	headroom.Reserve(headroom.Bytes)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	o.host.Logger = logger
	o.host.Timing.HandOver = o.handOver
	o.host.Events.Failed = func(err error) {
		logger.Error("storage failed: this host serves stale reads only", "error", err)
		if o.exitOnFailure {
			stop(fmt.Errorf("storage failed: %w", err))
		}
	}
	// The endpoint first: an address that is refused should not cost the others a change of leaders.
	var listener net.Listener
	if o.http != "" {
		if listener, err = httpapi.Listen(o.http, o.tls()); err != nil {
			return err
		}
	}
	host, err := adamant.Open(o.host)
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return err
	}
	logger.Info("host is open", "host", host.Status().Host, "incarnation", host.Status().Incarnation, "dir", o.host.Dir, "version", version())
	ended := make(chan error, 1)
	endpoint, closeEndpoint := context.WithCancel(context.Background())
	defer closeEndpoint()
	if listener == nil {
		close(ended)
	} else {
		logger.Info("HTTP endpoint listens", "addr", listener.Addr().String())
		if o.listening != nil {
			o.listening(listener.Addr())
		}
		go func() {
			defer close(ended)
			if err := httpapi.New(host, httpapi.Options{Version: version(), Logger: logger}).Serve(endpoint, listener); err != nil {
				ended <- err
				stop(err)
			}
		}()
	}
	<-ctx.Done()
	return errors.Join(shutDown(host, logger, context.Cause(ctx), o.handOver, closeEndpoint), <-ended, failure(context.Cause(ctx)))
}

// shutDown gives leaderships away while the endpoint still says where to, then ends the endpoint, then the host.
func shutDown(host *adamant.Host, logger *slog.Logger, cause error, handOver time.Duration, closeEndpoint func()) error {
	logger.Info("stopping", "cause", cause)
	if failure(cause) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), handOver)
		if err := host.Drain(ctx); err != nil {
			logger.Info("leaderships stay until the end", "reason", err)
		}
		cancel()
	}
	closeEndpoint()
	return host.Close()
}

// failure is the cause of a stop that nobody asked for.
func failure(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// resolve turns texts into options.
func (o *serveOptions) resolve() (err error) {
	if o.host.Log, err = adamant.ParseLogKind(o.logEngine); err != nil {
		return err
	}
	if o.host.Consistency, err = adamant.ParseConsistency(o.reads); err != nil {
		return err
	}
	if o.handOver <= 0 {
		return fmt.Errorf("--hand-over is %v: want a positive duration", o.handOver)
	}
	return o.host.Validate()
}

func (o *serveOptions) tls() *httpapi.TLSFiles {
	if o.httpTLS == (httpapi.TLSFiles{}) {
		return nil
	}
	return &o.httpTLS
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}
