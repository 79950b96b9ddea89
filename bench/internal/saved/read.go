package saved

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// What a file may have at the most. Those of bench are far below.
const (
	MaxBytes    = 64 << 20
	maxVariants = 1024 // in all groups
	maxFigures  = 256  // of a variant
	maxRounds   = 10_000
)

// ReadFile reads a file; errors name it.
func ReadFile(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Read reads one JSON object and nothing after it.
func Read(in io.Reader) (*Result, error) {
	text, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > MaxBytes:
		return nil, fmt.Errorf("more than %d MB: no result of a run", MaxBytes>>20)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("empty: want the JSON object of a run")
	}
	var has map[string]json.RawMessage
	if err := json.Unmarshal(text, &has); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	var r *Result
	switch {
	case has["variants"] != nil:
		r, err = readAs[run](text)
	case has["loads"] != nil:
		r, err = readAs[comparison](text)
	case has["system"] != nil && has["writesPerSecond"] != nil:
		r, err = readAs[trial](text)
	default:
		return nil, errors.New("no result of bench (which has variants), nor of bench/peers (which has loads, or a system and writesPerSecond)")
	}
	if err != nil {
		return nil, err
	}
	return r, r.check()
}

// form is one of the shapes that files have.
type form interface{ result() *Result }

func readAs[F form](text []byte) (*Result, error) {
	var f F
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("not what bench writes: %w", err)
	}
	return f.result(), nil
}

func (r *Result) check() error {
	if r.Verb == "" {
		return errors.New("no verb")
	}
	if len(r.Groups) == 0 {
		return errors.New("no loads")
	}
	if err := checkFigures("baseline", r.Baseline); err != nil {
		return err
	}
	variants := 0
	for _, g := range r.Groups {
		if len(g.Variants) == 0 {
			return errors.New("no variants")
		}
		if variants += len(g.Variants); variants > maxVariants {
			return fmt.Errorf("more than %d variants", maxVariants)
		}
		for _, v := range g.Variants {
			if err := checkFigures(v.Name, v.Figures); err != nil {
				return err
			}
		}
		for _, ratio := range g.Ratios {
			if err := checkFigures(ratio.Name, ratio.Figures); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkFigures(of string, figures map[string]Spread) error {
	if len(figures) > maxFigures {
		return fmt.Errorf("%q has more than %d figures", of, maxFigures)
	}
	for _, key := range slices.Sorted(maps.Keys(figures)) {
		if n := len(figures[key].Rounds); n == 0 || n > maxRounds {
			return fmt.Errorf("figure %q of %q has %d rounds: want 1 to %d", key, of, n, maxRounds)
		}
	}
	return nil
}
