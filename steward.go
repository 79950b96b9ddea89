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
	// stewardEvery is how often the steward looks at every member.
	stewardEvery = 150 * time.Millisecond
	// reportEvery is how often a host reports when nothing has changed, and reportGap the least time between two reports.
	reportEvery = 500 * time.Millisecond
	reportGap   = 20 * time.Millisecond
	// stewardWorkers bounds how many members take a step at once.
	stewardWorkers = 16
)

// steward is the loop that keeps the host's members what the cluster file wants them to be.
func (h *Host) steward(ctx context.Context) {
	ticker := time.NewTicker(stewardEvery)
	defer ticker.Stop()
	for {
		h.stewardOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.stewardPoke:
		}
	}
}

// stewardOnce lets every member take a step; at most stewardWorkers at once, and none waits for another.
func (h *Host) stewardOnce(ctx context.Context) {
	if h.failed() != nil {
		return
	}
	members, err := h.reconcileMembers()
	if err != nil {
		h.log.Error("members", "error", err)
	}
	work := make(chan *member)
	var wg sync.WaitGroup
	for range min(stewardWorkers, len(members)) {
		wg.Go(func() {
			for m := range work {
				desired, ok := h.desired(m.id)
				if err := m.step(ctx, desired, ok && lists(desired, h.name)); err != nil && ctx.Err() == nil {
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
	peers[h.serverID] = partition.Peer{ID: h.serverID, Alive: true, Ready: true, Complete: status.Complete, Applied: status.Applied}
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
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.reportPoke:
			if gap := reportGap - time.Since(last); gap > 0 {
				timer.Reset(gap)
				continue
			}
		}
		last = time.Now()
		h.sendReports()
		timer.Reset(reportEvery)
	}
}

func (h *Host) sendReports() {
	others := h.otherHosts()
	if len(others) == 0 || h.failed() != nil { // a host that stopped is as good as dead to the others
		return
	}
	r := h.report()
	payload := append([]byte{callReport}, r.encode()...)
	for _, host := range others {
		h.net.Start(mesh.Target{Host: host}, mesh.Request{Service: mesh.ServiceHost, Class: mesh.Urgent, Payload: payload, Timeout: hostCallTimeout})
	}
}

// report describes this host's members.
func (h *Host) report() report {
	r := report{Incarnation: h.incarnation, Version: h.cluster().Version, Lease: uint64(h.opts.Timing.Lease.Microseconds())}
	draining := h.isDraining()
	for _, m := range h.allMembers() {
		row := memberReport{Partition: m.id}
		status := m.docs.Status()
		row.Applied = status.Applied
		if status.Complete {
			row.Flags |= flagComplete
		}
		h.noteHealth(m, status)
		if p := m.running(); p != nil {
			if data, err := m.hasData(); err == nil && data {
				row.Flags |= flagReady
			}
			s := p.Brief()
			row.Epoch, row.Leader, row.Founding = s.Term, string(s.Leader), s.Founding
			if s.Serving == partition.Serves {
				row.Flags |= flagServing
			}
			if s.SafeMode {
				row.Flags |= flagSafeMode
			}
			if draining {
				row.Flags |= flagDraining
			}
		}
		r.Members = append(r.Members, row)
	}
	return r
}

// takeReport stores another host's report and tells whoever waits for such news.
func (h *Host) takeReport(from mesh.Identity, r report) {
	if from.Incarnation != r.Incarnation {
		return // an old link's last words
	}
	news, conflict := h.reports.take(from.Host, r, time.Now())
	if conflict {
		h.log.Debug("report of a second incarnation", "host", from.Host, "incarnation", from.Incarnation)
	}
	if own := uint64(h.opts.Timing.Lease.Microseconds()); r.Lease < own && h.reports.firstComplaint(from) {
		text := fmt.Sprintf("host %s promises for %d µs, this host's leases last %d µs: Timing must be the same on all hosts, or two leaders may serve", from.Host, r.Lease, own)
		h.log.Error(text)
		h.note(nil, "peer", text)
	}
	if news {
		h.routeChanged()
		poke(h.stewardPoke)
	}
}

// poke wakes a loop that waits on a channel of capacity one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// truncation is the host-wide tick (design §4): all members that have enough behind their last marker make a new one at
// the same time, so that one fsync of the document engine serves them all, and only then are their logs truncated.
func (h *Host) truncation(ctx context.Context) {
	ticker := time.NewTicker(h.opts.Timing.TruncationTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var wg sync.WaitGroup
		for _, m := range h.allMembers() {
			p := m.running()
			if p == nil {
				continue
			}
			wg.Go(func() {
				if err := p.Truncate(ctx); err != nil && ctx.Err() == nil {
					h.log.Debug("truncation", "partition", m.id, "error", err)
				}
			})
		}
		wg.Wait()
	}
}
