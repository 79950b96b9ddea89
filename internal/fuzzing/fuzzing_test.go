package fuzzing

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// broken, in the environment, lets FuzzSample fail at inputs that are not in its corpus.
const broken = "ADAMANT_FUZZ_SAMPLE_IS_BROKEN"

func FuzzSample(f *testing.F) {
	f.Add([]byte("known"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if os.Getenv(broken) != "" && string(input) != "known" {
			t.Fatal("found something new")
		}
	})
}

func TestMoment(t *testing.T) { Moment(t) }

// A moment that can not fail would show nothing: it finds what only inputs beside the corpus show, and keeps one.
func TestMomentFindsWhatFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(broken, "1")
	c := command{self: self, target: "FuzzSample", count: inputs, cache: t.TempDir(), dir: t.TempDir()}
	if err := try(t.Context(), c); err == nil || !strings.Contains(err.Error(), "found something new") {
		t.Fatalf("a broken target passed: %v", err)
	}
	kept, err := filepath.Glob(filepath.Join(c.dir, "testdata", "fuzz", "FuzzSample", "*"))
	if err != nil || len(kept) == 0 {
		t.Fatalf("the input that failed was not kept: %v, %v", kept, err)
	}
	c.target = "FuzzNothing"
	if err := try(t.Context(), c); err == nil {
		t.Fatal("a target that does not exist passed")
	}
}

var target = regexp.MustCompile(`(?m)^func Fuzz\w+\(`)

// Who writes a fuzz target in a new package has it tried, too.
func TestEveryPackageFuzzes(t *testing.T) {
	root := filepath.Join("..", "..")
	fuzzes, tries := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		fuzzes[dir] = fuzzes[dir] || target.Match(source)
		tries[dir] = tries[dir] || strings.Contains(string(source), "Moment(t)")
		return nil
	})
	if err != nil {
		t.Fatalf("reading the tests: %v", err)
	}
	packages := 0
	for dir, has := range fuzzes {
		if has {
			packages++
			if !tries[dir] {
				t.Errorf("%s has fuzz targets that no test tries (fuzzing.Moment)", dir)
			}
		}
	}
	if packages < 10 {
		t.Errorf("found only %d packages with fuzz targets below %s", packages, root)
	}
}
