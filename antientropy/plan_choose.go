package antientropy

import (
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

// choice says what a peer is needed for.
type choice struct {
	missing interval.Set // it must cover some of this, as far as is known; empty: no matter
	avoid   string       // rather not this one
	only    string       // this one
	session bool         // it must have room for another session
	oldest  bool         // the one of which the news is oldest
}

// obstacle says why no peer was chosen.
type obstacle uint8

const (
	useless obstacle = iota // none has what is missing
	away                    // those that may have it are left alone for the time being
	busy                    // those that may have it have enough to do
)

// choose picks a peer: complete ones that are alive before others that are alive, before those said to be dead, which
// may not be true. Among equals the chance falls with latency, but for a share of choices that ignore it. When good peers
// are only busy it waits for them.
func (p *plan) choose(pt *part, c choice) (*host, obstacle) {
	why := useless
	for tier := range 3 {
		var candidates, room []*host
		for i := range pt.peers {
			peer := &pt.peers[i]
			if c.rank(peer) != tier || c.only != "" && peer.Host != c.only {
				continue
			}
			if !p.covers(pt, peer.Host, c.missing) {
				continue
			}
			why = max(why, away)
			h := p.host(peer.Host)
			if !p.passed(h.until) || !p.passed(pt.acquainted(peer.Host).until) {
				continue
			}
			candidates = append(candidates, h)
			if h.inFlight < p.o.perPeer && (!c.session || h.sessions < p.o.perPeer) {
				room = append(room, h)
			}
		}
		if len(candidates) == 0 {
			continue
		}
		if len(candidates) > 1 && c.avoid != "" {
			room = without(room, c.avoid)
		}
		if c.oldest {
			return pt.oldest(room), busy
		}
		return p.pick(room), busy
	}
	return nil, why
}

func (c *choice) rank(peer *Peer) int {
	switch {
	case !peer.Alive:
		return 2
	case !peer.Complete && !c.oldest:
		return 1
	}
	return 0
}

// newsLasts is for how long a peer is believed to lack what it once said it lacks. Peers heal too, and the one that was
// known to have it all may never come back.
const newsLasts = mostStuck

// covers reports whether a peer may have something of what is missing.
func (p *plan) covers(pt *part, host string, missing interval.Set) bool {
	k := pt.acquaintance(host)
	return missing.Empty() || k == nil || p.now.Sub(k.heard) > newsLasts || !k.coverage.Intersect(missing).Empty()
}

func without(hosts []*host, name string) []*host {
	var rest []*host
	for _, h := range hosts {
		if h.name != name {
			rest = append(rest, h)
		}
	}
	return rest
}

func (pt *part) oldest(hosts []*host) *host {
	var best *host
	var heard time.Time
	for _, h := range hosts {
		if at := pt.acquainted(h.name).heard; best == nil || at.Before(heard) {
			best, heard = h, at
		}
	}
	return best
}

// pick draws one of the hosts, weighted by the inverse of their latency. One that was never asked counts as the fastest.
func (p *plan) pick(hosts []*host) *host {
	if len(hosts) < 2 {
		if len(hosts) == 0 {
			return nil
		}
		return hosts[0]
	}
	n := len(hosts)
	if p.o.random() < uniformShare {
		return hosts[min(n-1, int(p.o.random()*float64(n)))]
	}
	weights, total, most := make([]float64, n), 0.0, 0.0
	for i, h := range hosts {
		if h.latency > 0 {
			weights[i] = 1 / max(h.latency, 100*time.Microsecond).Seconds()
			most = max(most, weights[i])
		}
	}
	for i := range weights {
		if weights[i] == 0 {
			weights[i] = max(most, 1)
		}
		total += weights[i]
	}
	at := p.o.random() * total
	for i, w := range weights {
		if at -= w; at < 0 {
			return hosts[i]
		}
	}
	return hosts[n-1]
}
