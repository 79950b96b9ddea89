package saved

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const oneRun = `{"verb": "write", "started": "2026-01-02T03:04:05Z", "go": "go1", "system": "linux/amd64", "cpus": 2, "rounds": 2,
	"baseline": {"fsyncMicros": {"median": 150, "min": 100, "max": 200, "rounds": [100, 200]}}, "writesPerSecond": 15,
	"variants": [
		{"name": "partitions=16", "settings": {"hosts": 3, "log": "bolt"}, "figures": {"a": {"median": 1.5, "min": 1, "max": 2, "rounds": [1, 2]}}},
		{"name": "partitions=64", "settings": {}, "figures": {"a": {"median": null, "rounds": [null, 2]}}, "ratios": {"a": {"median": 2, "min": 2, "max": 2, "rounds": [2]}}}]}`

func TestRunOfBench(t *testing.T) {
	r, err := Read(strings.NewReader(oneRun))
	if err != nil {
		t.Fatal(err)
	}
	if r.Verb != "write" || len(r.Groups) != 1 || len(r.Groups[0].Variants) != 2 || r.Baseline["fsyncMicros"].Max != 200 {
		t.Fatalf("%+v", r)
	}
	v := r.Groups[0].Variants
	if !slices.Equal(v[0].Settings, []Fact{{"hosts", "3"}, {"log", "bolt"}}) || v[0].Figures["a"].Median != 1.5 {
		t.Errorf("%+v", v[0])
	}
	if a := v[1].Figures["a"]; !math.IsNaN(a.Median) || !math.IsNaN(a.Rounds[0]) || a.Rounds[1] != 2 {
		t.Errorf("%+v", a)
	}
	if ratios := r.Groups[0].Ratios; len(ratios) != 1 || ratios[0].Name != "partitions=64 / partitions=16" {
		t.Errorf("%+v", ratios)
	}
	s, ok := r.Sweep()
	if !ok || s.Setting != "partitions" || len(s.Lines) != 1 || s.Lines[0].Points[1].Value != 64 {
		t.Errorf("%+v, %v", s, ok)
	}
}

func TestNoSweepOverNames(t *testing.T) {
	for _, names := range [][]string{{"log=bolt", "log=pebble"}, {"a=1", "b=2"}, {"a=1"}, {""}, {"a=1", "a=NaN"}} {
		g := Group{}
		for _, n := range names {
			g.Variants = append(g.Variants, Variant{Name: n})
		}
		if s, ok := (&Result{Groups: []Group{g}}).Sweep(); ok {
			t.Errorf("%q: %+v", names, s)
		}
	}
}

// One with every kind of wrong file: what is said of it, besides its name.
func TestBadFiles(t *testing.T) {
	figure := `{"median": 1, "min": 1, "max": 1, "rounds": [1]}`
	many := strings.Repeat(`{"figures": {}},`, maxVariants)
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {" \n", "empty"},
		"no JSON":         {"writes/s  12", "not a JSON object"},
		"cut off":         {oneRun[:len(oneRun)/2], "not a JSON object"},
		"two objects":     {oneRun + oneRun, "not a JSON object"},
		"a list":          {"[" + oneRun + "]", "not a JSON object"},
		"null":            {"null", "no result"},
		"something else":  {`{"hosts": {}}`, "no result"},
		"wrong type":      {`{"verb": 5, "variants": []}`, "verb"},
		"wrong variants":  {`{"verb": "write", "variants": "log"}`, "variants"},
		"no variants":     {`{"verb": "write", "variants": []}`, "no variants"},
		"no verb":         {`{"variants": [{"figures": {"a": ` + figure + `}}]}`, "no verb"},
		"no rounds":       {`{"verb": "write", "variants": [{"figures": {"a": {"median": 1}}}]}`, `"a"`},
		"too great":       {`{"verb": "write", "variants": [{"figures": {"a": {"median": 1e999}}}]}`, "1e999"},
		"no loads":        {`{"verb": "compare", "loads": []}`, "no loads"},
		"empty load":      {`{"verb": "compare", "loads": [{"writers": 1}]}`, "no variants"},
		"words in trial":  {`{"verb": "write", "system": "etcd", "writesPerSecond": "many"}`, "writesPerSecond"},
		"many variants":   {`{"verb": "write", "variants": [` + many + `{"figures": {}}]}`, "more than 1024 variants"},
		"baseline in one": {`{"verb": "write", "baseline": {"fsyncMicros": 5}, "variants": []}`, "baseline"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "some.json")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadFile(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFilesWithoutAnEnd(t *testing.T) {
	if _, err := Read(blanks{}); err == nil || !strings.Contains(err.Error(), "more than 64 MB") {
		t.Errorf("%v", err)
	}
	if _, err := ReadFile(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func FuzzRead(f *testing.F) {
	f.Add(oneRun)
	f.Add(`{"verb": "compare", "loads": [{"writers": 1, "variants": [{"system": "etcd", "best": true, "figures": {}}]}, {"writers": 2, "variants": [{}]}]}`)
	f.Add(`{"verb": "write", "system": "raft", "writesPerSecond": null, "fsyncMicros": 3}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(r.Groups) == 0 || len(r.Groups[0].Variants) == 0 {
			t.Errorf("a result of nothing: %+v", r)
		}
		r.Sweep()
	})
}
