package adamant

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// Create makes a document with its first delta, which may have any seq range. Errors: *ExistsError, and those of every
// write: *NotLeaderError, *UnavailableError, *SafeModeError (nothing happened), *AmbiguousError (unknown outcome),
// *KeyError, *InvalidError, *TooLargeError.
func (h *Host) Create(ctx context.Context, key Key, delta Delta) error {
	_, err := h.do(ctx, opCreate, partition.Operation{Kind: store.Create, Key: key, Deltas: []Delta{delta}})
	return err
}

// Append adds deltas, all or none, and returns the head seq after them. The first begins at head + 1 and each follows the
// one before. Deltas that are stored already, byte for byte, are acknowledged again, so a retry after an unknown outcome
// is safe. Errors: *SeqMismatchError with the head, *NotFoundError, *InvalidError for an empty list, and those of Create.
func (h *Host) Append(ctx context.Context, key Key, deltas []Delta) (head int64, err error) {
	return h.do(ctx, opAppend, partition.Operation{Kind: store.Append, Key: key, Deltas: deltas})
}

// Compact puts a snapshot of the document at seq under its deltas and keeps the newest `history` deltas that end at or
// before it. A snapshot older than the present one changes nothing. Errors: *HistoryError (history ≤ 0), *FutureError (seq
// above head), *NotFoundError, and those of Create.
func (h *Host) Compact(ctx context.Context, key Key, seq int64, json []byte, history int) error {
	_, err := h.do(ctx, opCompact, partition.Operation{Kind: store.Compact, Key: key, Seq: seq, JSON: json, History: history})
	return err
}

// Replace makes the document a new generation that begins with a snapshot at seq, which may be below the present head.
// Errors: *NotFoundError, and those of Create.
func (h *Host) Replace(ctx context.Context, key Key, seq int64, json []byte) error {
	_, err := h.do(ctx, opReplace, partition.Operation{Kind: store.Replace, Key: key, Seq: seq, JSON: json})
	return err
}

// Delete removes the document; a missing one is no error. Errors: those of Create.
func (h *Host) Delete(ctx context.Context, key Key) error {
	_, err := h.do(ctx, opDelete, partition.Operation{Kind: store.Delete, Key: key})
	return err
}

// do evaluates and proposes an operation at this host's member of the key's partition.
func (h *Host) do(ctx context.Context, kind operation, op partition.Operation) (head int64, err error) {
	start := time.Now()
	defer func() { h.meter.observe(kind, time.Since(start), err) }()
	if err := op.Key.Validate(); err != nil {
		return 0, err
	}
	id := h.partitionOf(op.Key)
	p, err := h.serving(id)
	if err != nil {
		return 0, err
	}
	head, err = p.Do(ctx, op)
	return head, h.translate(id, err)
}

// serving returns this host's running member of a partition, or the error that names the leader.
func (h *Host) serving(id uint32) (*partition.Partition, error) {
	if err := h.usable(); err != nil {
		return nil, err
	}
	return h.running(id)
}

func (h *Host) running(id uint32) (*partition.Partition, error) {
	m := h.member(id)
	if m == nil {
		return nil, h.notLeader(id, 0)
	}
	p := m.running()
	if p == nil {
		if m.failed() != nil {
			return nil, &UnavailableError{Partition: id, Reason: "the member does not open", Err: m.failed()}
		}
		return nil, h.notLeader(id, 0)
	}
	return p, nil
}

// usable refuses everything once the host is closed or its storage failed.
func (h *Host) usable() error {
	if err := h.failed(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return &ClosedError{Host: h.name}
	}
	return nil
}

