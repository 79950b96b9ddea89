package adamant

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant/mesh"
)

// The warden carries the quarantine of each partition to all of its members: whoever changes it tells the others until they
// have heard, and who was away meanwhile is seen by the safe mode in its reports. A call takes both sides to the same state.

const (
	wardEvery = time.Second            // until a call that failed is repeated
	wardGap   = 100 * time.Millisecond // between two looks at what other hosts reported
	// wardSettles is for how long after a member discarded its version what is reported against it may be older than that.
	wardSettles = 5 * time.Second
	// wardPatience is for how long who ends a quarantine waits for the other members.
	wardPatience = 1500 * time.Millisecond

	mostFindings = 1024 // waiting to be recorded
)

// warden is a host's part in that. mu guards everything below it.
type warden struct {
	poked chan struct{}

	mu       sync.Mutex
	findings []finding
	news     bool // other hosts reported something new
	looked   time.Time
	waiting  map[wardCall]bool // calls to make; true: under way
}

type wardCall struct {
	id   uint32
	host string
}

// finding is a divergence that was met and is not recorded yet.
type finding struct {
	id     uint32
	report Divergence
}

// wardRequest and wardReply are the call by which two members come to the same state.
type wardRequest struct {
	State quarantine `json:"state"`
	Clean bool       `json:"clean"` // the sender lacks nothing of the version that is kept
	Fresh bool       `json:"fresh"` // it took the present end over only just now
}

type wardReply struct {
	Member bool       `json:"member"` // false: nobody here has to know
	State  quarantine `json:"state"`  // after it took in the sender's
	Clean  bool       `json:"clean"`
	Fresh  bool       `json:"fresh"`
}

type keepRequest struct {
	Epoch uint64 `json:"epoch"` // of the quarantine that is to end
}

type keepReply struct {
	Refused string   `json:"refused,omitempty"`
	Waiting []string `json:"waiting,omitempty"`
}

// find hands a divergence to the warden. It does not block.
func (h *Host) find(id uint32, report Divergence) {
	w := &h.warden
	w.mu.Lock()
	full := len(w.findings) == mostFindings
	if !full {
		w.findings = append(w.findings, finding{id, report})
	}
	w.mu.Unlock()
	if full {
		h.log.Error("divergence not recorded, too many at once", "partition", id, "report", report.String())
	}
	poke(w.poked)
}

// tellPartners lets the other members of a partition know of a change, all but the one that it came from.
func (h *Host) tellPartners(m *member, except string) {
	partners := h.partners(m)
	w := &h.warden
	w.mu.Lock()
	for _, host := range partners {
		if c := (wardCall{m.id, host}); host != except && !w.waiting[c] {
			w.waiting[c] = false
		}
	}
	w.mu.Unlock()
	poke(w.poked)
}

// reported is told that another host's report held news.
func (w *warden) reported() {
	w.mu.Lock()
	w.news = true
	w.mu.Unlock()
	poke(w.poked)
}

// ward is the warden's loop.
func (h *Host) ward(ctx context.Context) {
	w := &h.warden
	tick := time.NewTicker(wardEvery)
	defer tick.Stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		retry := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			retry = true
		case <-w.poked:
		}
		w.mu.Lock()
		findings := w.findings
		w.findings = nil
		look := w.news && time.Since(w.looked) >= wardGap
		if look {
			w.news, w.looked = false, time.Now()
		}
		w.mu.Unlock()
		for _, f := range findings {
			h.record(ctx, f)
		}
		if look {
			h.compareFlags()
		}
		if retry {
			h.endRestores()
		}
		h.callPartners(ctx, &calls)
	}
}

// record makes a divergence known, here and to the other members, unless it is one that was cured in between.
func (h *Host) record(ctx context.Context, f finding) {
	m, err := h.isolated(f.id)
	if err != nil {
		return // gone
	}
	if h.outdated(ctx, m, &f.report) {
		h.repair.Forgive(f.id) // if it is not, it will be found again
		return
	}
	i := &m.isolation
	i.mu.Lock()
	defer i.mu.Unlock()
	next, news := i.load().with(f.report)
	if !news {
		return
	}
	if err := m.change(next, ""); err != nil {
		h.log.Error("divergence cannot be recorded", "partition", f.id, "report", f.report.String(), "error", err)
	}
}

// outdated reports whether a divergence may be older than the discarding of what it is about: here, at the peer, or at a peer
// that has not even heard of it.
func (h *Host) outdated(ctx context.Context, m *member, d *Divergence) bool {
	i := &m.isolation
	q := i.load()
	if q.on() || q.Keep == "" || d.Lost != nil {
		return false
	}
	if q.Keep != h.name && i.fresh() {
		return true
	}
	if d.Peer == "" || d.Peer == q.Keep {
		return false
	}
	reply, err := h.exchange(ctx, m, d.Peer)
	return err == nil && reply.Member && reply.Fresh && reply.State.Epoch == q.Epoch
}

func (i *isolation) fresh() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.ended.IsZero() && time.Since(i.ended) < wardSettles
}

// compareFlags calls the members that report to be in safe mode when the quarantine here is over, or the other way round, and those
// that have heard of another number of quarantines: a member that is new has to know of earlier ones before it notices the next.
func (h *Host) compareFlags() {
	mine := map[uint32]reportFlags{}
	for _, m := range h.allMembers() {
		q := m.isolation.load()
		mine[m.id] = q.flags()
		if q.on() {
			mine[m.id] |= flagSafeMode
		}
	}
	for _, c := range h.reports.disagree(mine, time.Now()) {
		h.warden.want(c)
	}
}

func (w *warden) want(c wardCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waiting[c] {
		w.waiting[c] = false
	}
}

