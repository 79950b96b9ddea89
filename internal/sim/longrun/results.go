package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The files of a directory that are read again.
const (
	resultsFile = "results.jsonl"
	wallFile    = "wall.txt"
)

// result is a line of results.jsonl, as the simulation writes it.
type result struct {
	Seed      uint64        `json:"seed"`
	Hours     bool          `json:"hours"`
	Failed    bool          `json:"failed"`
	Took      time.Duration `json:"took"`
	Simulated time.Duration `json:"simulated"`
	Healed    time.Duration `json:"healed"`
	Steps     int           `json:"steps"`
	Ops       int           `json:"operations"`
	Acked     int           `json:"acknowledged"`
	Unsure    int           `json:"unsure"`

	// Happened counts what took effect of the steps, by kind, and more; nil in results of before it was counted.
	Happened map[string]int `json:"happened,omitempty"`
}

// readResults reads those of a directory. A seed may have several.
func readResults(dir string) (list []result, err error) {
	f, err := os.Open(filepath.Join(dir, resultsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one result
		if json.Unmarshal(lines.Bytes(), &one) == nil { // the last line may be torn
			list = append(list, one)
		}
	}
	return list, lines.Err()
}

// wallTime is what all runs into a directory took together.
func wallTime(dir string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(dir, wallFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(b)))
}

func (r *runner) wall() time.Duration { return r.before + time.Since(r.begun).Round(time.Second) }

// saveWallTime is called again and again: a run may be ended at any time.
func (r *runner) saveWallTime() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.WriteFile(filepath.Join(r.out, wallFile), []byte(r.wall().String()+"\n"), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "longrun:", err)
	}
}

// totals is what results add up to.
type totals struct {
	seeds   int
	counted int // seeds that say what happened
	sum     result
	failed  []uint64
}

func (t *totals) add(one result) {
	t.seeds++
	sum := &t.sum
	sum.Took, sum.Simulated, sum.Healed = sum.Took+one.Took, sum.Simulated+one.Simulated, max(sum.Healed, one.Healed)
	sum.Steps, sum.Ops, sum.Acked, sum.Unsure = sum.Steps+one.Steps, sum.Ops+one.Ops, sum.Acked+one.Acked, sum.Unsure+one.Unsure
	if one.Happened != nil {
		t.counted++
	}
	if sum.Happened == nil {
		sum.Happened = map[string]int{}
	}
	for kind, n := range one.Happened {
		sum.Happened[kind] += n
	}
	if one.Failed {
		t.failed = append(t.failed, one.Seed)
		slices.SortFunc(t.failed, cmp.Compare[uint64])
	}
}

func (t totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "simulated        %.1f h\n", t.sum.Simulated.Hours())
	fmt.Fprintf(&b, "faults planned   %d\n", t.sum.Steps)
	fmt.Fprintf(&b, "happened         as %d seeds have counted:\n", t.counted)
	for _, kind := range slices.Sorted(maps.Keys(t.sum.Happened)) {
		fmt.Fprintf(&b, "  %-30s %d\n", kind, t.sum.Happened[kind])
	}
	fmt.Fprintf(&b, "operations       %d, %d writes acknowledged, %d histories too hard to check\n", t.sum.Ops, t.sum.Acked, t.sum.Unsure)
	fmt.Fprintf(&b, "longest healing  %s after the last fault\n", t.sum.Healed)
	fmt.Fprintf(&b, "failed           %d %v\n", len(t.failed), t.failed)
	return b.String()
}

// totals adds up the results of the range.
func (r *runner) totals() (t totals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seed, one := range r.results {
		if seed >= r.first && seed < r.first+uint64(r.seeds) {
			t.add(one)
		}
	}
	return t
}

func (r *runner) line() string {
	t := r.totals()
	return fmt.Sprintf("%d seeds in all, %.1f simulated hours, %d failed\n", t.seeds, t.sum.Simulated.Hours(), len(t.failed))
}

// summary is what came of it.
func (r *runner) summary() (text string, failed bool) {
	t := r.totals()
	return fmt.Sprintf("seeds            %d of %d from %d on\n%swall time        %s, all runs into this directory\n", t.seeds, r.seeds, r.first, t,
		r.wall()), len(t.failed) > 0
}

// printSum shows what the results of several directories add up to. A seed counts once, however often it ran, and as failed
// when it failed anywhere.
func printSum(dirs []string) error {
	type seed struct {
		hours bool
		n     uint64
	}
	seen, wall := map[seed]result{}, time.Duration(0)
	for _, dir := range dirs {
		list, err := readResults(dir)
		if err != nil {
			return err
		}
		for _, one := range list {
			if at := (seed{one.Hours, one.Seed}); !seen[at].Failed {
				seen[at] = one
			}
		}
		took, err := wallTime(dir)
		if err != nil {
			return err
		}
		wall += took
	}
	var t totals
	long := 0
	for at, one := range seen {
		if at.hours {
			long++
		}
		t.add(one)
	}
	fmt.Printf("seeds            %d, %d of them of hours, in %d directories\n%swall time        %s\n", t.seeds, long, len(dirs), t, wall)
	if len(t.failed) > 0 {
		return errFailed
	}
	return nil
}