// translate turns a partition's refusal into the façade's errors. Loss of leadership is never a sequence mismatch.
func (h *Host) translate(id uint32, err error) error {
	var refused *partition.NotServingError
	var ambiguous *partition.AmbiguousError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		switch refused.Reason {
		case partition.NotLeader:
			return h.notLeader(id, refused.Epoch)
		case partition.InSafeMode:
			return &SafeModeError{Partition: id, Reason: refused.Detail}
		}
		reason := refused.Reason.String()
		if refused.Detail != "" {
			reason += ": " + refused.Detail
		}
		return &UnavailableError{Partition: id, Reason: reason, Err: err}
	case errors.As(err, &ambiguous):
		return &AmbiguousError{Partition: id, Key: ambiguous.Key, Reason: ambiguous.Reason, Err: ambiguous.Err}
	case errors.Is(err, partition.ErrClosed), errors.Is(err, raft.ErrRaftShutdown):
		if failed := h.failed(); failed != nil {
			return failed
		}
		return &ClosedError{Host: h.name}
	case Code(err) != 0:
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &UnavailableError{Partition: id, Reason: "the caller stopped waiting, nothing was done", Err: err}
	}
	return &UnavailableError{Partition: id, Reason: "internal error", Err: err}
}

// Get returns the document: the snapshot, if there is one, and every delta after it merged as RFC 7396 says. Errors:
// *NotFoundError, *NotJSONError, and those of every read: *NotLeaderError, *UnavailableError, *SafeModeError.
func (h *Host) Get(ctx context.Context, key Key, opts ...ReadOption) (Document, error) {
	return h.read(ctx, opGet, key, opts, readDocument)
}

// HeadPatch returns the merge of the redos of every delta that ends after `after`: what a reader at that seq misses. Errors:
// *HorizonError (compaction dropped some of them), *FutureError, and those of Get.
func (h *Host) HeadPatch(ctx context.Context, key Key, after int64, opts ...ReadOption) (Document, error) {
	return h.read(ctx, opHeadPatch, key, opts, func(ctx context.Context, v *store.View, key Key) (Document, error) {
		return readHeadPatch(ctx, v, key, after)
	})
}

// Rewind returns the merge of the undos, newest first, of every delta that ends after `to`: applied to the document it
// brings it back there. Errors: *HorizonError, *FutureError, and those of Get.
func (h *Host) Rewind(ctx context.Context, key Key, to int64, opts ...ReadOption) (Document, error) {
	return h.read(ctx, opRewind, key, opts, func(ctx context.Context, v *store.View, key Key) (Document, error) {
		return readRewind(ctx, v, key, to)
	})
}

func (h *Host) read(ctx context.Context, kind operation, key Key, opts []ReadOption, merge func(context.Context, *store.View, Key) (Document, error)) (d Document, err error) {
	start := time.Now()
	defer func() { h.meter.observe(kind, time.Since(start), err) }()
	view, staleness, err := h.view(ctx, key, opts)
	if err != nil {
		return Document{}, err
	}
	defer view.Close()
	d, err = merge(ctx, view, key)
	d.Staleness = staleness
	return d, h.translate(h.partitionOf(key), err)
}

// view opens a consistent view of one document at the asked consistency; staleness is nil for linearizable reads.
func (h *Host) view(ctx context.Context, key Key, opts []ReadOption) (*store.View, *Staleness, error) {
	if err := key.Validate(); err != nil {
		return nil, nil, err
	}
	id := h.partitionOf(key)
	m, staleness, err := h.readable(ctx, id, opts)
	if err != nil {
		return nil, nil, err
	}
	view, err := m.docs.View(key)
	if err != nil {
		var missing *NotFoundError
		if errors.As(err, &missing) && !m.docs.Status().Complete {
			h.repair.Want(id, key)
		}
		return nil, nil, h.translate(id, err)
	}
	return view, staleness, nil
}