// endRestores ends the choice of sources for members that have healed, and asks again who could be one for the others.
func (h *Host) endRestores() {
	for _, m := range h.allMembers() {
		if m.isolation.load().Restore == "" {
			continue
		}
		if !m.docs.Status().Complete {
			for _, host := range h.partners(m) {
				h.warden.want(wardCall{m.id, host})
			}
			continue
		}
		if err := m.endRestore(); err != nil {
			h.log.Error("the end of healing cannot be recorded", "partition", m.id, "error", err)
		}
	}
}

// endRestore looks again: the member may discard what it has just now.
func (m *member) endRestore() error {
	m.isolation.mu.Lock()
	defer m.isolation.mu.Unlock()
	q := m.isolation.load()
	if q.Restore == "" || !m.docs.Status().Complete {
		return nil
	}
	q.Restore = ""
	return m.keepQuarantine(q)
}

// callPartners makes the calls that wait, each on its own goroutine: a host that does not answer delays no other. One that fails
// waits for the next tick.
func (h *Host) callPartners(ctx context.Context, calls *sync.WaitGroup) {
	w := &h.warden
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, running := range w.waiting {
		if running {
			continue
		}
		m := h.member(c.id)
		if m == nil || !slices.Contains(h.partners(m), c.host) {
			delete(w.waiting, c)
			continue
		}
		w.waiting[c] = true
		calls.Go(func() {
			version := m.isolation.version.Load()
			_, err := h.exchange(ctx, m, c.host)
			done := err == nil && m.isolation.version.Load() == version
			w.mu.Lock()
			if w.waiting[c] = false; done {
				delete(w.waiting, c)
			}
			w.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				h.log.Debug("state of a divergence not exchanged", "partition", c.id, "host", c.host, "error", err)
			} else if !done {
				poke(w.poked)
			}
		})
	}
}

// exchange takes this member and a host's to the same state.
func (h *Host) exchange(ctx context.Context, m *member, host string) (wardReply, error) {
	if h.foreign(m, host) {
		return wardReply{}, nil
	}
	q := m.isolation.load()
	request := wardRequest{State: q, Clean: m.whole(&q), Fresh: m.isolation.fresh()}
	request.State.Restore = ""
	var reply wardReply
	if err := h.callHost(ctx, host, callWard, m.id, request, &reply); err != nil {
		return reply, err
	}
	if !reply.Member {
		return reply, nil
	}
	return reply, h.hear(m, host, wardRequest{State: reply.State, Clean: reply.Clean, Fresh: reply.Fresh})
}

// hear takes in what another member says. It is an error when that is a choice that cannot be followed yet.
func (h *Host) hear(m *member, host string, says wardRequest) error {
	theirs := says.State
	if err := theirs.check(); err != nil {
		return fmt.Errorf("host %s: %w", host, err)
	}
	i := &m.isolation
	i.mu.Lock()
	defer i.mu.Unlock()
	q := i.load()
	next, changed := q.merge(theirs)
	choice := changed && !next.on() && next.Keep != "" && next.Keep != h.name
	if choice && !says.Clean { // who is kept says so itself, or who has healed from it
		h.warden.want(wardCall{m.id, next.Keep})
		return fmt.Errorf("partition %d: host %s does not hold the version of host %s whole", m.id, host, next.Keep)
	}
	if changed {
		source := host
		if next.Epoch != theirs.Epoch || len(next.Reports) != len(theirs.Reports) {
			source = "" // it has to hear of more than it said
		}
		if err := m.change(next, source); err != nil {
			return err
		}
		q = next
	}
	if !q.on() && q.Keep != "" && theirs.Epoch == q.Epoch {
		i.setClean(host, says.Clean)
		if says.Fresh { // what is suspected of it may be of the time before
			h.repair.Forgive(m.id)
		}
	}
	return nil
}

// warded answers exchange.
func (h *Host) warded(from mesh.Identity, id uint32, req wardRequest) (wardReply, error) {
	m := h.member(id)
	if m == nil || h.foreign(m, from.Host) {
		return wardReply{}, nil
	}
	if m.running() == nil {
		return wardReply{}, fmt.Errorf("partition %d: the member does not run yet", id)
	}
	if err := h.hear(m, from.Host, req); err != nil {
		return wardReply{}, err
	}
	q := m.isolation.load()
	reply := wardReply{Member: true, State: q, Clean: m.whole(&q), Fresh: m.isolation.fresh()}
	reply.State.Restore = ""
	return reply, nil
}

// kept answers a host whose operator chose this one's version.
func (h *Host) kept(ctx context.Context, id uint32, req keepRequest) (keepReply, error) {
	m, err := h.isolated(id)
	if err != nil {
		return keepReply{Refused: err.Error()}, nil
	}
	if q := m.isolation.load(); q.Epoch != req.Epoch {
		return keepReply{Refused: fmt.Sprintf("host %s has not heard of the divergence yet, or it was ended", h.name)}, nil
	}
	if err := h.end(m, h.name); err != nil {
		return keepReply{Refused: err.Error()}, nil
	}
	return keepReply{Waiting: h.awaitPartners(ctx, m)}, nil
}

// awaitPartners waits a moment for the other members to hear of a change, and returns those that have not.
func (h *Host) awaitPartners(ctx context.Context, m *member) []string {
	ctx, cancel := context.WithTimeout(ctx, wardPatience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var missing []string
		h.warden.mu.Lock()
		for c := range h.warden.waiting {
			if c.id == m.id {
				missing = append(missing, c.host)
			}
		}
		h.warden.mu.Unlock()
		slices.Sort(missing)
		select {
		case <-ctx.Done():
			return missing
		case <-tick.C:
			if len(missing) == 0 {
				return nil
			}
		}
	}
}
