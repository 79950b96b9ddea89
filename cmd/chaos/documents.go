//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/traces"
)

// space is that of all documents here.
const space = "chaos"

// document is part of an editing history that one writer types: the delta at seq n is the transaction from + n. So whatever
// is there tells whether it belongs there.
type document struct {
	key   adamant.Key
	trace *traces.Trace
	from  int
	limit int64 // seq of its last delta

	acked    atomic.Int64 // newest seq that was acknowledged
	proposed atomic.Int64 // newest that was sent
	gone     atomic.Bool  // its deletion was sent
	deleted  atomic.Bool  // and acknowledged

	abandoned atomic.Bool // what is there is known to be wrong
}

// deltas are those of seqs first to last.
func (d *document) deltas(first, last int64) []adamant.Delta {
	list := make([]adamant.Delta, 0, last-first+1)
	for seq := first; seq <= last; seq++ {
		redo, undo := d.trace.Delta(d.from + int(seq))
		list = append(list, adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: redo, Undo: undo, Who: d.key.Key})
	}
	return list
}

// check compares a document, or the patch since a seq, with what was written: exactly the changes of seqs after + 1 to head.
func (d *document) check(text []byte, after, head int64) error {
	var got struct{ Changes map[string]json.RawMessage }
	if err := json.Unmarshal(text, &got); err != nil {
		return fmt.Errorf("%w in %.100s", err, text)
	}
	if int64(len(got.Changes)) != head-after {
		return fmt.Errorf("%d changes after %d up to %d", len(got.Changes), after, head)
	}
	for seq := after + 1; seq <= head; seq++ {
		n := strconv.Itoa(d.from + int(seq))
		redo, _ := d.trace.Delta(d.from + int(seq))
		want := redo[len(`{"changes":{"":`)+len(n) : len(redo)-2]
		if has := got.Changes[n]; !bytes.Equal(has, want) && !sameJSON(has, want) {
			return fmt.Errorf("at %d it is %.100s, and %.100s was written", seq, has, want)
		}
	}
	return nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// How many documents that are complete are kept until the end, and how many deleted ones are asked for now and then.
const (
	maxKept      = 600
	maxRemembers = 2000
)

// library has all documents.
type library struct {
	*route
	traces []*traces.Trace
	number atomic.Int64

	touched [64]atomic.Pointer[document] // written lately
	touches atomic.Uint64

	mu      sync.Mutex
	growing []*document
	kept    []*document
	deleted []*document // some of them
	wrong   []*document // abandoned
}

func newLibrary(f *field) (*library, error) {
	l := &library{route: newRoute(f)}
	if f.o.Traces == "" {
		l.traces = []*traces.Trace{madeUp(f.o.Seed)}
		return l, nil
	}
	files, err := filepath.Glob(filepath.Join(f.o.Traces, "*.json.gz"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("-traces: no *.json.gz in %s", f.o.Traces)
	}
	for _, file := range files {
		t, err := traces.Open(file)
		if err != nil {
			return nil, err
		}
		if len(t.Txns) > 0 {
			l.traces = append(l.traces, t)
		}
	}
	return l, nil
}

// madeUp is a history of words, for where no recorded ones are.
func madeUp(seed uint64) *traces.Trace {
	r := rand.New(rand.NewPCG(seed, 2))
	t := &traces.Trace{Name: "made-up"}
	for range 20_000 {
		word := make([]byte, 1+r.IntN(12))
		for i := range word {
			word[i] = 'a' + byte(r.IntN(26))
		}
		t.Txns = append(t.Txns, traces.Txn{{Position: 0, Deleted: 0, Inserted: string(word) + " "}})
	}
	return t
}

// begin makes the next document; nothing of it is written yet.
func (l *library) begin(r *rand.Rand) *document {
	t := l.traces[r.IntN(len(l.traces))]
	limit := min(20+r.IntN(1500), len(t.Txns))
	d := &document{trace: t, from: r.IntN(len(t.Txns) - limit + 1), limit: int64(limit)}
	d.key = adamant.Key{Space: space, Key: fmt.Sprintf("%s-%d", strings.Map(keyed, t.Name), l.number.Add(1))}
	return d
}

// keyed replaces what a key can not hold.
func keyed(c rune) rune {
	if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
		return c
	}
	return '_'
}

func (l *library) add(d *document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.growing = append(l.growing, d)
}

// retire takes a document that is complete out of those that grow, and says whether it may be kept.
func (l *library) retire(d *document, r *rand.Rand) (keep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.growing = slices.DeleteFunc(l.growing, func(o *document) bool { return o == d })
	if keep = len(l.kept) < maxKept && r.IntN(4) == 0; keep {
		l.kept = append(l.kept, d)
	}
	return keep
}

// abandon gives a document up of which something was lost: that has been told, and nothing more is to be learned from it.
func (l *library) abandon(d *document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.growing = slices.DeleteFunc(l.growing, func(o *document) bool { return o == d })
	d.abandoned.Store(true)
	l.wrong = append(l.wrong, d)
}

// known reports whether it is known already that a document is not what it must be.
func (l *library) known(key adamant.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.wrong, func(d *document) bool { return d.key == key })
}

// bury remembers a document that was deleted.
func (l *library) bury(d *document, r *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.deleted.Store(true)
	if len(l.deleted) < maxRemembers {
		l.deleted = append(l.deleted, d)
	} else {
		l.deleted[r.IntN(len(l.deleted))] = d
	}
}

// touch notes that something of a document was acknowledged.
func (l *library) touch(d *document) {
	l.touched[l.touches.Add(1)%uint64(len(l.touched))].Store(d)
}

// recent is one of the last few documents that were written; nil when there is none.
func (l *library) recent(r *rand.Rand) *document {
	return l.touched[(l.touches.Load()-r.Uint64N(8))%uint64(len(l.touched))].Load()
}

// any is some document, often one that grows; nil when there is none.
func (l *library) any(r *rand.Rand) *document {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.growing
	switch k := r.IntN(10); {
	case k == 0 && len(l.kept) > 0:
		list = l.kept
	case k == 1 && len(l.deleted) > 0:
		list = l.deleted
	}
	if len(list) == 0 {
		return nil
	}
	return list[r.IntN(len(list))]
}

// alive are all documents that exist.
func (l *library) alive() map[adamant.Key]*document {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[adamant.Key]*document{}
	for _, list := range [][]*document{l.growing, l.kept} {
		for _, d := range list {
			all[d.key] = d
		}
	}
	return all
}
