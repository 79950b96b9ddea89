package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"github.com/adamantdb/adamant/internal/headroom"
)

// crewArgument makes this program a crew that takes its orders from standard input.
const crewArgument = "crew-of-a-bench"

// process is a crew in a child process. Orders and answers are gobs over its standard input and output; it ends when its
// input does.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	dec *gob.Decoder

	mu     sync.Mutex // one order at a time
	killed bool       // guarded by the caller: nobody gives it orders any more
	still  bool       // the same
}

func startProcess() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, crewArgument)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.enc, p.dec = gob.NewEncoder(p.in), gob.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process for a host: %w", err)
	}
	return p, nil
}

func (p *process) do(ctx context.Context, o order) (answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	if err := p.enc.Encode(o); err != nil {
		return answer{}, errors.Join(ctx.Err(), fmt.Errorf("order for a host's process: %w", err))
	}
	var a answer
	if err := p.dec.Decode(&a); err != nil {
		return answer{}, errors.Join(ctx.Err(), fmt.Errorf("answer of a host's process: %w", err))
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// kill ends the process at once, as the system would.
func (p *process) kill() error {
	p.killed = true
	return p.cmd.Process.Kill()
}

// suspend keeps the process from running. Until it is resumed nobody may give it orders: they would not be answered.
func (p *process) suspend() error {
	p.still = true
	return standStill(p.cmd.Process)
}

func (p *process) resume() error {
	p.still = false
	return goOn(p.cmd.Process)
}

// close ends the process by closing its input, after which it stops its hosts.
func (p *process) close() error {
	if p.killed {
		_ = p.in.Close()
		_ = p.cmd.Wait() // says that it was killed
		return nil
	}
	if p.still { // after an error
		if err := p.resume(); err != nil {
			return errors.Join(err, p.in.Close(), p.cmd.Process.Kill(), p.cmd.Wait())
		}
	}
	if err := p.in.Close(); err != nil {
		return errors.Join(err, p.cmd.Process.Kill(), p.cmd.Wait())
	}
	return p.cmd.Wait()
}

// isCrew says whether the arguments of this process make it a crew.
func isCrew(args []string) bool { return len(args) == 2 && args[1] == crewArgument }

// runCrew is a crew's process. An interrupt is the parent's to handle.
func runCrew() int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	headroom.Reserve(headroom.Bytes)
	if err := serveCrew(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench crew:", err)
		return exitFailed
	}
	return exitOK
}

func serveCrew(in io.Reader, out io.Writer) (err error) {
	s := &site{}
	defer func() { err = errors.Join(err, s.close()) }()
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var o order
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := s.do(context.Background(), o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}
