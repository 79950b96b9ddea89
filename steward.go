package adamant

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

const (
	// stewardEvery is how often the steward looks at members on their way, stewardWhole at all that may have something to do, and each
	// stewardAll times at those, too, that have not.
	stewardEvery = 150 * time.Millisecond
	stewardWhole = 2 * time.Second
	stewardAll   = 8
	// reportEvery is how often a host reports when nothing has changed, and reportGap the least time between two reports. All of
	// every member is looked at when there is news, and each reportWhole.
	reportEvery = 500 * time.Millisecond
	reportGap   = 20 * time.Millisecond
	reportWhole = 4 * time.Second
	// stewardWorkers bounds how many members take a step at once.
	stewardWorkers = 16
)

// steward is the loop that keeps the host's members what the cluster file wants them to be. Members on their way are looked
// at often, others now and then and when there is news.
func (h *Host) steward(ctx context.Context) {
	ticker := time.NewTicker(stewardEvery)
	defer ticker.Stop()
	var whole time.Time
	for rounds := 0; ; {
		look := lookRestless
		if time.Since(whole) >= stewardWhole {
			whole = time.Now()
			if look = lookUnsettled; rounds%stewardAll == 0 {
				look = lookAll
			}
			rounds++
		}
		h.stewardOnce(ctx, look)
		if look != lookRestless && h.failed() == nil {
			for _, m := range h.allMembers() {
				if m.mayBeOutnumbered() {
					h.lookMajority(m)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.stewardPoke:
			whole = time.Time{}
		}
	}
}

// stewardLook says which members the steward lets take a step.
type stewardLook uint8

const (
	lookRestless  stewardLook = iota // those on their way
	lookUnsettled                    // those, too, that may have something to do
	lookAll
)

func (l stewardLook) at(m *member, unrests uint64) bool {
	switch l {
	case lookRestless:
		return m.restless.Load()
	case lookUnsettled:
		return m.rest.Load() != unrests+1
	}
	return true
}

// stewardOnce lets members take a step; at most stewardWorkers at once, and none waits for another.
func (h *Host) stewardOnce(ctx context.Context, look stewardLook) {
	if h.failed() != nil {
		return
	}
	if version := h.cluster().Version; h.reconciled.Load() != version {
		if _, err := h.reconcileMembers(); err != nil {
			h.log.Error("members", "error", err)
		} else {
			h.reconciled.Store(version)
		}
	}
	var members []*member
	unrests := h.unrests.Load() // before what it is the count of
	for _, m := range h.allMembers() {
		if look.at(m, unrests) {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return
	}
	wanted := h.allDesired()
	work := make(chan *member)
	var wg sync.WaitGroup
	for range min(stewardWorkers, len(members)) {
		wg.Go(func() {
			for m := range work {
				desired, ok := wanted[m.id]
				if err := m.step(ctx, desired, ok && lists(desired, h.name), unrests); err != nil && ctx.Err() == nil {
					h.log.Debug("step", "partition", m.id, "error", err)
				}
			}
		})
	}
	for _, m := range members {
		work <- m
	}
	close(work)
	wg.Wait()
}

// lists reports whether the cluster file gives host a copy of the partition.
func lists(d partition.Desired, host string) bool {
	return slices.Contains(d.Voters, host) || slices.Contains(d.Replicas, host)
}

// peersOf lists the members of m's partition, this one included, as the membership rules want them.
func (h *Host) peersOf(m *member) map[raft.ServerID]partition.Peer {
	peers := h.reports.peers(m.id, time.Now())
	status := m.docs.Status()
	peers[h.serverID] = partition.Peer{ID: h.serverID, Alive: true, Ready: true, Complete: status.Complete, Applied: status.Applied,
		Version: h.cluster().Version}
	return peers
}

// probe asks every host of the cluster file what it holds of a partition. Hosts that do not answer are listed as such.
func (h *Host) probe(ctx context.Context, id uint32, desired partition.Desired) ([]partition.Probe, error) {
	own, err := h.probed(id)
	if err != nil {
		return nil, err
	}
	probes := []partition.Probe{{Host: h.name, ID: h.serverID, Answered: true, HasData: own.HasData, Running: own.Running, Version: own.Version}}
	if !partition.Founds(h.name, desired) {
		return probes, nil // the founder asks; this host only waits
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, host := range h.otherHosts() {
		wg.Go(func() {
			var reply probeReply
			err := h.callHost(ctx, host, callProbe, id, nil, &reply)
			mu.Lock()
			defer mu.Unlock()
			probes = append(probes, partition.Probe{Host: host, ID: raft.ServerID(reply.ID), Answered: err == nil, HasData: reply.HasData,
				Running: reply.Running, Founds: reply.Founds, Version: reply.Version})
		})
	}
	wg.Wait()
	return probes, nil
}

// reporter sends this host's report to every other host, regularly and soon after something changed.
func (h *Host) reporter(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, whole time.Time
	poked := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.reportPoke:
			poked = true
			if gap := reportGap - time.Since(last); gap > 0 {
				timer.Reset(gap)
				continue
			}
		}
		last = time.Now()
		if poked = poked || last.Sub(whole) >= reportWhole; poked {
			whole = last
		}
		h.sendReports(poked)
		poked = false
		timer.Reset(reportEvery)
	}
}

// sendReports reports to all other hosts; with poked, what can not be seen at a glance may have changed.
func (h *Host) sendReports(poked bool) {
	others := h.otherHosts()
	for host := range h.admission.guests(time.Now()) { // one that leads has to know whom it can hand over to
		others = append(others, host)
	}
	if len(others) == 0 || h.failed() != nil { // a host that stopped is as good as dead to the others
		return
	}
	r := h.report(poked)
	for _, host := range others {
		payload := append([]byte{callReport}, h.sent.prepare(host, r).encode()...)
		p := h.net.Start(mesh.Target{Host: host}, express(payload, hostCallTimeout))
		h.aside.Go(func() {
			_, err := mesh.Await(h.context, p)
			h.sent.answered(host, r.Number, err)
		})
	}
}

// sentReports remembers which members changed in which report, and which report each host has taken.
type sentReports struct {
	mu      sync.Mutex
	process uint64
	number  uint64
	rows    map[uint32]sentRow
	last    []memberReport    // of the newest report; nobody changes it
	newest  uint64            // number of the last report that brought news
	whole   uint64            // hosts that have not taken this one get everything
	taken   map[string]uint64 // by host
}

type sentRow struct {
	report  memberReport
	changed uint64 // number of the first report that said so
}

// reported returns the rows of the newest report, by partition; nobody changes them.
func (s *sentReports) reported() []memberReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// next numbers a report and notes what in it is new.
func (s *sentReports) next(r *report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	r.Process, r.Number = s.process, s.number
	if len(r.Members) > 0 && len(s.last) == len(r.Members) && &s.last[0] == &r.Members[0] {
		return // the very same
	}
	s.last, s.newest = r.Members, s.number
	fresh := len(r.Members) != len(s.rows)
	for _, m := range r.Members {
		_, known := s.rows[m.Partition]
		fresh = fresh || !known
	}
	if fresh { // others have come, or some went, which only a whole report tells
		s.whole, s.rows = s.number, make(map[uint32]sentRow, len(r.Members))
	}
	for _, m := range r.Members {
		if old, ok := s.rows[m.Partition]; !ok || old.report != m {
			s.rows[m.Partition] = sentRow{m, s.number}
		}
	}
}

// prepare leaves out of a report what a host knows.
func (s *sentReports) prepare(host string, r report) *report {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := s.taken[host]
	if base == 0 || base < s.whole {
		return &r
	}
	all := r.Members
	r.Base, r.Members = base, nil
	if base >= s.newest {
		return &r
	}
	for _, m := range all {
		if s.rows[m.Partition].changed > base {
			r.Members = append(r.Members, m)
		}
	}
	return &r
}

// answered notes what a host said to a report; one that did not take it gets everything.
func (s *sentReports) answered(host string, number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		delete(s.taken, host)
	case number > s.taken[host]:
		s.taken[host] = number
	}
}

// report describes this host's members. Without poked, those are left as they were reported last that have applied nothing since
// and miss as much or as little: whatever else changes in a row pokes the reporter.
func (h *Host) report(poked bool) report {
	r := report{Incarnation: h.incarnation, Version: h.cluster().Version, Lease: uint64(h.opts.Timing.Lease.Microseconds())}
	members := h.allMembers()
	last := h.sent.reported()
	if poked || len(last) != len(members) {
		last = nil
		r.Members = make([]memberReport, len(members))
	} else {
		r.Members = last
	}
	shared, marks := last != nil, h.reportMarks(time.Now())
	for i, m := range members {
		if last != nil && last[i].tells(m, marks) {
			continue
		}
		if shared { // with reports that are on their way
			r.Members, shared = slices.Clone(last), false
		}
		r.Members[i] = h.reportMember(m, marks)
	}
	h.sent.next(&r)
	return r
}

// tells reports whether a row says of a member what can be seen at a glance. Of two reports that are made at the same time the one that
// began before a drain may be the last.
func (r *memberReport) tells(m *member, marks reportFlags) bool {
	return r.Partition == m.id && r.Applied == m.docs.Applied() && (r.Flags&flagComplete != 0) == m.docs.Complete() && r.Flags&marks == marks
}

// reportMarks are the flags that all members of the host have in common.
func (h *Host) reportMarks(now time.Time) (marks reportFlags) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		marks |= flagDraining
	}
	if now.Before(h.strained) {
		marks |= flagStrained
	}
	return marks
}