// readable returns this host's member of a partition once its documents may be read at the asked consistency.
func (h *Host) readable(ctx context.Context, id uint32, opts []ReadOption) (*member, *Staleness, error) {
	level := resolveRead(h.opts.Consistency, opts).consistency
	p, err := h.serving(id)
	if level == ReadStale && errors.As(err, new(*EngineFailedError)) {
		p, err = h.running(id) // what is readable may be read: the failure is of writing
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := p.Read(ctx, partition.Level(level))
	if err != nil {
		return nil, nil, h.translate(id, err)
	}
	m := h.member(id)
	if m == nil {
		return nil, nil, h.notLeader(id, 0)
	}
	if level != ReadStale {
		return m, nil, nil
	}
	return m, &Staleness{Index: s.Index, Age: s.Age, Complete: s.Complete}, nil
}

// CloseDocument drops what this host keeps in memory of a document; the document itself stays.
func (h *Host) CloseDocument(key Key) {
	h.docs.Shed(h.partitionOf(key), func(k Key) bool { return k == key })
}

// Shed drops what this host keeps in memory of every document the filter accepts, and returns how many those were.
func (h *Host) Shed(filter func(Key) bool) int {
	n := 0
	for _, m := range h.allMembers() {
		n += h.docs.Shed(m.id, filter)
	}
	return n
}

// Inventory iterates over the documents of a scope that this host serves. With a partition it is an error when this host
// does not serve it; without one, the partitions served elsewhere are left out unless the read is stale. Partition
// after partition, in hash order. The context ends it. Errors: those of every read, and *InvalidError for a partition that
// the configuration does not have.
func (h *Host) Inventory(ctx context.Context, scope Scope, opts ...ReadOption) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if id := scope.Partition; id != nil && h.cluster().Find(*id) < 0 {
			yield(Info{}, &InvalidError{Reason: fmt.Sprintf("there is no partition %d", *id)})
			return
		}
		for _, p := range h.cluster().Partitions {
			if scope.Partition != nil && *scope.Partition != p.ID {
				continue
			}
			if scope.Partition == nil && !h.inventoried(p, opts) {
				continue
			}
			if !h.inventory(ctx, p.ID, scope.Space, opts, yield) {
				return
			}
		}
	}
}

// inventoried reports whether an inventory of everything includes this partition here.
func (h *Host) inventoried(p config.Partition, opts []ReadOption) bool {
	m := h.member(p.ID)
	if m == nil || m.running() == nil {
		return false
	}
	return resolveRead(h.opts.Consistency, opts).consistency == ReadStale || m.running().Brief().Serving == partition.Serves
}

func (h *Host) inventory(ctx context.Context, id uint32, space string, opts []ReadOption, yield func(Info, error) bool) bool {
	m, staleness, err := h.readable(ctx, id, opts)
	if err != nil {
		yield(Info{}, err)
		return false
	}
	for info, err := range m.docs.Inventory(space) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Info{}, h.translate(id, err))
			return false
		}
		head := info.Head
		if !yield(Info{Key: info.Key, Head: head.HeadSeq, Bytes: head.Bytes + head.BaseBytes, Entries: head.Entries, LastIndex: head.LastIndex,
			Generation: head.Generation, Staleness: staleness}, nil) {
			return false
		}
	}
	return true
}

// Log iterates over the stored deltas of a document, oldest first, as they are: for operators.
func (h *Host) Log(ctx context.Context, key Key, opts ...ReadOption) iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		view, staleness, err := h.view(ctx, key, opts)
		if err != nil {
			yield(LogEntry{}, err)
			return
		}
		defer view.Close()
		for e, err := range view.Entries(-1) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(LogEntry{}, h.translate(h.partitionOf(key), err))
				return
			}
			if !yield(LogEntry{Index: e.Index, Term: e.Term, Delta: e.Delta, Chain: e.Chain, Staleness: staleness}, nil) {
				return
			}
		}
	}
}

func (m *member) failed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// partitionOf returns the partition that owns the key's hash.
func (h *Host) partitionOf(key Key) uint32 {
	c := h.cluster()
	return c.Partitions[c.Locate(key.Hash())].ID
}
