package adamant

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// isolation is a member's safe mode: its part in the quarantine of its partition, and what an operator or this host imposed on
// it alone.
//
// mu serializes changes. The quarantine is durable before this host tells others of it.
type isolation struct {
	state   atomic.Pointer[quarantine]
	version atomic.Uint64 // counts changes of the state that others have to hear of

	mu     sync.Mutex
	alone  string // why this member by itself is in safe mode; "" when it is not. Stored under safeModeKey
	shown  string // the reason in force
	loaded bool

	ended time.Time // when this member took over the present end; zero: before the process began

	cleanMu sync.Mutex
	clean   map[string]bool // hosts that hold the kept version of the present end whole, as they said
}

// load is the present state; nobody changes it.
func (i *isolation) load() quarantine {
	if q := i.state.Load(); q != nil {
		return *q
	}
	return quarantine{}
}

func (i *isolation) reason() string {
	if q := i.load(); q.on() {
		return q.reason()
	}
	return i.alone
}

func safeModeKey(id uint32) string   { return fmt.Sprintf("safemode/%d", id) }
func divergenceKey(id uint32) string { return fmt.Sprintf("divergence/%d", id) }

// loadIsolation reads why a member is in safe mode, "" when it is not; both reasons survive restarts.
func (m *member) loadIsolation() (reason string, err error) {
	i := &m.isolation
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.loaded {
		return i.shown, nil
	}
	alone, _, err := m.host.docs.Meta(safeModeKey(m.id))
	if err != nil {
		return "", err
	}
	b, ok, err := m.host.docs.Meta(divergenceKey(m.id))
	if err != nil {
		return "", err
	}
	if ok {
		q, err := decodeQuarantine(b)
		if err != nil {
			return "", fmt.Errorf("partition %d: %w", m.id, err)
		}
		i.state.Store(&q)
		if q.on() {
			m.host.tellPartners(m, "")
		}
	}
	i.alone, i.loaded = string(alone), true
	i.shown = i.reason()
	return i.shown, nil
}

// change takes over the next state of the quarantine. A member that is to stop stops first; one that is to serve again serves
// when everything is durable. The caller holds isolation.mu; source is the host that told of it, "" for this one.
func (m *member) change(next quarantine, source string) error {
	h, i := m.host, &m.isolation
	if h.member(m.id) != m {
		return m.gone()
	}
	now := i.load()
	if next.on() {
		m.show(next.reason())
	}
	end := next.Epoch > now.Epoch && !next.on()
	if end {
		if err := m.discardFor(&next); err != nil {
			return err
		}
	}
	if err := m.keepQuarantine(next); err != nil {
		return err
	}
	i.version.Add(1)
	h.noteReports(m.id, now, next)
	if end {
		i.ended = time.Now()
		i.setClean("", false)
		if err := m.setAlone(""); err != nil {
			return err
		}
		h.repair.Forgive(m.id)
		h.note(&m.id, "safe-mode", pick(next.Keep == "", "ended by an operator", "ended by an operator, who keeps the version of host "+next.Keep))
	}
	m.show(i.reason())
	h.tellPartners(m, source)
	return nil
}

// discardFor gives up this member's version of what an end names, unless it is the one to keep. Whom to heal from is durable
// before: after a crash in between nothing else is taken in.
func (m *member) discardFor(end *quarantine) error {
	h := m.host
	if end.Restore = ""; end.Keep == "" || end.Keep == h.name {
		return nil
	}
	end.Restore = end.Keep
	before := m.isolation.load()
	before.Restore = end.Keep
	if err := m.keepQuarantine(before); err != nil {
		return err
	}
	hashes := m.docs.Range()
	for bucket, d := range end.discards(func(k Key) uint8 { return hashes.Bucket(k.Hash()) }) {
		if _, err := m.docs.Damage(bucket, store.Damaged{Documents: d.keys, Whole: d.whole}); err != nil {
			return err
		}
		h.log.Warn("version discarded", "partition", m.id, "bucket", bucket, "documents", len(d.keys), "whole", d.whole, "kept", end.Keep)
	}
	h.noteHealth(m, m.docs.Status())
	return nil
}

