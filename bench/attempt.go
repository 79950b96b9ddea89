package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/adamantdb/adamant"
)

// A host that stands still, or that nobody hears, does not say so. A client whose write is not answered asks the others who leads, and
// turns to that one.
const (
	unansweredAfter = 50 * time.Millisecond
	askElsewhere    = 25 * time.Millisecond // from then on so often
	lateAnswer      = 5 * time.Second       // how long after the last write the answers to those that were given up are waited for
)

// attempt sends a request to the host that leads as far as is known. It gives up when another host names another leader
// before that one answers; the outcome is unknown then, and the answer is only noted.
func (c *client) attempt(ctx context.Context, r request) reply {
	host := c.host
	answered := make(chan reply, 1)
	c.all.unanswered.Go(func() {
		a := c.all.lines[host].ask(c.all.base, r)
		if a.Code == adamant.CodeAmbiguous {
			c.all.unsure(host, c.key)
		}
		answered <- a
	})
	again := time.NewTimer(unansweredAfter)
	defer again.Stop()
	for {
		select {
		case a := <-answered:
			return a
		case <-ctx.Done():
			return reply{Code: codeBroken, Text: ctx.Err().Error()}
		case <-again.C:
			if leader := c.elsewhere(ctx, host); leader != "" {
				return reply{Code: codeBroken, Leader: leader, Text: "no answer, and " + leader + " leads"}
			}
			again.Reset(askElsewhere)
		}
	}
}

// elsewhere asks a voter for another leader than one that does not answer.
func (c *client) elsewhere(ctx context.Context, silent string) string {
	at := slices.Index(c.voters, silent)
	c.asked++
	voter := c.voters[(at+1+c.asked%(max(len(c.voters)-1, 1)))%len(c.voters)]
	if voter == silent || voter == c.all.lost() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 4*askElsewhere)
	defer cancel()
	a := c.all.lines[voter].ask(ctx, request{Do: askLocate, Key: c.key})
	if _, known := c.all.lines[a.Leader]; !known || a.Leader == silent || a.Leader == c.all.lost() {
		return ""
	}
	return a.Leader
}

// unsure notes that a host answered that the outcome of a write is unknown.
func (all *clients) unsure(host string, key adamant.Key) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.unknown == nil {
		all.unknown = map[string]map[adamant.Key]bool{}
	}
	if all.unknown[host] == nil {
		all.unknown[host] = map[adamant.Key]bool{}
	}
	all.unknown[host][key] = true
}

// ambiguous lists the documents of such writes by host.
func (all *clients) ambiguous() map[string][]adamant.Key {
	all.mu.Lock()
	defer all.mu.Unlock()
	out := map[string][]adamant.Key{}
	for host, keys := range all.unknown {
		out[host] = slices.Collect(maps.Keys(keys))
	}
	return out
}

// settle waits until everything that was given up is answered, or nobody will answer any more.
func (all *clients) settle() {
	done := make(chan struct{})
	go func() {
		all.unanswered.Wait()
		close(done)
	}()
	t := time.NewTimer(lateAnswer)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		all.giveUp()
		<-done
	}
}
