package adamant_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/loopback"
)

// chess is the document of the examples.
var chess = adamant.Key{Space: "chess", Key: "game-1"}

// openCluster starts h1, h2 and h3 with one partition on the given voters, and creates the document.
func openCluster(events func(host string) adamant.Events, voters ...string) (cluster *config.Cluster, hosts map[string]*adamant.Host, ctx context.Context, done func()) {
	dir, err := os.MkdirTemp("", "adamant-example")
	if err != nil {
		log.Fatal(err)
	}
	cluster = &config.Cluster{Name: "example", Version: 1, Hosts: map[string]config.Host{}, Partitions: []config.Partition{{Voters: voters}}}
	addrs, err := loopback.Addrs(3) // free ports of this machine
	if err != nil {
		log.Fatal(err)
	}
	for i, name := range []string{"h1", "h2", "h3"} {
		cluster.Hosts[name] = config.Host{Addr: addrs[i], Zone: name}
	}
	hosts = map[string]*adamant.Host{}
	for name := range cluster.Hosts {
		h, err := adamant.Open(adamant.Options{Dir: filepath.Join(dir, name), Host: name, Cluster: cluster, Events: events(name),
			Timing: adamant.Timing{Heartbeat: time.Second}}) // leaders stay where the examples put them, however busy the machine is
		if err != nil {
			log.Fatal(err)
		}
		hosts[name] = h
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	for _, h := range hosts {
		if err := h.WaitReady(ctx); err != nil {
			log.Fatal(err)
		}
	}
	atLeader(ctx, hosts, func(h *adamant.Host) error {
		return h.Create(ctx, chess, delta(1, `{"turn":"white"}`, `{"turn":null}`))
	})
	return cluster, hosts, ctx, func() {
		cancel()
		for _, h := range hosts {
			_ = h.Kill() // the last ones could hand over to nobody
		}
		os.RemoveAll(dir)
	}
}

func noEvents(string) adamant.Events { return adamant.Events{} }

// atLeader runs an operation at the host that leads the document's partition, and again at another one as long as the error
// says that nothing happened. It returns the host that did it.
func atLeader(ctx context.Context, hosts map[string]*adamant.Host, op func(*adamant.Host) error) string {
	for {
		for _, h := range hosts {
			leader := h.Locate(chess).Leader
			if leader == "" || hosts[leader] == nil {
				continue
			}
			err := op(hosts[leader])
			switch {
			case err == nil:
				return leader
			case errors.As(err, new(*adamant.NotLeaderError)), errors.As(err, new(*adamant.UnavailableError)):
			default:
				log.Fatal(err)
			}
		}
		select {
		case <-ctx.Done():
			log.Fatal(ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// other names a host that is not this one.
func other(name string) string {
	if name == "h1" {
		return "h2"
	}
	return "h1"
}

// memory is what an application on one host keeps of the documents of one partition.
type memory struct {
	mu        sync.Mutex
	serving   bool
	documents map[adamant.Key]adamant.Document
}

// get answers from memory, or loads the document. It is kept only while this host is known to serve.
func (m *memory) get(ctx context.Context, host *adamant.Host, key adamant.Key) (adamant.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if doc, ok := m.documents[key]; ok {
		return doc, nil
	}
	doc, err := host.Get(ctx, key)
	if err == nil && m.serving {
		m.documents[key] = doc
	}
	return doc, err
}

func (m *memory) holds(key adamant.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.documents[key]
	return ok
}

// events are called one at a time, in order.
func (m *memory) events() adamant.Events {
	return adamant.Events{
		LeaderChanged: func(c adamant.LeaderChange) { // of several partitions, compare with Locate(key).Partition
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.serving = c.Serving; !m.serving {
				clear(m.documents)
			}
		},
		CatastrophicFailure: func(c adamant.Catastrophe) {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.documents, c.Key)
		},
	}
}

// An application keeps documents in memory only while its host serves their partition. It drops them when that ends, and
// drops a document whose writes have an unknown outcome; whoever needs one again loads it from the new leader.
func ExampleEvents() {
	memories := map[string]*memory{}
	_, hosts, ctx, done := openCluster(func(host string) adamant.Events {
		memories[host] = &memory{documents: map[adamant.Key]adamant.Document{}}
		return memories[host].events()
	}, "h1", "h2", "h3")
	defer done()
	var doc adamant.Document
	load := func(h *adamant.Host) (err error) {
		doc, err = memories[h.Status().Host].get(ctx, h, chess)
		return err
	}
	leader := atLeader(ctx, hosts, load)
	for !memories[leader].holds(chess) { // until it was told that it serves
		leader = atLeader(ctx, hosts, load)
	}
	if err := hosts[leader].Transfer(ctx, 0, other(leader)); err != nil {
		log.Fatal(err)
	}
	for memories[leader].holds(chess) {
		time.Sleep(time.Millisecond)
	}
	next := atLeader(ctx, hosts, load)
	fmt.Println("loaded from another leader:", next != leader, string(doc.JSON))
	// Output: loaded from another leader: true {"turn":"white"}
}

// A stale read is answered by every member, also when nobody leads, and says what it may have missed.
func ExampleStaleness() {
	_, hosts, ctx, done := openCluster(noEvents, "h1", "h2", "h3")
	defer done()
	stale := adamant.WithConsistency(adamant.ReadStale)
	for { // the document is on a majority; a moment later on all
		if _, err := hosts["h3"].Get(ctx, chess, stale); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, name := range []string{"h1", "h2"} {
		if err := hosts[name].Kill(); err != nil { // the majority is gone
			log.Fatal(err)
		}
	}
	doc, err := hosts["h3"].Get(ctx, chess, stale)
	if err != nil {
		log.Fatal(err)
	}
	s := doc.Staleness
	fmt.Println(string(doc.JSON), s.Index > 0, s.Complete, s.Age < time.Minute)
	// Output: {"turn":"white"} true true true
}

// A host that was opened with a configuration instead of a file gets the next one with SetCluster. With Options.ClusterFile it
// would read the file by itself. Either way the leader moves the partition there, one member at a time.
func ExampleHost_SetCluster() {
	cluster, hosts, ctx, done := openCluster(noEvents, "h1")
	defer done()
	next := cluster.Clone()
	next.Version++
	next.Partitions[0].Voters = []string{"h1", "h2", "h3"}
	for _, h := range hosts {
		if err := h.SetCluster(next); err != nil {
			log.Fatal(err)
		}
	}
	grown := func() bool {
		for _, h := range hosts {
			s := h.Status()
			if len(s.Partitions) == 0 || s.Partitions[0].Role != adamant.RoleLeader && s.Partitions[0].Role != adamant.RoleFollower {
				return false // not a member yet, or one without a vote
			}
		}
		return true
	}
	for !grown() {
		select {
		case <-ctx.Done():
			log.Fatal(ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	fmt.Println("version", hosts["h3"].Status().ConfigVersion, "on", hosts["h3"].Locate(chess).Members)
	// Output: version 2 on [h1 h2 h3]
}

// Leadership moves without an election: nothing that was acknowledged is lost, and writes go on at the new leader.
func ExampleHost_Transfer() {
	_, hosts, ctx, done := openCluster(noEvents, "h1", "h2", "h3")
	defer done()
	from := atLeader(ctx, hosts, func(h *adamant.Host) error {
		return h.Transfer(ctx, h.Locate(chess).Partition, other(h.Status().Host))
	})
	to := atLeader(ctx, hosts, func(h *adamant.Host) error {
		_, err := h.Append(ctx, chess, []adamant.Delta{delta(2, `{"turn":"black"}`, `{"turn":"white"}`)})
		return err
	})
	fmt.Println(to == other(from))
	// Output: true
}

// Before a host is stopped for maintenance it gives every leadership away. Close does so too, Drain leaves the host running.
func ExampleHost_Drain() {
	_, hosts, ctx, done := openCluster(noEvents, "h1", "h2", "h3")
	defer done()
	leader := atLeader(ctx, hosts, func(h *adamant.Host) error { return h.Drain(ctx) })
	status := hosts[leader].Status()
	next := atLeader(ctx, hosts, func(h *adamant.Host) error { _, err := h.Get(ctx, chess); return err })
	fmt.Println(status.Draining, status.Totals().Serving, next != leader)
	// Output: true 0 true
}
