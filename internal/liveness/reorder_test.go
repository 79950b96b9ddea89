package liveness

import "testing"

// TestLeadersCountOnKeptPromisesOutOfOrder: the same when a request may overtake another one, as over two links in turn.
func TestLeadersCountOnKeptPromisesOutOfOrder(t *testing.T) { schedules(t, 3000, true) }

// TestListThatArrivesLate: a list that a newer one has overtaken must not make the host forget what it promised by the newer.
func TestListThatArrivesLate(t *testing.T) {
	h := newPair(t)
	h.word(1, 4)
	old, _ := h.l.Beat("F")
	h.word(2, 4)
	h.settle(at(0))
	h.acked(2, 4, at(0))
	h.f.Heard("L", old, at(10))
	if h.f.Release(2, "M", at(20), lease) {
		t.Fatal("a promise was broken: a list that is older than the one that made it has come in")
	}
}
