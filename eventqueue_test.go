package adamant

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestEventsQueueInOrder: calls come one at a time, in order; while one is slow, newer news of a thing replaces older, and
// nothing is lost that has a topic of its own.
func TestEventsQueueInOrder(t *testing.T) {
	var mu sync.Mutex
	var got []string
	busy := make(chan struct{})
	entered := make(chan struct{}, 100)
	note := func(s string) {
		mu.Lock()
		got = append(got, s)
		mu.Unlock()
		entered <- struct{}{}
		<-busy
	}
	q := newEventQueue()
	e := q.deliver(Events{
		LeaderChanged:       func(c LeaderChange) { note(fmt.Sprintf("leader %d %s", c.Partition, c.Leader)) },
		CatastrophicFailure: func(c Catastrophe) { note("lost " + c.Key.Key) },
		HealthChanged:       func(c HealthChange) { note(fmt.Sprintf("complete %v", c.Complete)) },
		ConfigChanged:       func(v uint64) { note(fmt.Sprintf("config %d", v)) },
	}.withDefaults())
	e.LeaderChanged(LeaderChange{Partition: 1, Leader: "a"})
	<-entered // the first call is under way; the others wait
	for i := range 50 {
		e.CatastrophicFailure(Catastrophe{Key: Key{Space: "space", Key: fmt.Sprintf("d%02d", i)}})
	}
	e.LeaderChanged(LeaderChange{Partition: 1, Leader: "b"})
	e.HealthChanged(HealthChange{Complete: false})
	e.HealthChanged(HealthChange{Complete: true})
	for i := range 1000 {
		e.LeaderChanged(LeaderChange{Partition: 2, Leader: fmt.Sprint("x", i)})
		e.ConfigChanged(uint64(i))
	}
	e.LeaderChanged(LeaderChange{Partition: 1, Leader: "c"})
	q.mu.Lock()
	waiting := q.waiting.Len()
	q.mu.Unlock()
	if waiting > 60 {
		t.Errorf("%d calls wait for a slow application", waiting)
	}
	close(busy)
	q.close()
	want := []string{"leader 1 a"}
	for i := range 50 {
		want = append(want, fmt.Sprintf("lost d%02d", i))
	}
	want = append(want, "complete false", "complete true", "leader 2 x999", "config 999", "leader 1 c")
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	e.ConfigChanged(7) // after the end: dropped, nothing blocks
}
