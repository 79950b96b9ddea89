package adamant

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/adamantdb/adamant/internal/journal"
)

// historyLength bounds the notable events a host remembers for its status.
const historyLength = 256

// historyDir is where the others are, as lines of JSON, for as long as the journal's bound allows.
const historyDir = "history"

// history remembers notable events: the newest in memory, and more on disk.
type history struct {
	mu      sync.Mutex
	notices []Notice
	changed chan struct{} // closed and replaced with each notice; nil while nobody waits
	kept    *journal.Journal
}

// add remembers an event. Times of a host's notices grow, so that a reader knows what it has seen.
func (h *history) add(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n.Time = time.Now().Round(0) // the wall clock's: it is to be compared with other hosts'
	if k := len(h.notices); k > 0 && !n.Time.After(h.notices[k-1].Time) {
		n.Time = h.notices[k-1].Time.Add(1)
	}
	if len(h.notices) == historyLength {
		h.notices = append(h.notices[:0], h.notices[1:]...)
	}
	h.notices = append(h.notices, n)
	h.keep(n)
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// keep hands a notice to the journal. The caller holds mu.
func (h *history) keep(n Notice) {
	if h.kept == nil {
		return
	}
	if b, err := json.Marshal(n); err == nil { // it has nothing that does not marshal
		h.kept.Add(b)
	}
}

// open lets the journal have what was remembered so far, and what comes.
func (h *history) open(j *journal.Journal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = j
	for _, n := range h.notices {
		h.keep(n)
	}
}

func (h *history) close() error {
	h.mu.Lock()
	j := h.kept
	h.kept = nil
	h.mu.Unlock()
	if j == nil {
		return nil
	}
	return j.Close()
}

func (h *history) list() []Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Notice(nil), h.notices...)
}

// next returns a channel that is closed when the next notice is there.
func (h *history) next() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.changed
}

// HistoryQuery chooses notices of a host's history.
type HistoryQuery struct {
	Partition *uint32   // of this partition only; nil: all, and those of the whole host
	Since     time.Time // newer than this
	Follow    bool      // go on with what comes, until the context ends
}

func (q *HistoryQuery) wants(n *Notice) bool {
	return n.Time.After(q.Since) && (q.Partition == nil || n.Partition != nil && *n.Partition == *q.Partition)
}

// History reads what this host remembers of what happened to it, oldest first: leaderships, health, membership, safe mode,
// configurations, peers, failures. It is kept on disk within a bound, outlives restarts, and may lack the last second before a
// crash. Errors: those of reading, after which nothing more comes, and the context's.
func (h *Host) History(ctx context.Context, q HistoryQuery) iter.Seq2[Notice, error] {
	return func(yield func(Notice, error) bool) {
		next := h.history.next()
		var last time.Time
		for n, err := range h.keptHistory() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Notice{}, err)
				return
			}
			if last = n.Time; q.wants(&n) && !yield(n, nil) {
				return
			}
		}
		for more := true; more; {
			for _, n := range h.history.list() {
				if !n.Time.After(last) {
					continue
				}
				if last = n.Time; q.wants(&n) && !yield(n, nil) {
					return
				}
			}
			if more = q.Follow; more {
				select {
				case <-next:
					next = h.history.next()
				case <-ctx.Done():
					return
				case <-h.gone:
					return
				}
			}
		}
	}
}

// keptHistory reads the journal. A line that is no notice is an error: the journal leaves torn ones out.
func (h *Host) keptHistory() iter.Seq2[Notice, error] {
	h.history.mu.Lock()
	kept := h.history.kept
	h.history.mu.Unlock()
	return func(yield func(Notice, error) bool) {
		if kept == nil {
			return
		}
		for line, err := range kept.Lines() {
			var n Notice
			if err == nil {
				err = json.Unmarshal(line, &n)
			}
			if err != nil {
				err = fmt.Errorf("history: %w", err)
			}
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// note remembers a notable event; partition is nil when it concerns the whole host.
func (h *Host) note(partition *uint32, kind, text string) {
	n := Notice{Host: h.name, Partition: partition, Kind: kind, Text: text}
	if partition != nil {
		if m := h.member(*partition); m != nil {
			if p := m.running(); p != nil {
				n.Epoch = p.Term()
			}
		}
	}
	h.history.add(n)
}
