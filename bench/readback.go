package main

import (
	"context"
	"sync"

	"github.com/adamantdb/adamant"
)

// readBack reads all documents where they are led now and counts the acknowledged writes that are not there as they were
// written.
func (all *clients) readBack(ctx context.Context) (missing, checked int64, err error) {
	var mu sync.Mutex
	err = eachOf(16, all.list, func(c *client) error {
		a, err := c.persist(ctx, func(r *request) { r.Do = askRead }, func(a reply) bool {
			return a.Code == 0 || a.Code == adamant.CodeNotFound // which is a finding
		})
		if err != nil {
			return err
		}
		acknowledged := c.acknowledged()
		lost := lostWrites(acknowledged, a.Entries, func(seq int64) uint64 { return sumOf(c.delta(seq)) })
		mu.Lock()
		defer mu.Unlock()
		missing, checked = missing+lost, checked+acknowledged
		return nil
	})
	return missing, checked, err
}

// lostWrites counts the writes 1 to acknowledged of one document that are not among what was read, once and as they were
// written. One more may be there: a write of unknown outcome.
func lostWrites(acknowledged int64, read []entry, sum func(seq int64) uint64) int64 {
	found := make(map[int64]int, len(read))
	for _, e := range read {
		if e.First == e.Last && e.First >= 1 && e.First <= acknowledged && e.Sum == sum(e.First) {
			found[e.First]++
		}
	}
	lost := acknowledged
	for _, times := range found {
		if times == 1 {
			lost--
		}
	}
	return lost
}

// eachOf does something with all elements, so many at the same time. It ends at the first error.
func eachOf[T any](workers int, list []T, do func(T) error) error {
	work := make(chan T)
	failed := make(chan struct{})
	var once sync.Once
	go func() {
		defer close(work)
		for _, e := range list {
			select {
			case work <- e:
			case <-failed:
				return
			}
		}
	}()
	return each(make([]struct{}, min(workers, len(list))), func(int, struct{}) error {
		for e := range work {
			if err := do(e); err != nil {
				once.Do(func() { close(failed) })
				return err
			}
		}
		return nil
	})
}
