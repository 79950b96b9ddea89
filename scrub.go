package adamant

import (
	"context"
	"errors"
	"time"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/store"
)

// yieldWithin bounds how long a leadership may take to move away from a member that is about to become incomplete.
const yieldWithin = 3 * time.Second

// openScrub makes the scrubber; Open runs it.
func (h *Host) openScrub() error {
	s, err := antientropy.NewScrubber(antientropy.ScrubOptions{Members: h.repairMembers, Host: h.name, Deadline: h.opts.Repair.ScrubDeadline,
		BytesPerSecond: h.opts.Repair.ScrubBytesPerSecond, Keep: h.keepDamage, Yield: h.yield, Logger: h.log,
		Events: antientropy.ScrubEvents{Found: h.damageFound, Healed: func(id uint32, _ uint8) {
			if m := h.member(id); m != nil {
				h.noteHealth(m, m.docs.Status())
			}
		}}})
	h.scrub = s
	return err
}

// keepDamage says why damaged bytes of a member must stay: in safe mode they may be what an operator has to look at.
func (h *Host) keepDamage(id uint32) string {
	m := h.member(id)
	if m == nil {
		return "the member is gone"
	}
	if p := m.running(); p == nil || p.Brief().SafeMode {
		return "the partition is in safe mode, or does not run"
	}
	return ""
}

// yield gives a leadership away before the member becomes incomplete and could not serve any more.
func (h *Host) yield(ctx context.Context, id uint32) {
	m := h.member(id)
	if m == nil {
		return
	}
	p := m.running()
	if p == nil || !h.leads(p) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, yieldWithin)
	defer cancel()
	for _, to := range h.successors(m, p) {
		if ctx.Err() != nil || !h.leads(p) {
			return
		}
		if err := p.Transfer(ctx, to); err != nil {
			h.log.Debug("hand-over of a damaged member", "partition", id, "to", to, "error", err)
		}
	}
}

func (h *Host) damageFound(f antientropy.Find) {
	h.note(&f.Partition, "damage", f.String())
	if m := h.member(f.Partition); m != nil && f.Kept == "" {
		h.noteHealth(m, m.docs.Status())
		h.repair.Wake(f.Partition)
	}
}

// suspect has a bucket scrubbed in which somebody met damage.
func (h *Host) suspect(err error) {
	var c *store.CorruptionError
	if !errors.As(err, &c) || c.Key == (Key{}) {
		return
	}
	if m := h.member(c.Partition); m != nil && h.scrub != nil {
		h.scrub.Suspect(c.Partition, m.docs.Range().Bucket(c.Key.Hash()))
	}
}

// scrubTotals is what the host's scrub has done.
func (h *Host) scrubTotals() *ScrubTotals {
	s := h.scrub.Stats()
	return &ScrubTotals{Buckets: s.Buckets, Bytes: s.Bytes, Found: s.Found, Healed: s.Healed, Kept: s.Kept, OldestPass: s.OldestPass}
}

// scrubStatus is how far one member's scrub is; nil before it is known.
func (h *Host) scrubStatus(id uint32) *ScrubStatus {
	s, ok := h.scrub.State(id)
	if !ok {
		return nil
	}
	return &ScrubStatus{BucketsDone: s.Done, Began: s.Began, Finished: s.Finished, Kept: len(s.Kept), Healing: len(s.Healing)}
}
