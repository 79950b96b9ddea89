package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The whole story, small: generated documents and a replay together, in a directory that is kept.
func TestTheWholeStory(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for some seconds")
	}
	var out syncBuilder
	dir := filepath.Join(t.TempDir(), "demo")
	err := Run(t.Context(), Options{Dir: dir, Partitions: 6, Documents: 60, Writers: 8, Load: 300 * time.Millisecond, Limit: 2 * time.Minute,
		Traces: []string{writeTrace(t, "small.json.gz")}, Copies: 2, Batch: 1, Out: &out})
	text := out.String()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "hosts.log"))
		t.Fatalf("%v\n%s\n%.20000s", err, text, log)
	}
	for _, want := range []string{"Killing h", "Starting an empty replacement of h", "is whole after", "documents                      62\n", "lost                           0\n",
		"copies read and compared       186, and 18 summary roots"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }) {
		t.Errorf("control characters in\n%q", text)
	}
}

// syncBuilder is written by several goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuilder) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
