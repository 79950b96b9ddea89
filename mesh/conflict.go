package mesh

import (
	"errors"
	"sync"
	"time"
)

// conflict reports two processes under one name, once per process and minute.
func (m *Mesh) conflict(dup *DuplicateHostError, instance uint64) {
	if m.verifier.reportedLately(dup.Host, instance) {
		return
	}
	m.stats.conflicts.Add(1)
	m.log.error("two hosts have one name", "err", dup)
	m.notices.conflict(dup)
}

// suspicion is one name seen at two addresses.
type suspicion struct{ host, one, other string }

// verifier turns suspicions of duplicate names into certainty or nothing: it
// asks both addresses who answers. Only two answers by different processes
// under the one name make a conflict.
type verifier struct {
	m    *Mesh
	wake chan struct{}

	mu       sync.Mutex // guards what follows
	waiting  map[suspicion]bool
	reported map[reportKey]time.Time
	checked  time.Time // when this host last asked its own address
}

type reportKey struct {
	host     string
	instance uint64
}

const (
	maxSuspicions     = 64
	reportInterval    = time.Minute
	selfCheckInterval = 10 * time.Second
)

func newVerifier(m *Mesh) *verifier {
	return &verifier{m: m, wake: make(chan struct{}, 1), waiting: make(map[suspicion]bool), reported: make(map[reportKey]time.Time)}
}

// reportedLately notes a report, and says whether it was made a short while ago.
func (v *verifier) reportedLately(host string, instance uint64) bool {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, at := range v.reported {
		if now.Sub(at) >= reportInterval {
			delete(v.reported, k)
		}
	}
	k := reportKey{host, instance}
	if _, ok := v.reported[k]; ok || len(v.reported) >= maxSuspicions {
		return true
	}
	v.reported[k] = now
	return false
}

// suspect has a suspicion looked into; it never blocks.
func (v *verifier) suspect(s suspicion) {
	v.mu.Lock()
	if len(v.waiting) < maxSuspicions {
		v.waiting[s] = true
	}
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// checkSelf has the address that the cluster file gives for this host asked who
// answers there: that should be this process, or nobody yet.
func (v *verifier) checkSelf() {
	addr, ok := v.m.resolve(v.m.opts.Host)
	if !ok {
		return
	}
	v.mu.Lock()
	due := time.Since(v.checked) >= selfCheckInterval
	if due {
		v.checked = time.Now()
	}
	v.mu.Unlock()
	if due {
		v.suspect(suspicion{host: v.m.opts.Host, one: v.m.addr, other: addr})
	}
}

func (v *verifier) run() {
	for {
		select {
		case <-v.m.ctx.Done():
			return
		case <-v.wake:
		}
		v.mu.Lock()
		waiting := v.waiting
		v.waiting = make(map[suspicion]bool)
		v.mu.Unlock()
		for s := range waiting {
			v.verify(s)
		}
		// Gossip repeats itself; asking once per interval is enough.
		select {
		case <-v.m.ctx.Done():
			return
		case <-time.After(v.m.timing.Join / 4):
		}
	}
}

// verify asks both sides of a suspicion.
func (v *verifier) verify(s suspicion) {
	one, ok1 := welcome{instance: v.m.instance, id: v.m.opts.Identity}, true
	if s.host != v.m.opts.Host || s.one != v.m.addr {
		one, ok1 = v.ask(s.host, s.one)
	}
	other, ok2 := v.ask(s.host, s.other)
	if !ok1 || !ok2 || one.instance == other.instance || one.id.Host != other.id.Host || one.id.Host != s.host {
		return
	}
	v.m.conflict(&DuplicateHostError{
		Host: s.host, One: one.id.Incarnation + " at " + s.one, Other: other.id.Incarnation + " at " + s.other,
		AboutMyself: s.host == v.m.opts.Host,
	}, other.instance)
}

// ask says who answers at an address.
func (v *verifier) ask(host, addr string) (welcome, bool) {
	m := v.m
	s, w, err := m.handshake(host, addr, linkProbe, newSendQueue(m.limits.lanes()))
	if s != nil {
		_ = s.raw.Close()
	}
	// Being refused as a duplicate is an answer, and so is meeting oneself.
	var dup *DuplicateHostError
	return w, err == nil || errors.Is(err, errSelf) || errors.As(err, &dup)
}
