package store

import "sync"

// headCache keeps the most recently used heads of all members of a host, and of documents that were looked for in vain that
// they are not there. A cached head is always the one that the engine holds: see Documents.cachedHead for how readers and the
// writer keep that true.
type headCache struct {
	shards [16]headShard
}

type headShard struct {
	mu     sync.Mutex
	limit  int
	byHash map[headRef]*cachedHead
	order  cachedHead // of a ring: next is the most recently used, prev the one to go

	hits, misses uint64
}

// headRef is where a head is looked for. Of two documents of one hash, which are hard to find, only one is cached.
type headRef struct {
	partition uint32
	hash      uint64
}

type cachedHead struct {
	ref        headRef
	key        Key
	head       Head
	there      bool // false: there is no such document
	hidden     bool // it is about to change
	prev, next *cachedHead
}

// newHeadCache returns a cache of about limit heads, each some 300 bytes.
func newHeadCache(limit int) *headCache {
	c := &headCache{}
	for i := range c.shards {
		s := &c.shards[i]
		s.limit, s.byHash = max(1, limit/len(c.shards)), map[headRef]*cachedHead{}
		s.order.prev, s.order.next = &s.order, &s.order
	}
	return c
}

func (c *headCache) shard(hash uint64) *headShard { return &c.shards[hash%uint64(len(c.shards))] }

// get returns a head, if there is one; known is false when only the disk would tell.
func (c *headCache) get(partition uint32, p place) (head Head, there, known bool) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byHash[headRef{partition, p.hash}]
	if e == nil || e.hidden || e.key != p.key {
		s.misses++
		return Head{}, false, false
	}
	s.hits++
	s.use(e)
	return e.head, e.there, true
}

// keep makes a document's head the most recently used one; false when it is not there. One that is about to change is.
func (c *headCache) keep(partition uint32, hash uint64, space, key []byte) bool {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byHash[headRef{partition, hash}]
	if e == nil || e.key.Space != string(space) || e.key.Key != string(key) {
		return false
	}
	s.use(e)
	return true
}

// put stores a head, nil for that of a document that is not there, when still() holds, and reports whether it does; still is
// called under the shard's lock.
func (c *headCache) put(partition uint32, p place, h *Head, still func() bool) bool {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if still != nil && !still() {
		return false
	}
	ref := headRef{partition, p.hash}
	e := s.byHash[ref]
	if e != nil {
		s.use(e)
	} else {
		e = &cachedHead{ref: ref}
		if len(s.byHash) >= s.limit {
			s.remove(s.order.prev)
		}
		s.byHash[ref] = e
		s.insert(e)
	}
	e.key, e.there, e.hidden = p.key, h != nil, false
	if e.head = (Head{}); h != nil {
		e.head = *h
	}
	return true
}

// hide keeps a head from being found until it is put again, or dropped.
func (c *headCache) hide(partition uint32, p place) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byHash[headRef{partition, p.hash}]; e != nil && e.key == p.key {
		e.hidden = true
	}
}

func (c *headCache) drop(partition uint32, p place) {
	s := c.shard(p.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byHash[headRef{partition, p.hash}]; e != nil && e.key == p.key {
		s.remove(e)
	}
}

// use makes a head the most recently used one, as the others do, under mu.
func (s *headShard) use(e *cachedHead) {
	if s.order.next != e {
		e.unlink()
		s.insert(e)
	}
}

func (s *headShard) insert(e *cachedHead) {
	e.prev, e.next = &s.order, s.order.next
	e.prev.next, e.next.prev = e, e
}

func (s *headShard) remove(e *cachedHead) {
	e.unlink()
	delete(s.byHash, e.ref)
}

func (e *cachedHead) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

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
		for ref, e := range s.byHash {
			if ref.partition == partition {
				s.remove(e)
			}
		}
		s.mu.Unlock()
	}
}

// shed forgets the heads of documents for which the filter holds, and returns their number. What is known not to be there is forgotten, too,
// but is no document. The filter runs without a lock.
func (c *headCache) shed(partition uint32, filter func(Key) bool) int {
	var keys []Key
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for ref, e := range s.byHash {
			switch {
			case ref.partition != partition:
			case e.there:
				keys = append(keys, e.key)
			default:
				s.remove(e)
			}
		}
		s.mu.Unlock()
	}
	n := 0
	for _, key := range keys {
		if filter(key) {
			c.drop(partition, place{key: key, hash: key.Hash()})
			n++
		}
	}
	return n
}
