package store

import (
	"fmt"

	"github.com/adamantdb/adamant/internal/interval"
)

// Abandon gives up indexes that nobody holds any more, after an operator recovered a partition without its majority. It closes
// the member's holes when they lie within lost, and returns whether it did: as long as anything else is missing, members may
// still hold documents that were changed at a lost index, and to cover it would tell others that these were deleted. It looks and
// closes in one step: damage that is met in between makes more missing. Everything is durable when it returns.
func (d *Documents) Abandon(lost interval.Set) (bool, error) {
	all := func() interval.Set {
		if holes := d.meta.holes; lost.Covers(holes) {
			return holes
		}
		return nil
	}
	closed, err := d.closeHoles(all)
	if err != nil || closed.Empty() {
		return false, err
	}
	unlock, err := d.lock()
	if err != nil {
		return true, err
	}
	defer unlock()
	d.sessions = nil // whatever they ask for, nothing is missing any more
	return true, nil
}

// Held opens the documents of a partition with the range that they were created with; false when there are none.
func (e *DocEngine) Held(partition uint32) (*Documents, bool, error) {
	if err := e.acquire(); err != nil {
		return nil, false, err
	}
	defer e.release()
	v, ok, err := get(e.db, appendMeta(nil, partition, metaRange))
	if err != nil {
		return nil, false, metaError(partition, err)
	}
	if !ok {
		return nil, false, nil
	}
	r, err := decodeRange(v)
	if err != nil {
		return nil, false, &CorruptionError{Partition: partition, Kind: "meta", Err: fmt.Errorf("range: %w", err)}
	}
	d, err := e.Member(partition, r)
	return d, err == nil, err
}
