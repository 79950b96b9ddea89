package store

import (
	"testing"

	"github.com/adamantdb/adamant/internal/interval"
)

func TestRulesOfHoles(t *testing.T) {
	of := interval.Of
	if got := Skip(of(2, 3), 5, 8); !got.Equal(of(2, 3).Union(of(6, 8))) {
		t.Errorf("a marker makes the holes %s", got)
	}
	if got := Skip(of(2, 3), 5, 5); !got.Equal(of(2, 3)) {
		t.Errorf("an old marker makes the holes %s", got)
	}
	if got := Coverage(9, of(2, 6), of(2, 3)); !got.Equal(of(1, 3).Union(of(7, 9))) {
		t.Errorf("coverage %s", got)
	}
	if Complete(of(2, 2), 0, 5) || Complete(nil, 6, 5) || !Complete(nil, 5, 5) {
		t.Error("completeness")
	}
	progress := []interval.Set{of(2, 5), of(3, 9), of(1, 4)}
	if got := HealedEverywhere(of(2, 9), len(progress), func(b int) interval.Set { return progress[b] }); !got.Equal(of(3, 4)) {
		t.Errorf("all buckets have healed %s", got)
	}
	if got := AddHealed(of(2, 2), of(1, 6), of(2, 4)); !got.Equal(of(2, 4)) {
		t.Errorf("progress %s", got)
	}
}

func TestRulesOfASession(t *testing.T) {
	of := interval.Of
	a := Answers{Applied: 6}
	if !a.Heals().Empty() {
		t.Error("a session without an answer heals")
	}
	a.Answer(of(1, 9), 9, 4)
	if got := a.Heals(); !got.Equal(of(1, 6)) {
		t.Errorf("heals %s: more than was applied when it began, or less", got)
	}
	a.Answer(of(1, 3), 3, 11) // the peer crashed
	if got := a.Heals(); !got.Equal(of(1, 3)) || a.Seen != 11 {
		t.Errorf("heals %s, has seen %d", got, a.Seen)
	}
	a.Diverged = true
	if !a.Heals().Empty() {
		t.Error("a session that diverged heals")
	}
}