func (m *member) keepQuarantine(q quarantine) error {
	b, err := json.Marshal(&q)
	if err != nil {
		return err
	}
	if err := m.setRecord(divergenceKey(m.id), b); err != nil {
		return err
	}
	m.isolation.state.Store(&q)
	return nil
}

func (m *member) setAlone(reason string) error {
	if m.isolation.alone == reason {
		return nil
	}
	if err := m.setRecord(safeModeKey(m.id), []byte(reason)); err != nil {
		return err
	}
	m.isolation.alone = reason
	return nil
}

// setRecord stores something of this member durably, unless it is gone: its records went with its documents, and a later member of
// the partition would take this one for its own. The caller holds isolation.mu.
func (m *member) setRecord(key string, value []byte) error {
	if m.host.member(m.id) != m {
		return m.gone()
	}
	return m.host.docs.SetMeta(key, value)
}

func (m *member) gone() error { return fmt.Errorf("partition %d: this member is gone", m.id) }

// show puts a reason in force, or ends safe mode. The caller holds isolation.mu.
func (m *member) show(reason string) {
	h, i := m.host, &m.isolation
	if i.shown == reason {
		return
	}
	was := i.shown
	i.shown = reason
	if p := m.running(); p != nil {
		p.SetSafeMode(reason)
	}
	if was == "" || reason == "" {
		h.note(&m.id, "safe-mode", pick(reason == "", "off", reason))
	}
	h.events.SafeModeChanged(SafeModeChange{Partition: m.id, On: reason != "", Reason: reason})
	poke(h.reportPoke)
}

// showAgain is for a member that has just been opened: the reason may have changed meanwhile.
func (m *member) showAgain(p *partition.Partition) {
	m.isolation.mu.Lock()
	defer m.isolation.mu.Unlock()
	p.SetSafeMode(m.isolation.shown)
}

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

// noteReports writes a line for each report that is new, or names more than before.
func (h *Host) noteReports(id uint32, before, now quarantine) {
	if !now.on() {
		return
	}
	for i := range now.Reports {
		r := &now.Reports[i]
		same := func(o Divergence) bool {
			return o.sameAs(r) && len(o.Documents) == len(r.Documents)
		}
		if before.Epoch == now.Epoch && slices.ContainsFunc(before.Reports, same) {
			continue
		}
		h.note(&id, "divergence", r.String())
		h.log.Error("divergence", "partition", id, "report", r.String())
	}
}

// SetSafeMode puts this host's member of a partition in safe mode for a reason, or with an empty reason takes it out (design
// §10). It survives restarts. An empty reason ends the safe mode of a divergence, too, on all members: see ClearSafeMode.
func (h *Host) SetSafeMode(id uint32, reason string) error {
	m, err := h.isolated(id)
	if err != nil {
		return err
	}
	i := &m.isolation
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := m.setAlone(reason); err != nil {
		return err
	}
	if q := i.load(); reason == "" && q.on() {
		return m.change(q.ended(""), "")
	}
	m.show(i.reason())
	return nil
}

// isolated returns this host's member of a partition once its safe mode is known.
func (h *Host) isolated(id uint32) (*member, error) {
	m := h.member(id)
	if m == nil {
		return nil, &InvalidError{Reason: fmt.Sprintf("partition %d: host %s is not a member", id, h.name)}
	}
	_, err := m.loadIsolation()
	return m, err
}

// enterSafeMode puts this member alone in safe mode unless it is in safe mode already.
func (h *Host) enterSafeMode(id uint32, reason string) {
	m := h.member(id)
	if m == nil || m.running() == nil || m.running().Brief().SafeMode {
		return
	}
	if err := h.SetSafeMode(id, reason); err != nil {
		h.log.Error("safe mode cannot be recorded", "partition", id, "error", err)
	}
}

