package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/internal/lincheck"
)

// observed is what a client and its readers saw of one document. Moments are nanoseconds since the clients were made.
type observed struct {
	mu      sync.Mutex
	ops     []lincheck.Op
	tenures map[uint64]tenure // by epoch
	reads   int
	stale   int
	first   string // about the first read that was stale
}

// tenure is when a leadership is known to have served lease reads: one had ended at from, and one began at until.
type tenure struct {
	host        string
	from, until int64
}

// entryID tells entries with different contents apart.
func entryID(redo []byte) string { return strconv.FormatUint(xxhash.Sum64(redo), 36) }

func (o *observed) write(kind lincheck.Kind, seq int64, redo []byte, call, ret int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ops = append(o.ops, lincheck.Op{Kind: kind, Seq: seq, IDs: []string{entryID(redo)}, Known: true, Call: call, Ret: ret})
}

// sight is what a linearizable read found.
type sight struct {
	client    int
	host      string
	epoch     uint64 // in which a lease read was served, 0 if that is not known
	head      int64
	newest    string // the id of the newest entry, "" if it is not known
	known     int64  // the head that was acknowledged before the read began
	call, ret int64
}

func (o *observed) read(s sight) {
	op := lincheck.Op{Client: s.client, Kind: lincheck.Tail, Seq: s.head + 1, Known: true, Found: true, Call: s.call, Ret: s.ret}
	if s.newest != "" {
		op.Seq, op.IDs = s.head, []string{s.newest}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ops = append(o.ops, op)
	o.reads++
	if s.head < s.known {
		if o.stale++; o.stale == 1 {
			o.first = fmt.Sprintf("host %s in epoch %d read head %d, %v after %d was acknowledged and before the read of %v began", s.host, s.epoch,
				s.head, time.Duration(s.call), s.known, time.Duration(s.ret-s.call))
		}
	}
	if s.epoch == 0 {
		return
	}
	if o.tenures == nil {
		o.tenures = map[uint64]tenure{}
	}
	t, ok := o.tenures[s.epoch]
	if !ok {
		t = tenure{host: s.host, from: s.ret, until: s.call}
	}
	t.from, t.until = min(t.from, s.ret), max(t.until, s.call)
	o.tenures[s.epoch] = t
}

// overlap is for how long a leadership is known to have served after a later one had begun to.
func (o *observed) overlap() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	epochs := slices.Sorted(maps.Keys(o.tenures))
	var worst int64
	for i, later := range epochs {
		for _, earlier := range epochs[:i] {
			worst = max(worst, o.tenures[earlier].until-o.tenures[later].from)
		}
	}
	return time.Duration(worst)
}

// historyPatience bounds the check of one document.
const historyPatience = 20 * time.Second

func (o *observed) check() lincheck.Result {
	o.mu.Lock()
	ops := condense(o.ops)
	o.mu.Unlock()
	return lincheck.Check(ops, historyPatience)
}

// condense makes one append of those that follow each other while nobody reads: a document has one writer, so that an order of
// these is one of those.
func condense(ops []lincheck.Op) []lincheck.Op {
	sorted := slices.Clone(ops)
	slices.SortStableFunc(sorted, func(a, b lincheck.Op) int { return cmp.Compare(a.Call, b.Call) })
	var out []lincheck.Op
	last := -1                      // position in out of the append that may be continued
	reading := int64(math.MinInt64) // the latest return of the reads so far
	for i, op := range sorted {
		if op.Kind != lincheck.Append {
			if op.Kind == lincheck.Tail {
				reading = max(reading, op.Ret)
			}
			out, last = append(out, op), -1
			continue
		}
		seen := i+1 < len(sorted) && sorted[i+1].Call <= op.Ret // by a read that begins before it ends
		if last >= 0 && !seen && reading < out[last].Call {
			out[last].IDs = append(out[last].IDs, op.IDs...)
			out[last].Ret = op.Ret
			continue
		}
		last = len(out)
		op.IDs = slices.Clone(op.IDs)
		out = append(out, op)
	}
	return out
}

// judgement is what came of all documents.
type judgement struct {
	reads, stale, illegal, unknown int
	overlap                        time.Duration
	text                           []string // about the first of what is wrong
}

// judge checks everything that was seen.
func (all *clients) judge() (j judgement, err error) {
	var mu sync.Mutex
	err = eachOf(2, all.list, func(c *client) error {
		verdict := c.seen.check()
		overlap := c.seen.overlap()
		mu.Lock()
		defer mu.Unlock()
		j.reads += c.seen.reads
		j.stale += c.seen.stale
		j.overlap = max(j.overlap, overlap)
		if c.seen.stale > 0 {
			j.text = append(j.text, c.seen.first)
		}
		if overlap > 0 {
			j.text = append(j.text, fmt.Sprintf("document %s: leaderships overlap for %v: %+v", c.key, overlap, c.seen.tenures))
		}
		switch verdict {
		case lincheck.Illegal:
			j.illegal++
			j.text = append(j.text, fmt.Sprintf("document %s: no order explains what was seen", c.key))
		case lincheck.Unknown:
			j.unknown++
		}
		return nil
	})
	return j, err
}

// complaints bounds how many of a kind are told.
const complaints = 5

// err is nil if all is well. A history that took too long to check is not called wrong.
func (j judgement) err() error {
	if j.stale == 0 && j.illegal == 0 && j.overlap == 0 {
		return nil
	}
	return errors.New(fmt.Sprintf("%d of %d linearizable reads were stale, histories that are not linearizable: %d, leaderships overlap for %v: ", j.stale, j.reads,
		j.illegal, j.overlap) + strings.Join(j.text[:min(len(j.text), complaints)], "; "))
}
