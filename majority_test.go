package adamant

import (
	"testing"
	"time"
)

// TestMajorityIsLost when nobody has led for a while and too many voters are silent, and is back with the first leader.
func TestMajorityIsLost(t *testing.T) {
	const patience = 5 * time.Second
	start := time.Now()
	var m majority
	for i, c := range []struct {
		at     time.Duration
		leader bool
		silent []string
		lost   string
	}{
		{0, true, []string{"b", "c"}, ""},
		{time.Second, false, []string{"c", "b"}, ""},
		{5900 * time.Millisecond, false, []string{"c", "b"}, ""},
		{6 * time.Second, false, []string{"c"}, ""}, // a majority talks: it only has to elect
		{7 * time.Second, false, []string{"c", "b"}, "majority lost: b and c silent, of 3 voters"},
		{8 * time.Second, false, []string{"b"}, ""},
		{9 * time.Second, false, []string{"b", "c"}, "majority lost: b and c silent, of 3 voters"},
		{10 * time.Second, true, nil, ""},
		{11 * time.Second, false, []string{"b", "c"}, ""},
	} {
		if m.look(c.leader, 3, c.silent, start.Add(c.at), patience); m.lost != c.lost {
			t.Errorf("step %d: %q", i, m.lost)
		}
	}
}
