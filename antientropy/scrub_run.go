package antientropy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
	"github.com/cespare/xxhash/v2"
)

// Run works until the context ends. It is called once.
func (s *Scrubber) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		s.refresh(now)
		s.settle()
		if m, p := s.chooseUncut(now); m != nil {
			s.reclaim(ctx, m, p)
			continue
		}
		m, bucket, scheduled, wait := s.choose(now)
		if m != nil {
			s.read(ctx, m, bucket, scheduled)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-s.poke:
		case <-timer.C:
		}
	}
}

// refresh takes over which members there are.
func (s *Scrubber) refresh(now time.Time) {
	list := s.o.Members()
	s.mu.Lock()
	defer s.mu.Unlock()
	present := map[uint32]bool{}
	for _, m := range list {
		id, docs := m.ID(), m.Documents()
		present[id] = true
		if have := s.members[id]; have != nil && have.docs == docs {
			continue
		}
		progress, err := docs.ScrubProgress()
		if err != nil {
			s.o.Logger.Warn("a scrub's progress cannot be read", "partition", id, "error", err)
		}
		place := binary.BigEndian.AppendUint32([]byte(s.o.Host), id)
		hash := xxhash.Sum64(place)
		if progress.Began.IsZero() || progress.Began.After(now.Add(s.o.Deadline)) { // never, or the clock was set back
			// Not at once: a host with many new members would read all of them at the same time.
			slot := uint64(max(s.o.Deadline/merkle.Buckets, 1))
			progress.Began = now.Add(time.Duration(hash / 256 % slot))
		}
		if s.members[id] != nil {
			s.forget(id)
		}
		s.members[id] = &scrubMember{Member: m, docs: docs, progress: progress, first: int(hash % merkle.Buckets)}
	}
	for id := range s.members {
		if !present[id] {
			delete(s.members, id)
			s.forget(id)
		}
	}
}

// forget drops what is known of a member that is gone. The caller holds mu.
func (s *Scrubber) forget(partition uint32) {
	for _, places := range []map[scrubPlace]time.Time{s.suspects, s.checked} {
		for p := range places {
			if p.partition == partition {
				delete(places, p)
			}
		}
	}
	for p := range s.kept {
		if p.partition == partition {
			delete(s.kept, p)
		}
	}
	for p := range s.open {
		if p.partition == partition {
			delete(s.open, p)
		}
	}
	for p := range s.uncut {
		if p.partition == partition {
			delete(s.uncut, p)
		}
	}
}

// settle notices what has been healed.
func (s *Scrubber) settle() {
	var healed []scrubPlace
	s.mu.Lock()
	for p, applied := range s.open {
		if _, waits := s.uncut[p]; waits {
			continue // it goes once more
		}
		docs := s.members[p.partition].docs
		if docs.Coverage().Union(docs.Healed(p.bucket)).Covers(interval.Of(1, applied)) {
			delete(s.open, p)
			s.stats.Healed++
			healed = append(healed, p)
		}
	}
	s.mu.Unlock()
	for _, p := range healed {
		s.o.Logger.Info("damaged bucket healed", "partition", p.partition, "bucket", p.bucket)
		s.o.Events.Healed(p.partition, p.bucket)
	}
}

// choose returns what to read now, or how long there is nothing: suspects first, then what was kept and need not be any
// more, then what is due.
func (s *Scrubber) choose(now time.Time) (m *scrubMember, bucket uint8, scheduled bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = scrubGlance
	later := func(at time.Time) { wait = min(wait, max(at.Sub(now), time.Millisecond)) }
	for p, at := range s.suspects {
		m := s.members[p.partition]
		switch {
		case m == nil:
			delete(s.suspects, p)
		case at.After(now):
			later(at)
		default:
			delete(s.suspects, p)
			return m, p.bucket, false, 0
		}
	}
	for p, k := range s.kept {
		if m := s.members[p.partition]; !k.again.After(now) && s.why(m) == "" {
			return m, p.bucket, false, 0
		}
	}
	if len(s.kept)+len(s.open)+len(s.uncut) > 0 {
		later(now.Add(scrubRetry))
	}
	if s.o.Deadline < 0 {
		return nil, 0, false, wait
	}
	var first *scrubMember
	for _, m := range s.members {
		if first == nil || m.due(s.o.Deadline).Before(first.due(s.o.Deadline)) {
			first = m
		}
	}
	if first == nil {
		return nil, 0, false, wait
	}
	if at := first.due(s.o.Deadline); at.After(now) {
		later(at)
		return nil, 0, false, wait
	}
	return first, first.next(), true, 0
}

