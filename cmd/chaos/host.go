//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/adamantdb/adamant/internal/httpapi"
)

// How long a host may take to start, and to stop when it is asked to.
const (
	startPatience = 120 * time.Second
	stopPatience  = 120 * time.Second
)

// host is one of the cluster's, and its process.
type host struct {
	f      *field
	name   string
	dir    string // its disk; data are in a directory of it
	file   string // its cluster file
	client *httpapi.Client

	program  string        // its adamant command; who takes the host may change it
	taken    chan struct{} // holds one token while some fault has the process to itself
	diskFull atomic.Bool   // its storage may fail

	mu    sync.Mutex
	child *child // nil while none runs
}

// child is one life of a host's process.
type child struct {
	process  *os.Process
	ended    chan struct{}
	expected atomic.Bool // that it ends
}

func newHost(f *field, name string) (*host, error) {
	h := &host{f: f, name: name, dir: filepath.Join(f.o.Dir, name), file: filepath.Join(f.o.Dir, name+".cluster.json"),
		program: f.o.Binary, taken: make(chan struct{}, 1)}
	var err error
	if h.client, err = httpapi.NewClient([]string{h.socket()}, nil); err != nil {
		return nil, err
	}
	return h, os.MkdirAll(h.dir, 0o700)
}

func (h *host) socket() string { return "unix:" + filepath.Join(h.f.o.Dir, h.name+".sock") }
func (h *host) log() string    { return filepath.Join(h.f.o.Dir, h.name+".log") }
func (h *host) data() string   { return filepath.Join(h.dir, "data") }

// begin starts the process.
func (h *host) begin() error {
	log, err := os.OpenFile(h.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := h.f.net.command(h.name, h.program, "serve", "--cluster-file", h.file, "--host", h.name, "--dir", h.data(), "--http", h.socket())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", h.name, err)
	}
	c := &child{process: cmd.Process, ended: make(chan struct{})}
	h.mu.Lock()
	h.child = c
	h.mu.Unlock()
	h.f.work.Go(func() {
		err := cmd.Wait()
		if !c.expected.Load() {
			h.f.fail("%s ended by itself: %v; the end of its log:\n%s", h.name, err, tail(h.log(), 3000))
		}
		close(c.ended)
	})
	return nil
}

// start starts the process and waits until it answers.
func (h *host) start() error {
	if err := h.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	for c := h.life(); ; {
		if h.answers(ctx) {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("%s ends in place of starting", h.name)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer %v after its start", h.name, startPatience)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *host) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _, err := h.client.Status(ctx)
	return err == nil
}

func (h *host) life() *child {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.child
}

// signal sends one, and nothing to a process that has ended.
func (h *host) signal(s syscall.Signal) {
	if c := h.life(); c != nil {
		_ = c.process.Signal(s) // it has ended: who waits for it says so
	}
}

// stop ends the process by a signal and waits until it is gone.
func (h *host) stop(s syscall.Signal) error {
	c := h.life()
	if c == nil {
		return nil
	}
	c.expected.Store(true)
	_ = c.process.Signal(s)
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-c.ended:
	case <-patience.C:
		_ = c.process.Kill()
		<-c.ended
		return fmt.Errorf("%s had not ended %v after %v", h.name, stopPatience, s)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.child = nil
	return nil
}

// alarms are what a process says in its log, in what form ever, when the program itself is wrong.
var alarms = []string{"WARNING: DATA RACE", "panic: ", "fatal error: "}

// readLog looks for alarms in the host's log.
func (h *host) readLog() error {
	f, err := os.Open(h.log())
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadString('\n')
		for _, alarm := range alarms {
			if strings.Contains(line, alarm) {
				h.f.fail("%s says in its log: %s", h.name, strings.TrimSpace(line))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// tail is the end of a file.
func tail(name string, most int64) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size := int64(0)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	b := make([]byte, min(size, most))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		return err.Error()
	}
	return string(b)
}
