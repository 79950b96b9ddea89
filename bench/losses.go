package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
)

// losses are the documents of which a site's hosts told their application that writes were lost in flight. The zero value is
// ready.
type losses struct {
	mu     sync.Mutex
	byHost map[string]map[string]bool // keys of documents
}

func (l *losses) note(host string, key adamant.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byHost == nil {
		l.byHost = map[string]map[string]bool{}
	}
	if l.byHost[host] == nil {
		l.byHost[host] = map[string]bool{}
	}
	l.byHost[host][key.String()] = true
}

func (l *losses) list() map[string]map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]map[string]bool{}
	for host, keys := range l.byHost {
		out[host] = maps.Clone(keys)
	}
	return out
}

// losses asks every crew that is left.
func (f *fleet) losses(ctx context.Context) (map[string]map[string]bool, error) {
	all := map[string]map[string]bool{}
	for _, c := range f.crews {
		if p, ok := c.(*process); ok && p.killed {
			continue
		}
		a, err := c.do(ctx, order{Do: doLosses})
		if err != nil {
			return nil, err
		}
		maps.Copy(all, a.Losses)
	}
	return all, nil
}

// noticePatience is how long an application may wait for the news: events are delivered one by one.
const noticePatience = 3 * time.Second

// unnotified counts the documents that a host answered of that the outcome of a write is unknown: how many there are, and of how
// many of them that host's application was not told by an event. A host whose process was killed can tell nobody.
func (f *fleet) unnotified(ctx context.Context, all *clients, patience time.Duration) (missing, affected int, err error) {
	begun := time.Now()
	for {
		told, err := f.losses(ctx)
		if err != nil {
			return 0, 0, err
		}
		missing, affected = 0, 0
		for host, keys := range all.ambiguous() {
			if p, ok := f.crews[f.byHost[host]].(*process); ok && p.killed {
				continue
			}
			for _, key := range keys {
				affected++
				if !told[host][key.String()] {
					missing++
				}
			}
		}
		if missing == 0 || time.Since(begun) > patience {
			return missing, affected, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, 0, fmt.Errorf("waiting for events: %w", err)
		}
	}
}
