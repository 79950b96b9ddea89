package partition

import (
	"testing"
	"testing/synctest"
	"time"
)

// resting reports whether nothing watches a member.
func (v *vigil) resting() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.running
}

// TestQuietMembersAreNotWatched: a member that nothing happens to has no goroutine that watches it, be it a leader or a follower, and
// what happens to it then is seen all the same: the end of its lease, another leader, an own office, its end.
func TestQuietMembersAreNotWatched(t *testing.T) { synctest.Test(t, testQuietMembersAreNotWatched) }

func testQuietMembersAreNotWatched(t *testing.T) {
	g, h := newLiveGroup(t, 3, 200*time.Millisecond, nil)
	first := g.serving()
	quiet := func() bool {
		for _, nd := range g.nodes {
			if !nd.part.vigil.resting() {
				return false
			}
		}
		return true
	}
	g.wait("all members to rest", quiet)
	_, epoch, err := first.part.Epoch()
	must(t, err)
	time.Sleep(10 * time.Second) // many leases
	if !quiet() || epoch.Err() != nil {
		t.Fatalf("after a quiet time: all rest: %v, the epoch: %v", quiet(), epoch.Err())
	}

	h.isolate(g, first)
	g.wait("the epoch of the leader that was cut off to end", func() bool { return epoch.Err() != nil })
	var second *node
	g.wait("another one to serve", func() bool {
		for _, nd := range g.nodes {
			if _, _, err := nd.part.Epoch(); err == nil && nd != first {
				second = nd
			}
		}
		return second != nil
	})
	h.heal()
	g.wait("all to know the new leader, and to rest again", func() bool {
		for _, nd := range g.nodes {
			nd.part.mu.Lock()
			leader := nd.part.leaderID
			nd.part.mu.Unlock()
			if leader != second.id {
				return false
			}
		}
		return quiet()
	})

	_, epoch, err = second.part.Epoch()
	must(t, err)
	h.down(second)
	if epoch.Err() == nil {
		t.Error("a leader that rested was closed, and its epoch goes on")
	}
	second.part.wake()
	if !second.part.vigil.resting() {
		t.Error("a closed member is watched again")
	}
}

// TestWatchWaitsForWhatRaftHasToSay: a member is watched until Raft has said in as many words what its state tells already, and a
// wake that comes while it is being looked at is not lost.
func TestWatchWaitsForWhatRaftHasToSay(t *testing.T) {
	synctest.Test(t, testWatchWaitsForWhatRaftHasToSay)
}

func testWatchWaitsForWhatRaftHasToSay(t *testing.T) {
	g, _ := newLiveGroup(t, 3, 200*time.Millisecond, nil)
	p := g.serving().part
	g.wait("the leader to rest", p.vigil.resting)
	if !p.heardAll() {
		t.Fatal("the leader rests and has not heard all")
	}
	p.heard = false // nobody else looks: it rests
	if p.heardAll() {
		t.Error("Raft leads and has not said so yet: that is all")
	}
	p.heard = true
	p.notify <- true
	if p.heardAll() {
		t.Error("a word of Raft waits: that is all")
	}
	<-p.notify

	v := &vigil{poke: make(chan struct{}, 1), running: true}
	v.poke <- struct{}{}
	if v.rest() || v.resting() {
		t.Error("rested although told to look again")
	}
	<-v.poke
	if !v.rest() || !v.resting() {
		t.Error("did not rest")
	}
}

// TestCloseFindsEveryMemberWatched: whatever a member's watch is about when it is closed, it ends the leadership and does not come
// back.
func TestCloseFindsEveryMemberWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h := newLiveGroup(t, 1, 200*time.Millisecond, nil)
		nd := g.serving()
		_, epoch, err := nd.part.Epoch()
		must(t, err)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					nd.part.wake()
				}
			}
		}()
		h.down(nd)
		close(stop)
		<-done
		if epoch.Err() == nil || !nd.part.vigil.resting() {
			t.Errorf("after Close: the epoch: %v, watched: %v", epoch.Err(), !nd.part.vigil.resting())
		}
	})
}
