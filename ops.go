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

// epochKey is the key of an epoch in a context.
type epochKey struct{}

// InEpoch makes a context whose writes take effect in one leadership of a partition only, that which Lease returned as
// Epoch: when this host has lost it, and perhaps won another one since, they are refused with an *EpochError or a
// *NotLeaderError. What an application decided in one leadership can not slip into the next one (design §9). Each command
// carries the epoch it was evaluated in, and the state machine refuses it when a later leader has begun.
func InEpoch(ctx context.Context, epoch uint64) context.Context {
	return context.WithValue(ctx, epochKey{}, epoch)
}

// do measures a write.
func (h *Host) do(ctx context.Context, kind operation, op partition.Operation) (head int64, err error) {
	start := time.Now()
	defer func() { h.meter.observe(kind, time.Since(start), err) }()
	op.Epoch, _ = ctx.Value(epochKey{}).(uint64)
	return h.write(ctx, kind, op)
}

// writeHere evaluates and proposes an operation at this host's member of the key's partition.
func (h *Host) writeHere(ctx context.Context, op partition.Operation) (head int64, err error) {
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
	if err == nil {
		return nil
	}
	h.suspect(err)
	var refused *partition.NotServingError
	var ambiguous *partition.AmbiguousError
	switch {
	case errors.As(err, &refused):
		switch refused.Reason {
		case partition.NotLeader:
			if m := h.member(id); m != nil && m.outnumbered() != "" {
				return &SafeModeError{Partition: id, Reason: m.outnumbered()}
			}
			return h.notLeader(id, refused.Epoch)
		case partition.InSafeMode:
			return &SafeModeError{Partition: id, Reason: refused.Detail}
		case partition.OtherEpoch:
			return &EpochError{Partition: id, Epoch: refused.Epoch}
		}
		reason := refused.Reason.String()
		if refused.Detail != "" {
			reason += ": " + refused.Detail
		}
		return &UnavailableError{Partition: id, Reason: reason, Err: err}
	case errors.As(err, &ambiguous):
		return &AmbiguousError{Partition: id, Key: ambiguous.Key, Reason: ambiguous.Reason, Err: ambiguous.Err}
	case errors.Is(err, partition.ErrClosed), errors.Is(err, raft.ErrRaftShutdown):
		if err := h.usable(); err != nil {
			return err
		}
		return &UnavailableError{Partition: id, Reason: "the member is stopped", Err: err} // it goes, or is about to be opened again
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
	return h.query(ctx, query{kind: opGet, key: key}, opts)
}

// HeadPatch returns the merge of the redos of every delta that ends after `after`: what a reader at that seq misses. Errors:
// *HorizonError (compaction dropped some of them), *FutureError, and those of Get.
func (h *Host) HeadPatch(ctx context.Context, key Key, after int64, opts ...ReadOption) (Document, error) {
	return h.query(ctx, query{kind: opHeadPatch, key: key, seq: after}, opts)
}

// Rewind returns the merge of the undos, newest first, of every delta that ends after `to`: applied to the document it
// brings it back there. Errors: *HorizonError, *FutureError, and those of Get.
func (h *Host) Rewind(ctx context.Context, key Key, to int64, opts ...ReadOption) (Document, error) {
	return h.query(ctx, query{kind: opRewind, key: key, seq: to}, opts)
}

// query is one read of a document.
type query struct {
	kind  operation // opGet, opHeadPatch or opRewind
	key   Key
	seq   int64 // HeadPatch: after; Rewind: to
	level Consistency
}

// query measures a read.
func (h *Host) query(ctx context.Context, q query, opts []ReadOption) (d Document, err error) {
	start := time.Now()
	defer func() { h.meter.observe(q.kind, time.Since(start), err) }()
	q.level = resolveRead(h.opts.Consistency, opts).consistency
	return h.read(ctx, q)
}

// readHere merges what this host's member of the key's partition holds.
func (h *Host) readHere(ctx context.Context, q query) (d Document, err error) {
	view, staleness, err := h.view(ctx, q.key, []ReadOption{WithConsistency(q.level)})
	if err != nil {
		return Document{}, err
	}
	defer view.Close()
	if !view.Head.FloorKnown && !view.Head.HasBase { // nobody here knows what the document begins with
		return Document{}, h.parted(q.key)
	}
	switch q.kind {
	case opHeadPatch:
		d, err = readHeadPatch(ctx, view, q.key, q.seq)
	case opRewind:
		d, err = readRewind(ctx, view, q.key, q.seq)
	default:
		d, err = readDocument(ctx, view, q.key)
	}
	if errors.Is(err, errParted) {
		return Document{}, h.parted(q.key)
	}
	d.Staleness = staleness
	return d, h.translate(h.partitionOf(q.key), err)
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
	if !m.docs.Complete() {
		h.repair.Want(id, key) // what is here may be old, or a part
	}
	if staleness != nil {
		staleness.Index = max(staleness.Index, m.docs.Shown()) // a view shows what is not written yet, too
	}
	view, err := m.docs.View(key)
	if staleness == nil && !m.docs.Complete() {
		if err == nil {
			view.Close()
		}
		return nil, nil, m.incomplete()
	}
	if err != nil {
		return nil, nil, h.translate(id, err)
	}
	if staleness != nil && !m.docs.Complete() { // since it was asked
		staleness.Complete = false
	}
	return view, staleness, nil
}

// parted refuses a read of which this host has some deltas and not those between or before them: what comes of merging them was never the
// document, nor a change of it. The log shows what is there.
func (h *Host) parted(key Key) error {
	return &UnavailableError{Partition: h.partitionOf(key), Reason: "a part of " + key.String() + " is missing here"}
}

// incomplete refuses a linearizable read of a member from which a scrub has taken something since it was found to serve: what
// is not here any more may have been acknowledged.
func (m *member) incomplete() error {
	return &UnavailableError{Partition: m.id, Reason: partition.Incomplete.String()}
}

// readable returns this host's member of a partition once its documents may be read at the asked consistency.
func (h *Host) readable(ctx context.Context, id uint32, opts []ReadOption) (*member, *Staleness, error) {
	level := resolveRead(h.opts.Consistency, opts).consistency
	if level == ReadStale {
		return h.readableStale(ctx, id)
	}
	p, err := h.serving(id)
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.Read(ctx, partition.Level(level)); err != nil {
		return nil, nil, h.translate(id, err)
	}
	m := h.member(id)
	if m == nil {
		return nil, nil, h.notLeader(id, 0)
	}
	return m, nil, nil
}

// readableStale needs nothing but the documents: they may be read on a host whose storage failed, which is about writing, and
// of a member that does not run.
func (h *Host) readableStale(ctx context.Context, id uint32) (*member, *Staleness, error) {
	if err := h.usable(); err != nil && !errors.As(err, new(*EngineFailedError)) {
		return nil, nil, err
	}
	m := h.member(id)
	if m == nil {
		return nil, nil, h.notLeader(id, 0)
	}
	p := m.running()
	if p == nil {
		s := m.docs.Status()
		return m, &Staleness{Index: s.Applied, Age: AgeUnknown, Complete: s.Complete}, ctx.Err()
	}
	s, err := p.Read(ctx, partition.Stale)
	if err != nil {
		return nil, nil, h.translate(id, err)
	}
	return m, &Staleness{Index: s.Index, Age: s.Age, Complete: s.Complete}, nil
}

// CloseDocument drops what this host keeps in memory of a document; the document itself stays.
func (h *Host) CloseDocument(key Key) {
	h.docs.Forget(h.partitionOf(key), key)
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
	checked := staleness != nil
	check := func() error { // once what is listed is fixed
		if checked || m.docs.Complete() {
			checked = true
			return nil
		}
		return m.incomplete()
	}
	for info, err := range m.docs.Inventory(space) {
		if err == nil {
			err = errors.Join(ctx.Err(), check())
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
	if err := check(); err != nil {
		yield(Info{}, err)
		return false
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
