package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// stopsWithin bounds how long it takes, once somebody is back who can prove a loss, until nobody serves any more.
const stopsWithin = 10 * time.Second

// beyond is a run of a beyondPlan. Documents only grow, and the name of each entry begins with the phase that it is of: a until the
// copies are made, b until the loss, c after it, d once the witnesses come back.
type beyond struct {
	*world
	p     beyondPlan
	r     *rand.Rand
	count int

	mu2   sync.Mutex
	acked map[int][]wrote // of each document
	lost  map[uint32]bool // partitions that were seen to serve less than was acknowledged
	safe  bool            // every member of the first partition was found in the safe mode of a loss
	out   bool            // and an operator brought it back

	term   uint64 // of the first partition, when the loss came
	reused bool   // who led first after it did so in a term that had been led in before: terms do not tell the two histories apart
}

// wrote is an entry that was acknowledged.
type wrote struct {
	seq int64
	id  string
}

func (b *beyond) play() {
	defer b.close()
	b.r = rand.New(rand.NewPCG(b.p.Seed, 0xbe1))
	if err := b.settle(true, healWithin); err != nil {
		b.complain("the cluster does not start: %v", err)
		return
	}
	b.write("a", b.p.Documents+b.p.Kept)
	b.pause()
	b.backUp()
	b.write("b", b.p.Lost)
	if b.p.Moves {
		b.transfer(step{Hosts: b.p.Voters[0][b.r.IntN(len(b.p.Voters[0])):], For: time.Second})
		b.write("b", 1+b.p.Lost/2)
	}
	b.pause()
	b.hurt()
	if len(b.wrongs()) == 0 {
		b.judge()
	}
	for i := range b.p.Crash {
		b.crashSome(i == b.p.Crash-1)
		if len(b.wrongs()) == 0 {
			b.judge()
		}
	}
	if len(b.wrongs()) == 0 && b.safe && b.p.Out != "" {
		b.bringBack()
	}
	if len(b.wrongs()) > 0 {
		b.describe()
	}
}

// pause lets everything be applied and synced: what nobody knows to be committed nobody can miss.
func (b *beyond) pause() {
	if err := b.settle(true, healWithin); err != nil {
		b.complain("not settled: %v", err)
	}
	time.Sleep(3 * time.Second)
}

// hurt is the loss, and what follows until everybody is back who comes back.
func (b *beyond) hurt() {
	for _, h := range b.live() {
		b.term = max(b.term, termIn(h))
	}
	b.note("the loss, in term %d", b.term)
	if b.p.Cut && len(b.p.Away) > 0 {
		away := func(h string) bool { return slices.Contains(b.p.Away, h) }
		b.work.Go(func() {
			b.link(cmp.Or(b.p.Late, time.Minute), cutting(func(from, to string) bool { return away(from) != away(to) }))
			b.note("the witnesses are connected")
		})
	}
	victims := slices.Clone(b.p.Hurt)
	if !b.p.Cut {
		victims = append(victims, b.p.Away...)
	}
	var absent []*machine
	for _, m := range b.crash(0, victims...) {
		switch {
		case slices.Contains(b.p.Away, m.name):
			absent = append(absent, m)
			continue
		case slices.Contains(b.p.Wiped, m.name):
			b.replaceDisk(m)
		default:
			b.world.mu.Lock()
			m.disk = b.backups[m.name].disk.Backup()
			b.world.mu.Unlock()
			b.note("%s has an old copy of its directory", m.name)
		}
		wait := time.Duration(b.r.IntN(500)) * time.Millisecond
		b.work.Go(func() {
			time.Sleep(wait)
			b.open(m)
		})
	}
	back := time.Now().Add(b.p.Late)
	time.Sleep(2 * time.Second)
	for doc := range b.p.Documents {
		for name, h := range b.live() {
			_, _ = b.read(h, name, doc, adamant.ReadLease) // does it serve less?
		}
	}
	b.write("c", b.p.More)
	if b.p.Late > 0 {
		time.Sleep(time.Until(back))
		var busy sync.WaitGroup
		if b.p.Busy {
			busy.Go(func() { b.write("d", 20) })
		}
		for _, m := range absent {
			b.open(m)
		}
		busy.Wait()
	}
	time.Sleep(stopsWithin)
}

