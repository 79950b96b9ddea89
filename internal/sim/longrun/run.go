package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is a line of results.jsonl, as the simulation writes it.
type result struct {
	Seed      uint64        `json:"seed"`
	Failed    bool          `json:"failed"`
	Simulated time.Duration `json:"simulated"`
	Healed    time.Duration `json:"healed"`
	Steps     int           `json:"steps"`
	Ops       int           `json:"operations"`
	Acked     int           `json:"acknowledged"`
	Unsure    int           `json:"unsure"`
}

// runner runs the seeds.
type runner struct {
	settings
	out    string
	binary string
	begun  time.Time

	mu      sync.Mutex // guards results
	results map[uint64]result
}

func (r *runner) file() string { return filepath.Join(r.out, "results.jsonl") }

// load reads the results that are there.
func (r *runner) load() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = map[uint64]result{}
	f, err := os.Open(r.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one result
		if json.Unmarshal(lines.Bytes(), &one) == nil { // the last line may be torn
			r.results[one.Seed] = one
		}
	}
	return lines.Err()
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
			r.add(result{Seed: seed, Failed: true}) // it does not end, or ends the process
		}
	}
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
		fmt.Sprintf("-seeds=%d", n), "-results="+r.file())
	cmd.Stdout, cmd.Stderr = f, f
	failed := cmd.Run()
	if err := errors.Join(f.Close(), r.load()); err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
	}
	if failed == nil {
		_ = os.Remove(path)
	}
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

// totals adds up the results of the range.
func (r *runner) totals() (seeds int, sum result, failed []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seed, one := range r.results {
		if seed < r.first || seed >= r.first+uint64(r.seeds) {
			continue
		}
		seeds++
		sum.Simulated += one.Simulated
		sum.Healed = max(sum.Healed, one.Healed)
		sum.Steps, sum.Ops, sum.Acked, sum.Unsure = sum.Steps+one.Steps, sum.Ops+one.Ops, sum.Acked+one.Acked, sum.Unsure+one.Unsure
		if one.Failed {
			failed = append(failed, seed)
		}
	}
	slices.SortFunc(failed, cmp.Compare[uint64])
	return seeds, sum, failed
}

func (r *runner) line() string {
	seeds, sum, failed := r.totals()
	return fmt.Sprintf("%d seeds in all, %.1f simulated hours, %d failed\n", seeds, sum.Simulated.Hours(), len(failed))
}

// summary is what came of it.
func (r *runner) summary() (text string, failed bool) {
	seeds, sum, list := r.totals()
	var b strings.Builder
	fmt.Fprintf(&b, "seeds            %d of %d from %d on\n", seeds, r.seeds, r.first)
	fmt.Fprintf(&b, "simulated        %.1f h\n", sum.Simulated.Hours())
	fmt.Fprintf(&b, "faults           %d\n", sum.Steps)
	fmt.Fprintf(&b, "operations       %d, %d writes acknowledged, %d histories too hard to check\n", sum.Ops, sum.Acked, sum.Unsure)
	fmt.Fprintf(&b, "longest healing  %s after the last fault\n", sum.Healed)
	fmt.Fprintf(&b, "failed           %d %v\n", len(list), list)
	fmt.Fprintf(&b, "wall time        %s, this time\n", time.Since(r.begun).Round(time.Second))
	return b.String(), len(list) > 0
}
