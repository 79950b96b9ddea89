package store

import (
	"iter"

	"github.com/adamantdb/adamant/merkle"
	"github.com/cockroachdb/pebble/v2"
)

// Info is a row of an inventory.
type Info struct {
	Key  Key
	Head Head
}

// Inventory iterates over the documents of a space, or of all spaces when it is empty, in the order of their hashes. It
// is one instant, reads heads only, and reads all of the partition's heads whatever the space: documents of a space are
// spread over the whole hash range. After an error the iteration ends.
func (d *Documents) Inventory(space string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := d.acquire(); err != nil {
			yield(Info{}, err)
			return
		}
		defer d.engine.release()
		if err := d.Flush(); err != nil {
			yield(Info{}, err)
			return
		}
		err := d.scanHeads(d.engine.db, 0, merkle.Buckets-1, func(k *recordKey, h *Head) bool {
			return space != "" && k.key.Space != space || yield(Info{Key: k.key, Head: *h}, nil)
		})
		if err != nil {
			yield(Info{}, err)
		}
	}
}

// scanHeads visits the heads of buckets [first, last] in hash order, until visit returns false. It uses one iterator,
// which jumps from the heads of a bucket to those of the next.
func (d *Documents) scanHeads(r pebble.Reader, first, last uint8, visit func(*recordKey, *Head) bool) (err error) {
	lower := appendKind(nil, d.partition, first, kindHead)
	_, upper := prefixRange(appendKind(nil, d.partition, last, kindHead))
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(d.partition, Key{}, kindHead, err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil && closeErr != nil {
			err = readError(d.partition, Key{}, kindHead, closeErr)
		}
	}()
	for ok := it.First(); ok; {
		if key := it.Key(); len(key) > kindPrefixLen && recordKind(key[kindPrefixLen-1]) != kindHead {
			bucket := key[kindPrefixLen-2]
			if bucket == last {
				return nil
			}
			ok = it.SeekGE(appendKind(nil, d.partition, bucket+1, kindHead))
			continue
		}
		more, err := d.visitHead(it, visit)
		if err != nil || !more {
			return err
		}
		ok = it.Next()
	}
	return nil
}

func (d *Documents) visitHead(it *pebble.Iterator, visit func(*recordKey, *Head) bool) (bool, error) {
	k, err := decodeRecordKey(it.Key())
	if err != nil {
		return false, &CorruptionError{Partition: d.partition, Kind: kindHead.String(), Err: err}
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return false, readError(d.partition, k.key, kindHead, err)
	}
	h, err := decodeHeadValue(v)
	if err != nil {
		return false, &CorruptionError{Partition: d.partition, Key: k.key, Kind: kindHead.String(), Err: err}
	}
	return visit(&k, &h), nil
}
