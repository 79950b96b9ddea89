package sim

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant/internal/lincheck"
)

type opKind = lincheck.Kind

const (
	opCreate  = lincheck.Create
	opAppend  = lincheck.Append
	opReplace = lincheck.Replace
	opDelete  = lincheck.Delete
	opRead    = lincheck.Read

	opMismatch = lincheck.Mismatch
	opMissing  = lincheck.Missing
	opExists   = lincheck.Exists
)

// op is one thing a client did to a document, and what it knows of its outcome. What was refused for another reason than what the
// document is like is not among them: it must not have had any effect.
type op struct {
	doc    int
	client int
	kind   opKind
	seq    int64    // of the first entry
	ids    []string // of the entries written, or read from the first seq on
	known  bool     // the outcome: it was done, or read
	found  bool     // of a read
	head   int64    // of a mismatch: that it was told
	note   string   // where, and how
	call   int64    // order of events, not times: simulated time stands still while much happens
	ret    int64
	at     time.Duration
}

// writes reports whether it changes the document.
func (o op) writes() bool {
	switch o.kind {
	case opRead, opMismatch, opMissing, opExists:
		return false
	}
	return true
}

func (o op) String() string {
	s := fmt.Sprintf("[%d,%d] %9.3f client %d: %s", o.call, o.ret, o.at.Seconds(), o.client, o.kind)
	switch {
	case o.kind == opMismatch:
		s += fmt.Sprintf(" of an append at %d with head %d", o.seq, o.head)
	case o.kind == opRead && !o.found:
		s += " finds nothing"
	case o.kind == opRead:
		s += fmt.Sprintf(" finds %d at %d, the last %v", len(o.ids), o.seq, o.ids[max(0, len(o.ids)-3):])
	default:
		s += fmt.Sprintf(" %v at %d", o.ids, o.seq)
	}
	if !o.known {
		s += ", outcome unknown"
	}
	return s + " (" + o.note + ")"
}

// history is what all clients did.
type history struct {
	events atomic.Int64
	mu     sync.Mutex
	ops    []op
	stale  []op // stale reads
}

func (h *history) tick() int64 { return h.events.Add(1) }

func (h *history) add(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

func (h *history) addStale(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = append(h.stale, o)
}

// of lists the operations on one document.
func (h *history) of(doc int) []op {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []op
	for _, o := range h.ops {
		if o.doc == doc {
			list = append(list, o)
		}
	}
	return list
}
