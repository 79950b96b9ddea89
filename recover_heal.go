package adamant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/internal/jsonmerge"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// recovery is what a member of a recovered partition goes on with after its host was opened: it gives up what nobody has, and, when it
// leads, mends the documents that lack deltas for good.
type recovery struct {
	// lost is what is given up; nil when nothing is, and of members of partitions that were not recovered.
	lost   atomic.Pointer[interval.Set]
	mended atomic.Bool // the documents were looked through, or are just now
}

// recoveryRecord is what outlives a restart of it.
type recoveryRecord struct {
	Founding partition.Founding `json:"founding"`
	Lost     partition.Spans    `json:"lost"`
	Mended   bool               `json:"mended,omitempty"` // on this host, as leader
}

func recoveryKey(id uint32) string { return fmt.Sprintf("recovery/%d", id) }

// loadRecovery reads the record, if there is one.
func (m *member) loadRecovery() error {
	r, ok, err := m.recoveryRecord()
	if err != nil || !ok || len(r.Lost) == 0 {
		return err
	}
	lost := r.Lost.Set()
	m.recovery.lost.Store(&lost)
	m.recovery.mended.Store(r.Mended)
	return nil
}

func (m *member) recoveryRecord() (r recoveryRecord, ok bool, err error) {
	b, ok, err := m.host.docs.Meta(recoveryKey(m.id))
	if err != nil || !ok {
		return r, false, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, false, fmt.Errorf("partition %d: record of its recovery: %w", m.id, err)
	}
	return r, true, nil
}

// recovered takes the next step of a member whose partition was recovered.
func (m *member) recovered(p *partition.Partition) error {
	lost := m.recovery.lost.Load()
	if lost == nil {
		return nil
	}
	if !m.docs.Complete() {
		return m.giveUp(*lost)
	}
	if p.Brief().Serving == partition.Serves && m.recovery.mended.CompareAndSwap(false, true) {
		m.host.aside.Go(func() {
			if err := m.mend(p); err != nil {
				m.recovery.mended.Store(false)
				m.host.log.Warn("documents that lost deltas are not mended yet", "partition", m.id, "error", err)
			}
		})
	}
	return nil
}

// giveUp closes what is left of a member's holes when no survivor has it.
func (m *member) giveUp(lost interval.Set) error {
	holes := m.docs.Position().Holes
	done, err := m.docs.Abandon(lost)
	if err != nil || !done {
		return err
	}
	m.host.log.Warn("what no survivor of the partition has is given up", "partition", m.id, "index", holes.String())
	m.host.note(&m.id, "recovery", "given up: index "+holes.String())
	m.host.healed(m.id)
	poke(m.host.reportPoke)
	return nil
}

// mend gives every document that lacks deltas a base in place of what lies before the last gap: the merge of all that is left.
// What is lost stays lost, but the document is whole again, on every member, and goes on. Nobody could tell such a document from a
// damaged one otherwise.
func (m *member) mend(p *partition.Partition) error {
	var broken []Key
	for info, err := range m.docs.Inventory("") {
		if err != nil {
			return err
		}
		if info.Head.Gap() {
			broken = append(broken, info.Key)
		}
	}
	for _, key := range broken {
		if err := m.mendDocument(p, key); err != nil && !errors.As(err, new(*NotFoundError)) {
			return err
		}
	}
	m.isolation.mu.Lock()
	defer m.isolation.mu.Unlock()
	r, ok, err := m.recoveryRecord()
	if err != nil || !ok {
		return err
	}
	r.Mended = true
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return m.setRecord(recoveryKey(m.id), b)
}

func (m *member) mendDocument(p *partition.Partition, key Key) error {
	ctx := m.host.context
	v, err := m.docs.View(key)
	if err != nil {
		return err
	}
	cut, base, err := mergeBeforeGap(ctx, v)
	if err = errors.Join(err, v.Close()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if _, err := p.Do(ctx, partition.Operation{Kind: store.Compact, Key: key, Seq: cut, JSON: base, Cut: true}); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	m.host.log.Warn("a document lost deltas", "partition", m.id, "document", key, "before", cut+1)
	m.host.note(&m.id, "recovery", fmt.Sprintf("document %s lost deltas at or before seq %d; what is left of them is its base now", key, cut))
	return nil
}

// mergeBeforeGap returns the seq before the newest deltas that follow each other without a gap up to the head, and what is left of
// the document there. A document whose deltas are no JSON begins anew.
func mergeBeforeGap(ctx context.Context, v *store.View) (cut int64, base []byte, err error) {
	cut = v.Head.HeadSeq
	for e, err := range v.EntriesReverse(-1) {
		if err != nil {
			return 0, nil, err
		}
		if e.SeqEnd != cut {
			break
		}
		cut = e.SeqBegin - 1
	}
	if v.Head.HasBase {
		cut = max(cut, v.Head.BaseSeq)
	}
	d, err := readUpTo(ctx, v, cut)
	if errors.As(err, new(*NotJSONError)) {
		return cut, []byte("{}"), nil
	}
	return cut, d.JSON, err
}

// readUpTo is readDocument without the deltas that end after a seq.
func readUpTo(ctx context.Context, v *store.View, upTo int64) (Document, error) {
	merged := jsonmerge.New(jsonmerge.Document)
	after := int64(-1)
	if v.Head.HasBase {
		base, err := v.Base()
		if err != nil {
			return Document{}, err
		}
		if err := merged.Base(base); err != nil {
			return Document{}, &NotJSONError{Key: v.Key, Seq: v.Head.BaseSeq, Err: err}
		}
		after = v.Head.BaseSeq
	}
	older := func(yield func(store.Entry, error) bool) {
		for e, err := range v.Entries(after) {
			if err == nil && e.SeqEnd > upTo || !yield(e, err) {
				return
			}
		}
	}
	return Document{}.merge(ctx, v.Key, merged, older, func(e *store.Entry) []byte { return e.Redo })
}

// foreign reports whether a host's member of a partition is of another founding, which the group has no part in any more.
func (h *Host) foreign(m *member, host string) bool {
	p := m.running()
	return p != nil && p.Recovered() && !p.Shares(h.reports.founding(m.id, host))
}