// stuck notes that a member gave its leadership up because the disk of the logs kept it waiting. None is given back to this host for its
// preference until the disk has had time to show that it is well.
func (h *Host) stuck(m *member, now time.Time) {
	h.note(&m.id, "disk", "the log's disk keeps this leader waiting: another host is to lead")
	h.mu.Lock()
	h.strained = now.Add(calm * h.opts.Timing.Heartbeat)
	h.mu.Unlock()
	poke(h.reportPoke)
}

func (h *Host) reportMember(m *member, marks reportFlags) memberReport {
	row := memberReport{Partition: m.id}
	p := m.running()
	var s partition.Brief
	if p != nil {
		s = p.Brief() // before the documents: they are at least as the leader of that term left them
	}
	status := m.docs.Status()
	row.Applied = status.Applied
	if status.Complete {
		row.Flags |= flagComplete
	}
	h.noteHealth(m, status)
	q := m.isolation.load()
	row.Flags |= q.flags()
	if p == nil {
		return row
	}
	if data, err := m.hasData(); err == nil && data {
		row.Flags |= flagReady
	}
	row.Epoch, row.Leader, row.Founding = s.Term, string(s.Leader), s.Founding
	if s.Serving == partition.Serves {
		row.Flags |= flagServing
	}
	if s.SafeMode {
		row.Flags |= flagSafeMode
	}
	row.Flags |= marks
	return row
}