// crashSome lets a host crash, or all of them, that are up.
func (b *beyond) crashSome(all bool) {
	hosts := b.p.Hosts
	if !all {
		hosts = []string{hosts[b.r.IntN(len(hosts))]}
	}
	for _, m := range b.crash([]int{0, 50}[b.r.IntN(2)], hosts...) {
		b.open(m)
	}
	time.Sleep(stopsWithin)
}

// write appends entries, each to some document; what can not be written in time is left out.
func (b *beyond) write(phase string, n int) {
	for i := range n {
		doc := b.r.IntN(b.p.Documents)
		if phase == "a" && i < b.p.Documents {
			doc = i
		}
		b.count++
		within := 2 * time.Second
		if phase == "a" || phase == "b" {
			within = healWithin
		}
		id := fmt.Sprintf("%s-%d", phase, b.count)
		if !b.append(doc, id, within) && within == healWithin {
			b.complain("%s is not written to document %d", id, doc)
		}
	}
}

// append reads a document where it is served, and writes what comes next there. It gives up after a while.
func (b *beyond) append(doc int, id string, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		b.pulse.Add(1)
		for _, name := range b.p.Hosts {
			h := b.live()[name]
			if h == nil {
				continue
			}
			before, ok := b.read(h, name, doc, adamant.ReadLease)
			if !ok {
				continue
			}
			seq := int64(len(before)) + 1
			if b.send(h, name, doc, seq, id) {
				return true
			}
		}
	}
	return false
}

// send writes one entry, and repeats it there as long as the outcome is unknown.
func (b *beyond) send(h *adamant.Host, name string, doc int, seq int64, id string) bool {
	d := adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: lincheck.Redo(seq, id), Undo: []byte(`{}`)}
	ctx, cancel := within(time.Second)
	defer cancel()
	var err error
	if seq == 1 {
		err = h.Create(ctx, keyOf(doc), d)
	} else {
		_, err = h.Append(ctx, keyOf(doc), []adamant.Delta{d})
	}
	if err != nil {
		b.typed(name, err)
		return false
	}
	b.mu2.Lock()
	defer b.mu2.Unlock()
	b.acked[doc] = append(b.acked[doc], wrote{seq, id})
	return true
}

// typed complains of an error that says nothing to a program.
func (b *beyond) typed(name string, err error) {
	if adamant.Code(err) == 0 && !errors.Is(err, context.DeadlineExceeded) {
		b.complain("%s answers with an error without a code: %v", name, err)
	}
}

// read lists the entries of a document as a host serves it, and notes when that is less than was acknowledged.
func (b *beyond) read(h *adamant.Host, name string, doc int, level adamant.Consistency) (ids []string, ok bool) {
	ctx, cancel := within(time.Second)
	defer cancel()
	b.mu2.Lock()
	acked := slices.Clone(b.acked[doc])
	b.mu2.Unlock()
	d, err := h.Get(ctx, keyOf(doc), adamant.WithConsistency(level))
	switch {
	case adamant.Code(err) == adamant.CodeNotFound:
	case err != nil:
		b.typed(name, err)
		return nil, false
	default:
		var first int64
		if first, ids, err = lincheck.Entries(d.JSON, d.Head); err != nil || first != 1 {
			b.complain("%s: document %d is not what anybody wrote: %s, %v", name, doc, d.JSON, err)
		}
	}
	if level == adamant.ReadStale {
		return ids, true
	}
	id := h.Locate(keyOf(doc)).Partition
	if lacks := lackedOf(acked, ids); lacks != "" && !b.lost[id] {
		b.lost[id] = true
		b.reused = id == 0 && termIn(h) <= b.term
		b.note("%s serves document %d without %s", name, doc, lacks)
	}
	return ids, true
}

// termIn is a host's term in the first partition.
func termIn(h *adamant.Host) uint64 {
	for _, p := range h.Status().Partitions {
		if p.ID == 0 {
			return p.Term
		}
	}
	return 0
}

