package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// runner runs the seeds.
type runner struct {
	settings
	out    string
	binary string
	begun  time.Time
	before time.Duration // that earlier runs into the same directory took

	mu      sync.Mutex // guards results
	results map[uint64]result
}

func (r *runner) file() string { return filepath.Join(r.out, resultsFile) }

// load reads the results that are there.
func (r *runner) load() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = map[uint64]result{}
	list, err := readResults(r.out)
	if err != nil {
		return err
	}
	for _, one := range list {
		if one.Hours != r.hours {
			return fmt.Errorf("%s has results of the other kind of seeds", r.file())
		}
		r.results[one.Seed] = one
	}
	return nil
}

// missing lists those of a range that have no result.
func (r *runner) missing(first uint64, n int) (list []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seed := first; seed < first+uint64(n); seed++ {
		if _, ok := r.results[seed]; !ok {
			list = append(list, seed)
		}
	}
	return list
}

// all runs every seed that has no result yet, chunk by chunk.
func (r *runner) all(ctx context.Context) {
	chunks := make(chan uint64)
	var work sync.WaitGroup
	for range r.processes {
		work.Go(func() {
			for first := range chunks {
				r.runChunk(ctx, first, min(r.chunk, int(r.first+uint64(r.seeds)-first)))
			}
		})
	}
	for first := r.first; first < r.first+uint64(r.seeds) && ctx.Err() == nil; first += uint64(r.chunk) {
		if r.limit > 0 && time.Since(r.begun) > r.limit {
			break
		}
		chunks <- first
	}
	close(chunks)
	work.Wait()
}

// runChunk runs a range of seeds in one process, and by itself each one that the process did not come to tell of.
func (r *runner) runChunk(ctx context.Context, first uint64, n int) {
	if len(r.missing(first, n)) == n {
		r.process(ctx, first, n)
	}
	for _, seed := range r.missing(first, n) {
		if ctx.Err() != nil {
			return
		}
		if r.process(ctx, seed, 1); len(r.missing(seed, 1)) > 0 && ctx.Err() == nil {
			r.add(result{Seed: seed, Hours: r.hours, Failed: true}) // it does not end, or ends the process
		}
	}
	r.saveWallTime()
	fmt.Printf("%s  seeds %d to %d: %s", time.Now().Format("15:04:05"), first, first+uint64(n)-1, r.line())
}

// process runs seeds and keeps the output of those that fail.
func (r *runner) process(ctx context.Context, first uint64, n int) {
	path := filepath.Join(r.out, fmt.Sprintf("output-%d-%d.txt", first, n))
	f, err := os.Create(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
		return
	}
	cmd := exec.CommandContext(ctx, r.binary, "-test.run=^TestSim$", "-test.parallel=1", "-test.timeout=6h", "-slow", fmt.Sprintf("-seed=%d", first),
		fmt.Sprintf("-seeds=%d", n), "-results="+r.file(), fmt.Sprintf("-hours=%t", r.hours))
	cmd.Env = append(r.cheaply(), os.Environ()...)
	cmd.Stdout, cmd.Stderr = f, f
	failed := cmd.Run()
	if err := errors.Join(f.Close(), r.load()); err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
	}
	if failed == nil {
		_ = os.Remove(path)
	}
}

// cheaply is the environment in which seeds take the least of processors; the caller's own comes after it. Little is alive at a
// time, and goroutines are many and short. One processor for each process would leave out much of the interleaving, for which
// the many ordinary seeds are there; those of hours look for what time brings.
func (r *runner) cheaply() []string {
	env := []string{"GOGC=400", "GOMEMLIMIT=1GiB", "GODEBUG=adaptivestackstart=1"}
	if r.hours {
		env = append(env, "GOMAXPROCS=1")
	}
	return env
}

// add notes a result that the simulation could not.
func (r *runner) add(one result) {
	r.mu.Lock()
	r.results[one.Seed] = one
	r.mu.Unlock()
	line, err := json.Marshal(one)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(r.file(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			_, err = f.Write(append(line, '\n'))
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
	}
}