// takeReport stores another host's report and tells whoever waits for such news.
func (h *Host) takeReport(from mesh.Identity, r report) error {
	if from.Incarnation != r.Incarnation {
		return nil // an old link's last words
	}
	news, err := h.reports.take(from.Host, r, time.Now())
	if err != nil {
		return err
	}
	if own := uint64(h.opts.Timing.Lease.Microseconds()); r.Lease < own && h.reports.firstComplaint(from) {
		text := fmt.Sprintf("host %s promises for %d µs, this host's leases last %d µs: Timing must be the same on all hosts, or two leaders may serve", from.Host, r.Lease, own)
		h.log.Error(text)
		h.note(nil, "peer", text)
	}
	if news {
		h.unrests.Add(1)
		h.warden.reported()
		h.routeChanged()
		poke(h.stewardPoke)
	}
	return nil
}

// poke wakes a loop that waits on a channel of capacity one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ticksPerSync is how many ticks may pass until what was applied is durable as such. The log has it all; but which of its entries
// were committed it does not say, and by that a member knows, after a loss of power, what others must not have lost.
const ticksPerSync = 5

// truncation is the host-wide tick (design §4): all members that have enough behind their last marker make a new one at
// the same time, so that one fsync of the document engine serves them all, and only then are their logs truncated. Now and then
// it syncs for its own sake.
func (h *Host) truncation(ctx context.Context) {
	ticker := time.NewTicker(h.opts.Timing.TruncationTick)
	defer ticker.Stop()
	news, ticks := false, 0 // since the last sync
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		news = h.truncate(ctx) || news
		if ticks++; news && ticks >= ticksPerSync {
			if err := h.docs.Sync(); err != nil && ctx.Err() == nil {
				h.log.Debug("sync of the documents", "error", err)
			}
			news, ticks = false, 0
		}
	}
}

// truncate does one tick, and reports whether anything was applied since the last one.
func (h *Host) truncate(ctx context.Context) (news bool) {
	members := h.allMembers()
	rooms := h.logRooms(members)
	var wg sync.WaitGroup
	for i, m := range members {
		p := m.running()
		applied := m.docs.Applied()
		if p == nil || applied == m.flushed.Load() {
			continue
		}
		news = true
		wg.Go(func() {
			err := p.Truncate(ctx, rooms[i])
			if err == nil {
				m.flushed.Store(applied)
			} else if ctx.Err() == nil {
				h.log.Debug("truncation", "partition", m.id, "error", err)
			}
		})
	}
	wg.Wait()
	return news
}
