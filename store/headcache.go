package store

import (
	"container/list"
	"sync"
)

// headCache keeps the most recently used heads of all members of a host. A cached head is always the one that the
// engine holds: see Documents.cachedHead for how readers and the writer keep that true.
type headCache struct {
	shards [16]headShard
}

type headShard struct {
	mu    sync.Mutex
	limit int
	byKey map[headRef]*list.Element // of *cachedHead
	order *list.List                // most recently used first

	hits, misses uint64
}

type headRef struct {
	partition uint32
	key       Key
}

type cachedHead struct {
	ref  headRef
	head Head
}

// newHeadCache returns a cache of about limit heads, each some 300 bytes.
func newHeadCache(limit int) *headCache {
	c := &headCache{}
	for i := range c.shards {
		c.shards[i] = headShard{limit: max(1, limit/len(c.shards)), byKey: map[headRef]*list.Element{}, order: list.New()}
	}
	return c
}

func (c *headCache) shard(hash uint64) *headShard { return &c.shards[hash%uint64(len(c.shards))] }

func (c *headCache) get(partition uint32, p place) (Head, bool) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	element, ok := s.byKey[headRef{partition, p.key}]
	if !ok {
		s.misses++
		return Head{}, false
	}
	s.hits++
	s.order.MoveToFront(element)
	return element.Value.(*cachedHead).head, true
}

// put stores a head when still() holds; it is called under the shard's lock.
func (c *headCache) put(partition uint32, p place, h Head, still func() bool) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if still != nil && !still() {
		return
	}
	ref := headRef{partition, p.key}
	if element, ok := s.byKey[ref]; ok {
		element.Value.(*cachedHead).head = h
		s.order.MoveToFront(element)
		return
	}
	s.byKey[ref] = s.order.PushFront(&cachedHead{ref, h})
	if s.order.Len() > s.limit {
		oldest := s.order.Back()
		s.order.Remove(oldest)
		delete(s.byKey, oldest.Value.(*cachedHead).ref)
	}
}

func (c *headCache) drop(partition uint32, p place) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if element, ok := s.byKey[headRef{partition, p.key}]; ok {
		s.order.Remove(element)
		delete(s.byKey, element.Value.(*cachedHead).ref)
	}
}

func (c *headCache) counts() (hits, misses uint64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		hits, misses = hits+s.hits, misses+s.misses
		s.mu.Unlock()
	}
	return hits, misses
}

// dropPartition forgets a whole member.
func (c *headCache) dropPartition(partition uint32) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for ref, element := range s.byKey {
			if ref.partition == partition {
				s.order.Remove(element)
				delete(s.byKey, ref)
			}
		}
		s.mu.Unlock()
	}
}

// shed forgets the heads for which the filter holds and returns their number. The filter runs without a lock.
func (c *headCache) shed(partition uint32, filter func(Key) bool) int {
	var refs []headRef
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for ref := range s.byKey {
			if ref.partition == partition {
				refs = append(refs, ref)
			}
		}
		s.mu.Unlock()
	}
	n := 0
	for _, ref := range refs {
		if filter(ref.key) {
			c.drop(partition, place{key: ref.key, hash: ref.key.Hash()})
			n++
		}
	}
	return n
}
