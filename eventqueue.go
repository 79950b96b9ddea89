package adamant

import (
	"container/list"
	"sync"
)

// eventQueue calls the application's functions one at a time, in order, on its own goroutine, so that nothing else ever
// waits for the application. What a slow application has not taken yet is replaced by newer news of the same thing: at most
// one call waits for each partition, host or document and kind. No lost document is forgotten.
type eventQueue struct {
	mu      sync.Mutex
	waiting *list.List // of queuedEvent
	byTopic map[eventTopic]*list.Element
	ended   bool
	more    chan struct{} // capacity 1
	done    chan struct{}
}

// eventTopic is what an event is about: a newer one replaces an older one that was not delivered yet.
type eventTopic struct {
	kind      string
	partition uint32
	name      string // of a host or document
}

type queuedEvent struct {
	topic eventTopic
	call  func()
}

func newEventQueue() *eventQueue {
	q := &eventQueue{waiting: list.New(), byTopic: map[eventTopic]*list.Element{}, more: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *eventQueue) push(topic eventTopic, call func()) {
	q.mu.Lock()
	if q.ended {
		q.mu.Unlock()
		return
	}
	if old := q.byTopic[topic]; old != nil {
		q.waiting.Remove(old)
	}
	q.byTopic[topic] = q.waiting.PushBack(queuedEvent{topic, call})
	q.mu.Unlock()
	poke(q.more)
}

func (q *eventQueue) run() {
	defer close(q.done)
	for {
		q.mu.Lock()
		front := q.waiting.Front()
		ended := q.ended
		if front != nil {
			delete(q.byTopic, q.waiting.Remove(front).(queuedEvent).topic)
		}
		q.mu.Unlock()
		switch {
		case front != nil:
			front.Value.(queuedEvent).call()
		case ended:
			return
		default:
			<-q.more
		}
	}
}

// close delivers what waits and ends the goroutine.
func (q *eventQueue) close() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	poke(q.more)
	<-q.done
}

// deliver returns the application's functions such that a call only queues.
func (q *eventQueue) deliver(e Events) Events {
	return Events{
		LeaderChanged: func(c LeaderChange) {
			q.push(eventTopic{kind: "leader", partition: c.Partition}, func() { e.LeaderChanged(c) })
		},
		CatastrophicFailure: func(c Catastrophe) {
			q.push(eventTopic{kind: "catastrophe", partition: c.Partition, name: c.Key.String()}, func() { e.CatastrophicFailure(c) })
		},
		HealthChanged: func(c HealthChange) {
			kind := "healed"
			if !c.Complete {
				kind = "hole"
			}
			q.push(eventTopic{kind: kind, partition: c.Partition}, func() { e.HealthChanged(c) })
		},
		SafeModeChanged: func(c SafeModeChange) {
			q.push(eventTopic{kind: "safemode", partition: c.Partition}, func() { e.SafeModeChanged(c) })
		},
		PeerChanged: func(c PeerChange) {
			q.push(eventTopic{kind: "peer", name: c.Host}, func() { e.PeerChanged(c) })
		},
		ConfigChanged:  func(v uint64) { q.push(eventTopic{kind: "config"}, func() { e.ConfigChanged(v) }) },
		ConfigRejected: func(err error) { q.push(eventTopic{kind: "rejected"}, func() { e.ConfigRejected(err) }) },
		MemberFailed: func(f MemberFailure) {
			q.push(eventTopic{kind: "memberFailed", partition: f.Partition}, func() { e.MemberFailed(f) })
		},
		Failed: func(err error) { q.push(eventTopic{kind: "failed"}, func() { e.Failed(err) }) },
	}
}
