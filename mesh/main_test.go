package mesh

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// After the tests, none of the goroutines they made is left.
func TestMain(m *testing.M) {
	code := m.Run()
	var left string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if left = leftGoroutines(); left == "" {
			break
		}
	}
	if left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leftGoroutines are the stacks of all goroutines but this one that run code of
// this module, raft or memberlist.
func leftGoroutines() string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && (strings.Contains(g, "adamantdb/adamant") || strings.Contains(g, "hashicorp/")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}
