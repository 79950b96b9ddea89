package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// siteArgument makes this program a site that is called over standard input and output.
const siteArgument = "site-of-peers"

// remote is a site to call, wherever it runs.
type remote struct {
	*rpc.Client
	end     func() error // after the client is closed: waits until the site has stopped its hosts
	process *process     // of the site, nil for one in this process
}

// process is one that a site has for itself. One caller at a time.
type process struct {
	os            *os.Process
	killed, still bool
}

func (p *process) kill() error {
	p.killed = true
	return p.os.Kill()
}

// suspend keeps the process from running until it is resumed; it answers no calls meanwhile.
func (p *process) suspend() error {
	p.still = true
	return standStill(p.os)
}

func (p *process) resume() error {
	p.still = false
	return goOn(p.os)
}

func (r *remote) close() error {
	if p := r.process; p != nil && p.still { // after an error
		if err := p.resume(); err != nil {
			return errors.Join(err, p.kill(), r.Client.Close(), r.end())
		}
	}
	if err := r.Client.Close(); !errors.Is(err, rpc.ErrShutdown) { // which says that it ended before
		return errors.Join(err, r.end())
	}
	return r.end()
}

// here starts a site in this process.
func here(ctx context.Context) *remote {
	ours, its := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, its) }()
	return &remote{Client: rpc.NewClient(ours), end: func() error { return <-ended }}
}

// child starts a site in a process of its own, which ends with the context at the latest.
func child(ctx context.Context) (*remote, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, siteArgument)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process for a host: %w", err)
	}
	p := &process{os: cmd.Process}
	end := func() error {
		if err := cmd.Wait(); err != nil && !p.killed {
			return errors.Join(ctx.Err(), fmt.Errorf("a host's process: %w", err))
		}
		return nil
	}
	return &remote{Client: rpc.NewClient(&pipe{Reader: out, WriteCloser: in}), end: end, process: p}, nil
}

func isSite(args []string) bool { return len(args) == 2 && args[1] == siteArgument }

// runSite is the process of a site. An interrupt is for the one that started it to handle.
func runSite() int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	if err := serve(context.Background(), &pipe{Reader: os.Stdin, WriteCloser: os.Stdout}); err != nil {
		fmt.Fprintln(os.Stderr, "peers: site:", err)
		return exitFailed
	}
	return exitOK
}

// serve is a site that carries out what the other end of the connection asks for, until that closes it.
func serve(ctx context.Context, conn io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &site{ctx: ctx}
	server := rpc.NewServer()
	if err := server.RegisterName("Site", s); err != nil {
		return errors.Join(err, conn.Close())
	}
	server.ServeConn(&leash{ReadWriteCloser: conn, gone: cancel})
	return s.close()
}

// pipe is a connection out of two files.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// leash ends what a site does when nobody is there any more to ask for it.
type leash struct {
	io.ReadWriteCloser
	gone func()
}

func (l *leash) Read(b []byte) (int, error) {
	n, err := l.ReadWriteCloser.Read(b)
	if err != nil {
		l.gone()
	}
	return n, err
}