// lackedOf names an acknowledged entry that is not there.
func lackedOf(acked []wrote, ids []string) string {
	for _, a := range acked {
		if a.seq > int64(len(ids)) || ids[a.seq-1] != a.id {
			return a.id
		}
	}
	return ""
}

// provable reports whether somebody is there who can know of a loss of the first partition.
func (b *beyond) provable() bool { return len(b.p.Away) == 0 || b.p.Late > 0 }

// judge looks at everything that is served, shown and held.
func (b *beyond) judge() {
	b.note("judged")
	for doc := range b.p.Documents {
		for _, level := range []adamant.Consistency{adamant.ReadLease, adamant.ReadQuorum} {
			for name, h := range b.live() {
				b.mu2.Lock()
				acked := slices.Clone(b.acked[doc])
				b.mu2.Unlock()
				ids, ok := b.read(h, name, doc, level)
				if lacks := lackedOf(acked, ids); ok && lacks != "" && (b.provable() || h.Locate(keyOf(doc)).Partition != 0) {
					b.complain("%s serves document %d by %s without %s, which was acknowledged", name, doc, level, lacks)
				}
			}
		}
	}
	b.judgeMembers()
	b.judgeWrites()
}

// judgeMembers looks at the safe mode and at the documents of each member.
func (b *beyond) judgeMembers() {
	members, safe := 0, 0
	for name, h := range b.live() {
		stopped := false
		for _, p := range h.Status().Partitions {
			if p.ID != 0 || p.Applied == 0 {
				continue
			}
			members++
			stopped = p.SafeMode != ""
			if strings.Contains(p.SafeMode, "committed entries are lost") {
				safe++
			} else if b.lost[0] && b.provable() && p.SafeMode == "" {
				b.complain("%s: what was acknowledged is lost, and its member claims to be well: %s of %s, applied %d", name, p.Role, p.Leader, p.Applied)
			}
		}
		held := ""
		for doc := range b.p.Documents {
			ids, _ := b.read(h, name, doc, adamant.ReadStale)
			if h.Locate(keyOf(doc)).Partition == 0 {
				held += strings.Join(ids, " ") + " "
			}
		}
		// Where a term was used again, logs can match that are not the same; that shows by their documents only, and stops them (docs/recovery.md).
		if b.lost[0] && !(b.reused && stopped) && strings.Contains(held, "b-") && (strings.Contains(held, "c-") || strings.Contains(held, "d-")) {
			b.complain("%s holds a mixture of two histories: %s", name, held)
		}
	}
	b.safe = members > 0 && safe == members
}

// judgeWrites: what is in safe mode refuses with just that, and what kept its majority takes writes, and has everything.
func (b *beyond) judgeWrites() {
	for doc := range b.p.Documents {
		id := uint32(0)
		for name, h := range b.live() {
			id = h.Locate(keyOf(doc)).Partition
			if id != 0 || !b.safe {
				continue
			}
			ctx, cancel := within(time.Second)
			err := h.Delete(ctx, keyOf(doc))
			cancel()
			if code := adamant.Code(err); code != adamant.CodeSafeMode && code != adamant.CodeNotLeader && code != adamant.CodeUnavailable {
				b.complain("%s: a write in safe mode: %v", name, err)
			}
		}
		if (id != 0 || !b.lost[0] && !b.safe && b.keepsQuorum()) && !b.append(doc, fmt.Sprintf("e-%d", b.tick()), healWithin) {
			b.complain("document %d of partition %d is not written any more", doc, id)
		}
	}
}

func (b *beyond) tick() int {
	b.count++
	return b.count
}

// keepsQuorum reports whether a majority of the first partition's voters is up under its old names.
func (b *beyond) keepsQuorum() bool {
	left := len(b.p.Voters[0]) - len(b.p.Wiped)
	if !b.provable() {
		left -= len(b.p.Away)
	}
	return left > len(b.p.Voters[0])/2
}