// why says why a member's damaged bytes are to stay.
func (s *Scrubber) why(m *scrubMember) string {
	if reason := s.o.Keep(m.ID()); reason != "" {
		return reason
	}
	for _, p := range m.Peers() {
		if p.Complete && p.Alive {
			return ""
		}
	}
	return "no other complete member is alive"
}

// read scrubs one bucket and sees to what was found.
func (s *Scrubber) read(ctx context.Context, m *scrubMember, bucket uint8, scheduled bool) {
	p := scrubPlace{m.ID(), bucket}
	report, err := m.docs.ScrubBucket(ctx, bucket, func(bytes int) { s.pace(ctx, bytes) })
	now := time.Now()
	s.mu.Lock()
	switch {
	case errors.Is(err, store.ErrScrubBusy):
		s.postpone(p, now.Add(scrubRetry))
	case err != nil:
		if m.pause = now.Add(scrubGlance); !scheduled {
			s.postpone(p, m.pause)
		}
	default:
		s.stats.Buckets++
		s.stats.Bytes += report.Bytes
		s.remember(p, now)
		if _, kept := s.kept[p]; kept && report.Found == 0 { // what was damaged went with the bucket beside, or was overwritten
			delete(s.kept, p)
			s.stats.Healed++
		}
	}
	s.mu.Unlock()
	if err != nil && !errors.Is(err, store.ErrScrubBusy) {
		if ctx.Err() == nil {
			s.o.Logger.Warn("a bucket cannot be scrubbed", "partition", p.partition, "bucket", bucket, "error", err)
		}
		return
	}
	if report != nil && report.Found > 0 {
		s.found(ctx, m, report)
	}
	if scheduled {
		s.advance(m, now)
	}
}

// postpone puts off what could not be read now. The caller holds mu.
func (s *Scrubber) postpone(p scrubPlace, until time.Time) {
	if k, kept := s.kept[p]; kept {
		k.again = until
		s.kept[p] = k
		return
	}
	s.suspects[p] = until
}

// remember notes when a suspect was read. The caller holds mu.
func (s *Scrubber) remember(p scrubPlace, now time.Time) {
	if len(s.checked) >= mostPlaces {
		for old, at := range s.checked {
			if now.Sub(at) > suspectAgain {
				delete(s.checked, old)
			}
		}
	}
	if len(s.checked) < mostPlaces {
		s.checked[p] = now
	}
	if _, waits := s.suspects[p]; waits { // it became one while it was read
		s.suspects[p] = now.Add(suspectAgain)
	}
}

// found lets a damaged bucket be healed, if it can be.
func (s *Scrubber) found(ctx context.Context, m *scrubMember, report *store.ScrubReport) {
	p := scrubPlace{m.ID(), report.Bucket}
	s.mu.Lock()
	_, again := s.open[p] // it was not healed yet
	_, known := s.kept[p]
	_, waits := s.uncut[p]
	s.mu.Unlock()
	if waits && report.Damaged.Whole {
		return // reclaim sees to it
	}
	find := Find{Partition: p.partition, Report: report, Kept: s.why(m)}
	if find.Kept == "" {
		s.o.Yield(ctx, p.partition)
		find.Kept = s.why(m)
	}
	if find.Kept == "" {
		var err error
		if find.Removed, err = m.docs.Damage(report.Bucket, report.Damaged); err != nil {
			find.Kept = err.Error()
		}
	}
	if told := again || known && find.Kept != ""; !told {
		s.tell(find) // before it is counted: who sees the count finds it in the history
	}
	if find.Kept != "" {
		s.keep(p, find.Kept, report.Damaged.Whole)
		return
	}
	s.removed(m, p, &find.Removed)
	if find.Removed.Unreclaimed != "" {
		s.reclaim(ctx, m, p) // what lies with it beyond the partition may go along
	}
}

// keep notes that nothing is removed for now.
func (s *Scrubber) keep(p scrubPlace, why string, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.kept[p]
	if _, open := s.open[p]; !known && !open {
		s.stats.Found++
	}
	s.kept[p] = keptPlace{why, time.Now().Add(scrubRetry)}
	delete(s.checked, p)
	if !whole {
		return
	}
	for _, b := range []int{int(p.bucket) - 1, int(p.bucket) + 1} { // a damaged block may hold records of these, too
		beside := scrubPlace{p.partition, uint8(b)}
		if _, open := s.open[beside]; b >= 0 && b < merkle.Buckets && !open && s.kept[beside].why == "" && s.checked[beside].IsZero() {
			s.suspects[beside] = time.Time{}
		}
	}
}

