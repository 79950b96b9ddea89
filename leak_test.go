package adamant

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestCloseEndsEveryGoroutine: whatever a host started has ended when Close or Kill returns.
func TestCloseEndsEveryGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	c := newTestCluster(t, 3, 4, 3, nil)
	c.ready()
	c.fill(0, 30, 3)
	c.kill("h1")
	for _, h := range c.live() {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatalf("closing twice: %v", err)
		}
		if err := h.Create(testContext(t), testKey(1), testDelta(1, "x")); Code(err) != CodeClosed {
			t.Fatalf("write after Close: %v", err)
		}
	}
	c.hosts = map[string]*Host{}
	waitFor(t, "the goroutines to end", func() error {
		if n := runtime.NumGoroutine(); n > before {
			buf := make([]byte, 1<<20)
			stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
			return fmt.Errorf("%d goroutines, %d before; the last:\n%s", n, before, strings.Join(stacks[max(0, len(stacks)-3):], "\n\n"))
		}
		return nil
	})
}