// bringBack is the operator, who keeps one history and gives the other one up with the hosts that hold it.
func (b *beyond) bringBack() {
	givenUp, kept := b.p.Hurt, b.p.witnesses()
	if b.p.Out == keepNew {
		givenUp, kept = kept, givenUp
	}
	b.note("the operator gives up what %v hold", givenUp)
	empty := b.crash(0, givenUp...)
	for _, m := range empty {
		b.replaceDisk(m)
	}
	time.Sleep(3 * time.Second)
	if b.p.Out == keepOld {
		b.recover(kept, givenUp)
	}
	if len(b.wrongs()) > 0 || !b.clear(kept[0]) {
		return
	}
	for _, m := range empty {
		b.open(m)
	}
	if err := b.settle(true, 2*healWithin); err != nil {
		b.complain("not healed after it was brought back: %v", err)
		return
	}
	for doc := range b.p.Documents {
		b.keptOnly(doc)
		if !b.append(doc, fmt.Sprintf("e-%d", b.tick()), healWithin) {
			b.complain("document %d is not written after it was brought back", doc)
		}
	}
	b.out = true
}

// recover makes a new group of the hosts that are kept (docs/recovery.md).
func (b *beyond) recover(kept, givenUp []string) {
	var surveys []adamant.HostSurvey
	hosts := b.down(kept...)
	for m, h := range hosts {
		if err := h.Close(); err != nil {
			b.complain("close %s: %v", m.name, err)
		}
		s, err := adamant.Survey("/data", adamant.RecoveryOptions{FS: b.diskOf(m)})
		if err != nil {
			b.complain("survey %s: %v", m.name, err)
			return
		}
		s.Addrs = nil // nobody can be called that is simulated
		surveys = append(surveys, s)
	}
	plan, err := adamant.PlanRecovery(surveys, adamant.PlanOptions{Lost: givenUp, Partitions: []uint32{0}})
	if err != nil {
		b.complain("plan: %v", err)
		return
	}
	for m := range hosts {
		if _, err := adamant.ApplyRecovery("/data", plan, plan.Digest(), adamant.RecoveryOptions{FS: b.diskOf(m)}); err != nil {
			b.complain("recover %s: %v", m.name, err)
			return
		}
	}
	for m := range hosts {
		b.open(m)
	}
}

// clear ends the safe mode, which ends by nothing else. No version of the documents can be chosen.
func (b *beyond) clear(name string) bool {
	h := b.live()[name]
	if h == nil {
		b.complain("%s is down", name)
		return false
	}
	time.Sleep(3 * time.Second)
	for _, p := range h.Status().Partitions {
		if p.ID == 0 && !strings.Contains(p.SafeMode, "committed entries are lost") {
			b.complain("%s: the safe mode has ended by itself: %q", name, p.SafeMode)
		}
	}
	ctx, cancel := within(10 * time.Second)
	defer cancel()
	if _, err := h.ClearSafeMode(ctx, 0, name); adamant.Code(err) != adamant.CodeUnavailable {
		b.complain("%s: a version is kept of documents that have two histories: %v", name, err)
	}
	if _, err := h.ClearSafeMode(ctx, 0, ""); err != nil {
		b.complain("%s: safe mode is not cleared: %v", name, err)
		return false
	}
	return true
}

// keptOnly: a document holds all of the history that was kept, and nothing of the other one.
func (b *beyond) keptOnly(doc int) {
	phases := "ab"
	if b.p.Out == keepNew {
		phases = "acd"
	}
	b.mu2.Lock()
	acked := slices.Clone(b.acked[doc])
	b.mu2.Unlock()
	other := b.live()[b.p.Hosts[0]].Locate(keyOf(doc)).Partition != 0
	acked = slices.DeleteFunc(acked, func(a wrote) bool { return !other && !strings.Contains(phases, a.id[:1]) })
	for end := time.Now().Add(healWithin); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for name, h := range b.live() {
			ids, ok := b.read(h, name, doc, adamant.ReadQuorum)
			if !ok {
				continue
			}
			if lacks := lackedOf(acked, ids); lacks != "" {
				b.complain("%s lacks %s of the history that was kept", name, lacks)
			}
			for _, id := range ids {
				if !other && !strings.Contains(phases, id[:1]) {
					b.complain("%s holds %s of the history that was given up", name, id)
				}
			}
			b.mu2.Lock()
			b.acked[doc] = acked
			b.mu2.Unlock()
			return
		}
	}
	b.complain("document %d is not served after it was brought back", doc)
}
