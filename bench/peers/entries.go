package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strconv"
)

// How much of a document one write brings when a cluster is filled: one command of any system.
const (
	fillEntries = 128
	fillBytes   = 1 << 20
)

// fillers fill a cluster, each with documents of its own.
const fillers = 64

// dataset is what the members of every system hold: so many entries of each document, which no two have the same.
type dataset struct {
	documents, deltas, size int
	seed                    uint64
}

// entryKey names an entry in all systems; sequence numbers begin at 1.
func entryKey(document string, seq int64) string { return document + "/" + strconv.FormatInt(seq, 10) }

// value has the shape of a payload. It is the same whenever it is asked for.
func (d dataset) value(document, seq int) []byte {
	rng := rand.New(rand.NewPCG(d.seed, uint64(document)<<32|uint64(seq)))
	return newPayload(rng, d.size)
}

// fill writes everything and says what that is.
func (d dataset) fill(ctx context.Context, sys rebuilder, fillers int) (census, error) {
	parts := make([]census, fillers)
	err := each(parts, func(i int, _ census) error {
		for n := i; n < d.documents; n += fillers {
			if err := d.fillDocument(ctx, sys, n, &parts[i]); err != nil {
				return err
			}
		}
		return nil
	})
	var sum census
	for _, c := range parts {
		sum.Entries, sum.Bytes, sum.Sum = sum.Entries+c.Entries, sum.Bytes+c.Bytes, sum.Sum+c.Sum
	}
	return sum, err
}

func (d dataset) fillDocument(ctx context.Context, sys rebuilder, document int, c *census) error {
	name := documentKey(document).String()
	for first := 1; first <= d.deltas; {
		if err := ctx.Err(); err != nil {
			return err // not every system heeds it
		}
		var values [][]byte
		seq := first
		for bytes := 0; seq <= d.deltas && len(values) < fillEntries && bytes < fillBytes; seq++ {
			v := d.value(document, seq)
			values, bytes = append(values, v), bytes+len(v)
			c.add(entryKey(name, int64(seq)), v)
		}
		if err := sys.put(ctx, document, first, values); err != nil {
			return err
		}
		first = seq
	}
	return nil
}

// census is what was found in one place, in any order.
type census struct {
	Entries, Bytes int64  // bytes of values
	Sum            uint64 // of the hashes of keys with their values; means something in this process only
}

var censusSeed = maphash.MakeSeed()

// add counts an entry, whose value may come in parts.
func (c *census) add(key string, value ...[]byte) {
	var h maphash.Hash
	h.SetSeed(censusSeed)
	h.WriteString(key) // a hash takes everything
	h.WriteByte(0)
	for _, part := range value {
		h.Write(part)
		c.Bytes += int64(len(part))
	}
	c.Entries++
	c.Sum += h.Sum64()
}

// differs says in which way what was found is not what was written; nil when it is.
func (c census) differs(written census) error {
	switch {
	case c == written:
		return nil
	case c.Entries != written.Entries || c.Bytes != written.Bytes:
		return fmt.Errorf("%d entries of %d bytes were found, %d of %d were written", c.Entries, c.Bytes, written.Entries, written.Bytes)
	}
	return fmt.Errorf("%d entries of %d bytes were found, as were written, but not the same", c.Entries, c.Bytes)
}