// removed notes what went from a member because of a bucket, and has to heal.
func (s *Scrubber) removed(m *scrubMember, p scrubPlace, r *store.DamageReport) {
	applied := m.docs.Applied()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.uncut[p].pause
	for _, bucket := range r.Buckets {
		q := scrubPlace{p.partition, bucket}
		_, open := s.open[q]
		if _, known := s.kept[q]; !known && !open {
			s.stats.Found++
		}
		s.open[q] = applied
		delete(s.kept, q)
		delete(s.suspects, q)
		delete(s.checked, q)
		delete(s.uncut, q)
	}
	if r.Unreclaimed != "" {
		s.resists(p, last)
	}
}

// resists plans the next attempt to cut a bucket out; last is the pause before the one that failed. The caller holds mu.
func (s *Scrubber) resists(p scrubPlace, last time.Duration) {
	pause := min(max(2*last, scrubRetry), scrubRarely)
	s.uncut[p] = uncutPlace{time.Now().Add(pause), pause}
}

// chooseUncut returns a bucket that is to be cut out now; nil when there is none.
func (s *Scrubber) chooseUncut(now time.Time) (*scrubMember, scrubPlace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, u := range s.uncut {
		if m := s.members[p.partition]; !u.again.After(now) && s.why(m) == "" {
			return m, p
		}
	}
	return nil, scrubPlace{}
}

// reclaim tries again to cut out of the engine's files what an earlier removal had to leave there. While it is left, reads
// or compactions meet it, and the bucket may not heal; it is not worth waiting for the next pass.
func (s *Scrubber) reclaim(ctx context.Context, m *scrubMember, p scrubPlace) {
	s.o.Yield(ctx, p.partition)
	why := s.why(m)
	if why == "" {
		reports, err := m.docs.Reclaim(p.bucket, func(other uint32) error { return s.mayTake(ctx, other) })
		for partition, report := range reports { // with an error, too: what was given up has to heal
			s.reclaimed(p, partition, report)
		}
		if err == nil {
			return
		}
		why = err.Error()
	}
	s.mu.Lock()
	s.resists(p, s.uncut[p].pause)
	s.mu.Unlock()
	s.o.Logger.Warn("a damaged bucket cannot be cut out", "partition", p.partition, "bucket", p.bucket, "reason", why)
}

// mayTake says why nothing of another member may go along with what is cut out.
func (s *Scrubber) mayTake(ctx context.Context, partition uint32) error {
	s.mu.Lock()
	m := s.members[partition]
	s.mu.Unlock()
	if m == nil {
		return errors.New("it does not run")
	}
	if why := s.why(m); why != "" {
		return errors.New(why)
	}
	s.o.Yield(ctx, partition)
	if why := s.why(m); why != "" {
		return errors.New(why)
	}
	return nil
}

// reclaimed notes what was cut out of a partition because of a place, which may be another's.
func (s *Scrubber) reclaimed(p scrubPlace, partition uint32, report store.DamageReport) {
	s.mu.Lock()
	m := s.members[partition]
	s.mu.Unlock()
	if m == nil || len(report.Buckets) == 0 {
		return
	}
	s.o.Logger.Info("damaged buckets cut out", "partition", partition, "buckets", report.Buckets, "left", report.Unreclaimed)
	if partition == p.partition {
		s.removed(m, p, &report)
		return
	}
	q := scrubPlace{partition, report.Buckets[0]}
	reason := fmt.Sprintf("lies with bucket %d of partition %d, which cannot be read", p.bucket, p.partition)
	s.tell(Find{Partition: partition, Removed: report, Report: &store.ScrubReport{Bucket: q.bucket, Found: 1,
		Findings: []store.Finding{{Kind: "engine", Reason: reason}}}})
	s.removed(m, q, &report)
}

func (s *Scrubber) tell(f Find) {
	s.o.Logger.Error("damage", "partition", f.Partition, "find", f.String())
	s.o.Events.Found(f)
}

// advance goes on to the next bucket of the pass.
func (s *Scrubber) advance(m *scrubMember, now time.Time) {
	next := m.progress
	if next.Done++; next.Done == merkle.Buckets {
		next.Done, next.Finished = 0, now
		if next.Began = next.Began.Add(s.o.Deadline); next.Began.Add(s.o.Deadline).Before(now) {
			next.Began = now // too late to catch up
		}
	}
	s.mu.Lock()
	m.progress = next
	s.mu.Unlock()
	if err := m.docs.SetScrubProgress(next); err != nil && !errors.Is(err, store.ErrDropped) {
		s.o.Logger.Warn("a scrub's progress cannot be stored", "partition", m.ID(), "error", err)
	}
}

// pace waits as long as reading so much may take.
func (s *Scrubber) pace(ctx context.Context, bytes int) {
	t := time.NewTimer(time.Duration(float64(bytes) / float64(s.o.BytesPerSecond) * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
