package config

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if raceEnabled {
		if err := flag.Set("rapid.checks", "15"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// skipLarge skips what would take long under the race detector for nothing.
func skipLarge(t *testing.T, members int) {
	t.Helper()
	if raceEnabled && members > 400 {
		t.Skip("large plan under the race detector")
	}
}
