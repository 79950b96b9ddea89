//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// copyOf is what a member holds of a document, in short.
type copyOf struct {
	host string
	info httpapi.Info
	text [sha256.Size]byte // of the merged document
	log  [sha256.Size]byte // of all its deltas; zero when they were not read
}

// logged is one of so many documents whose deltas are compared one by one, too.
const logged = 4

// verify reads every document back from every member, compares the members with each other and with what was written.
func (f *field) verify(ctx context.Context) {
	f.note("reading everything back")
	expected := f.docs.alive()
	partitions := make(chan int)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := range partitions {
				f.verifyPartition(ctx, i, expected)
			}
		})
	}
	for i := range f.cluster.Load().Partitions {
		partitions <- i
	}
	close(partitions)
	readers.Wait()
	f.deletedStayAway(ctx)
	f.contestsStay(ctx)
	f.note("read %d copies back", f.verified.Load())
}

func (f *field) verifyPartition(ctx context.Context, i int, expected map[adamant.Key]*document) {
	p := f.cluster.Load().Partitions[i]
	first := map[adamant.Key]copyOf{}
	for n, name := range p.Members() {
		held, err := f.readBack(ctx, f.host(name), p.ID, expected)
		if err != nil {
			f.fail("%s: partition %d can not be read back: %v", name, p.ID, err)
			continue
		}
		if n == 0 {
			first = held
		}
		for key, d := range expected {
			if f.cluster.Load().Locate(key.Hash()) != i {
				continue
			}
			if c, ok := held[key]; !ok || c.info.Head != d.acked.Load() {
				f.lost.Add(1)
				f.fail("%s has %s at %d (there: %t), acknowledged are %d", name, key, c.info.Head, ok, d.acked.Load())
			}
		}
		for key, c := range held {
			if o, ok := first[key]; ok && !c.same(o) {
				f.divergent.Add(1)
				f.fail("%s is not the same at %s and %s: %+v, %+v", key, o.host, name, o, c)
			} else if !ok {
				f.divergent.Add(1)
				f.fail("%s is at %s and not at %s", key, name, p.Voters[0])
			}
		}
		for key, c := range first {
			if _, ok := held[key]; !ok {
				f.divergent.Add(1)
				f.fail("%s is at %s and not at %s", key, c.host, name)
			}
		}
	}
}

func (c copyOf) same(o copyOf) bool {
	c.host = o.host
	return c == o
}

// readBack reads all documents of a host's member of a partition.
func (f *field) readBack(ctx context.Context, h *host, id uint32, expected map[adamant.Key]*document) (map[adamant.Key]copyOf, error) {
	held := map[adamant.Key]copyOf{}
	for info, err := range h.client.Inventory(ctx, "", strconv.Itoa(int(id)), "stale") {
		if err != nil {
			return nil, err
		}
		key := adamant.Key{Space: info.Space, Key: info.Key}
		if info.Staleness == nil || !info.Staleness.Complete {
			return nil, errors.New("not complete")
		}
		info.Staleness = nil
		d := expected[key]
		if d == nil && !f.contested(key) && !f.docs.known(key) {
			f.resurrected.Add(1)
			f.fail("%s holds %s at %d, which was deleted or never written", h.name, key, info.Head)
			continue
		}
		c, err := f.readCopy(ctx, h, key, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		c.host, c.info = h.name, info
		held[key] = c
		f.verified.Add(1)
	}
	return held, nil
}

func (f *field) readCopy(ctx context.Context, h *host, key adamant.Key, d *document) (c copyOf, err error) {
	doc, err := h.client.Get(ctx, key, "stale")
	if err != nil {
		return c, err
	}
	c.text = sha256.Sum256(doc.JSON)
	if d != nil {
		if err := d.check(doc.JSON, 0, doc.Head); err != nil {
			f.lost.Add(1)
			f.fail("%s holds %s wrongly: %v", h.name, key, err)
		}
	}
	if key.Hash()%logged != 0 {
		return c, nil
	}
	sum := sha256.New()
	for e, err := range h.client.Log(ctx, key, "stale") {
		if err != nil {
			return c, err
		}
		x := adamant.Delta(e.Delta)
		fmt.Fprintln(sum, e.Index, e.Term, e.Chain, x.SeqBegin, x.SeqEnd, string(x.Redo), string(x.Undo), x.Who)
		if d == nil {
			continue
		}
		if want := d.deltas(x.SeqBegin, x.SeqBegin)[0]; !bytes.Equal(want.Redo, x.Redo) || !bytes.Equal(want.Undo, x.Undo) || want.Who != x.Who {
			f.lost.Add(1)
			f.fail("%s holds another delta at %d of %s: %+v", h.name, x.SeqBegin, key, x)
		}
	}
	sum.Sum(c.log[:0])
	return c, nil
}

// deletedStayAway asks whoever leads for documents that were deleted.
func (f *field) deletedStayAway(ctx context.Context) {
	f.docs.mu.Lock()
	list := slices.Clone(f.docs.deleted)
	f.docs.mu.Unlock()
	ctx, cancel := f.patience(ctx, endPatience)
	defer cancel()
	r := rand.New(rand.NewPCG(f.o.Seed, 4))
	for _, d := range list {
		var doc httpapi.Document
		_, err := f.docs.persist(ctx, d.key, r, func(ctx context.Context, h *host) (err error) {
			doc, err = h.client.HeadPatch(ctx, d.key, d.limit, "quorum")
			return err
		})
		switch {
		case err == nil:
			f.resurrected.Add(1)
			f.fail("%s is at %d, and was deleted", d.key, doc.Head)
		case !errors.As(err, new(*adamant.NotFoundError)):
			f.fail("nobody can say that %s is gone: %v", d.key, err)
		}
	}
}
