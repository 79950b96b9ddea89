package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant"
)

// census is what a host finds when it reads what it has: every document, and every delta of it. It owes nothing to the sums
// by which members compare themselves.
type census struct {
	Documents, Heads, Entries int64
	Digest                    uint64 // sum over the documents of a hash of everything that was read of them
}

// size is a census without its digest.
func (c census) size() census {
	c.Digest = 0
	return c
}

// read takes the census of every host here.
func (s *site) read(ctx context.Context) (map[string]census, error) {
	all := map[string]census{}
	var mu sync.Mutex
	err := each(slices.Collect(maps.Keys(s.hosts)), func(_ int, name string) error {
		c, err := takeCensus(ctx, s.hosts[name])
		if err != nil {
			return fmt.Errorf("read host %s: %w", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all[name] = c
		return nil
	})
	return all, err
}

func takeCensus(ctx context.Context, h *adamant.Host) (c census, err error) {
	stale := adamant.WithConsistency(adamant.ReadStale) // what this host has itself
	var b []byte
	for info, err := range h.Inventory(ctx, adamant.Scope{}, stale) {
		if err != nil {
			return c, err
		}
		c.Documents++
		c.Heads += info.Head
		x := xxhash.New()
		b = appendText(appendText(b[:0], info.Key.Space), info.Key.Key)
		b = binary.AppendVarint(b, info.Head)
		_, _ = x.Write(b)
		for e, err := range h.Log(ctx, info.Key, stale) {
			if err != nil {
				return c, fmt.Errorf("document %s: %w", info.Key, err)
			}
			c.Entries++
			b = appendDelta(b[:0], &e.Delta)
			_, _ = x.Write(b)
		}
		c.Digest += x.Sum64()
	}
	return c, nil
}

// appendDelta encodes all of a delta, unlike any other.
func appendDelta(b []byte, d *adamant.Delta) []byte {
	for _, v := range []int64{d.SeqBegin, d.SeqEnd, d.AssetBytes, d.WhenToInvalidate} {
		b = binary.AppendVarint(b, v)
	}
	b = strconv.AppendBool(b, d.RequiresFutureInvalidation)
	for _, text := range [][]byte{d.Redo, d.Undo, d.Request} {
		b = appendText(b, text)
	}
	return appendText(b, d.Who)
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// census reads every document back on every host, and fails unless all of them hold the same.
func (f *fleet) census(ctx context.Context) (census, error) {
	answers, err := f.all(ctx, func(int) order { return order{Do: doRead} })
	if err != nil {
		return census{}, err
	}
	all := map[string]census{}
	for _, a := range answers {
		maps.Copy(all, a.Census)
	}
	if len(all) != len(f.byHost) {
		return census{}, fmt.Errorf("%d of %s were read", len(all), quantity(len(f.byHost), "host"))
	}
	return unanimous(all)
}

// unanimous is what all hosts found.
func unanimous(all map[string]census) (census, error) {
	names := slices.Sorted(maps.Keys(all))
	for _, name := range names[1:] {
		if first := names[0]; all[name] != all[first] {
			return census{}, fmt.Errorf("hosts differ: %s was read as %+v, %s as %+v", first, all[first], name, all[name])
		}
	}
	return all[names[0]], nil
}