// ClearSafeMode ends the safe mode of a partition on all its members, after an operator has looked (design §10).
//
// With keep, the name of a host, every other member discards its version of the documents that the divergence names, or of their
// buckets, and heals from that host: what it holds is trusted to be right, and what only others held is lost. Without keep nothing
// changes but the safe mode, and what is still different is reported again.
//
// It returns the hosts that have not taken it over yet: they do when they are back. Errors: *InvalidError (no such member, no
// safe mode), *UnavailableError (the host to keep has holes, or is not reached).
func (h *Host) ClearSafeMode(ctx context.Context, id uint32, keep string) (waiting []string, err error) {
	if err := h.usable(); err != nil {
		return nil, err
	}
	m, err := h.isolated(id)
	if err != nil {
		return nil, err
	}
	if keep != "" && keep != h.name {
		return h.askToKeep(ctx, m, keep)
	}
	if err := h.end(m, keep); err != nil {
		return nil, err
	}
	return h.awaitPartners(ctx, m), nil
}

// end makes the end of a quarantine on the host that is kept, or without a choice.
func (h *Host) end(m *member, keep string) error {
	i := &m.isolation
	i.mu.Lock()
	defer i.mu.Unlock()
	q := i.load()
	switch {
	case !q.on() && keep == "" && i.alone != "":
		if err := m.setAlone(""); err != nil {
			return err
		}
		m.show("")
		return nil
	case !q.on():
		return &InvalidError{Reason: fmt.Sprintf("partition %d has not diverged, as far as host %s knows", m.id, h.name)}
	case keep != "" && q.lost():
		return &UnavailableError{Partition: m.id, Reason: "its members have two histories, of which none can be kept document by document: give one up by recovering the other, or by emptying the directories of its hosts, then clear without a choice (docs/recovery.md)"}
	case keep != "" && !m.whole(&q):
		return &UnavailableError{Partition: m.id, Reason: fmt.Sprintf("host %s lacks something itself, its version cannot be kept", h.name)}
	}
	return m.change(q.ended(keep), "")
}

// whole reports whether this member holds all it should of the version that is kept.
func (m *member) whole(q *quarantine) bool {
	return m.running() != nil && q.Restore == "" && m.docs.Status().Complete
}

// askToKeep has the kept host make the end.
func (h *Host) askToKeep(ctx context.Context, m *member, keep string) ([]string, error) {
	if !slices.Contains(h.partners(m), keep) {
		return nil, &InvalidError{Reason: fmt.Sprintf("partition %d: host %q is not a member", m.id, keep)}
	}
	var reply keepReply
	if err := h.callHost(ctx, keep, callKeep, m.id, keepRequest{Epoch: m.isolation.load().Epoch}, &reply); err != nil {
		return nil, &UnavailableError{Partition: m.id, Reason: "host " + keep + " is asked to be kept: " + err.Error(), Err: err}
	}
	if reply.Refused != "" {
		return nil, &UnavailableError{Partition: m.id, Reason: reply.Refused}
	}
	return reply.Waiting, nil
}

// partners are the other hosts of a partition, those that join and leave included.
func (h *Host) partners(m *member) []string {
	desired, _ := h.desired(m.id)
	list := slices.Concat(desired.Voters, desired.Replicas)
	for id := range h.reports.peers(m.id, time.Now()) {
		list = append(list, partition.HostOf(id))
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(host string) bool { return host == h.name })
}

// mayHealFrom reports whether a member may take anything from a host: from nobody while members have two histories, and after it discarded its version only from those that hold
// the kept one. A host that the partition has no more is no reason to wait.
func (h *Host) mayHealFrom(m *member, host string) bool {
	q := m.isolation.state.Load()
	switch {
	case q == nil:
		return true
	case q.lost():
		return false
	case q.Restore == "" || q.Restore == host:
		return true
	}
	i := &m.isolation
	i.cleanMu.Lock()
	clean := i.clean[host]
	i.cleanMu.Unlock()
	return clean || !slices.Contains(h.partners(m), q.Restore)
}

// setClean notes what a host said of itself; of no host: all of that is over.
func (i *isolation) setClean(host string, clean bool) {
	i.cleanMu.Lock()
	defer i.cleanMu.Unlock()
	switch {
	case host == "":
		i.clean = nil
	case i.clean == nil:
		i.clean = map[string]bool{host: clean}
	default:
		i.clean[host] = clean
	}
}
