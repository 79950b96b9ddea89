package adamant

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/partition"
)

// The routing table of a host: where each partition is led and how its members are, as far as this host knows (design §9).
// It is made of what its own members know and of the others' reports, when somebody asks for it; nobody keeps it up to date
// meanwhile. Watchers share one table, which is looked over when something may have changed: after news at once, and now
// and then for what changes by time alone, such as a host that has fallen silent. A look that finds differences numbers
// them, and a watcher gets the routes that changed after the number it knows.

// Route is where one partition is led and who its members are, as far as one host knows.
type Route struct {
	Partition uint32 `json:"partition"`
	// First and Last are the range of the hashes of its documents, each 16 hex digits: xxhash64 of "space/key".
	First   string        `json:"first"`
	Last    string        `json:"last"`
	Leader  string        `json:"leader,omitempty"` // host name; "" when unknown
	Addr    string        `json:"addr,omitempty"`   // of the leader's links, from the cluster file
	HTTP    string        `json:"http,omitempty"`   // of the leader's HTTP endpoint, if the cluster file says
	Epoch   uint64        `json:"epoch"`            // the term the leader was seen in
	Serving bool          `json:"serving"`          // the leader says that it serves
	Members []RouteMember `json:"members"`          // of the cluster file: voters, then replicas
}

// RouteMember is a member of a partition and its health. What a host that is not alive reported last may be long out of date.
type RouteMember struct {
	Host     string `json:"host"`
	Voter    bool   `json:"voter"`              // false: a replica
	Alive    bool   `json:"alive"`              // it reported lately
	Complete bool   `json:"complete"`           // no holes, as it reported
	SafeMode bool   `json:"safeMode,omitempty"` // it serves stale reads only
	Draining bool   `json:"draining,omitempty"` // it gives its leaderships away
}

// RouteHost says where a host is reached, by the cluster file.
type RouteHost struct {
	Addr string `json:"addr,omitempty"` // of its links
	HTTP string `json:"http,omitempty"` // of its HTTP endpoint
	Zone string `json:"zone,omitempty"`
}

// RoutingVersion names a state of the routing table of one host's process; another process never takes it for one of its
// own. The zero value is that of somebody who knows nothing, and its text is "".
type RoutingVersion struct{ process, number uint64 }

// String returns the version as UnmarshalText takes it.
func (v RoutingVersion) String() string {
	if v == (RoutingVersion{}) {
		return ""
	}
	return fmt.Sprintf("%016x-%d", v.process, v.number)
}

// MarshalText is String.
func (v RoutingVersion) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *RoutingVersion) UnmarshalText(text []byte) error {
	*v = RoutingVersion{}
	if len(text) == 0 {
		return nil
	}
	process, number, _ := strings.Cut(string(text), "-")
	p, err := strconv.ParseUint(process, 16, 64)
	n, err2 := strconv.ParseUint(number, 10, 64)
	read := RoutingVersion{p, n}
	if err != nil || err2 != nil || read.String() != string(text) {
		return fmt.Errorf("not the version of a routing table")
	}
	*v = read
	return nil
}

// RoutingUpdate is news of the routing table.
type RoutingUpdate struct {
	Host    string         `json:"host"`    // whose view it is
	Version RoutingVersion `json:"version"` // of the table with this update
	// Whole is true when Routes are all there are and Hosts is set: everything that was known before is void. Otherwise Routes
	// are those that changed.
	Whole  bool                 `json:"whole"`
	Routes []Route              `json:"partitions"`      // in the order of their ranges
	Hosts  map[string]RouteHost `json:"hosts,omitempty"` // all of the cluster file
}

const (
	// routingEvery is how soon a watcher learns what changes by time alone, or the health of members.
	routingEvery = 500 * time.Millisecond
	// routingGap is the least time between two looks that watchers cause; routingShare bounds the share of the time that is
	// spent on them, whatever the number of partitions and watchers.
	routingGap   = 20 * time.Millisecond
	routingShare = 20
)

// Routing lists the routes of all partitions as this host knows them now, in the order of their ranges. It asks nobody.
func (h *Host) Routing() []Route { return h.routes(h.cluster(), time.Now()) }

// WatchRouting waits until the routing table has changed since the version that the caller knows, and returns what has: the
// routes that changed, or the whole table when the caller's version is not of this process, the zero one among them, or
// when the configuration has changed since. Changes that follow each other closely come together, and one that was undone
// meanwhile not at all. It ends with the context's error, and an update without news, or with a *ClosedError when the host has
// closed; a context that is over already asks without waiting.
func (h *Host) WatchRouting(ctx context.Context, after RoutingVersion) (RoutingUpdate, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if h.context.Err() != nil {
			return RoutingUpdate{}, &ClosedError{Host: h.name}
		}
		changed := h.RoutingChanged()
		update, again, pending := h.table.look(h, after, time.Now())
		if update.Version != after {
			return update, nil
		}
		if err := ctx.Err(); err != nil {
			return update, err
		}
		if pending {
			changed = nil // it is known that there is something; the time to look has not come
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
		case <-h.context.Done():
		case <-changed:
		case <-timer.C:
		}
	}
}

// routingTable is what watchers share. Routes are never modified once they are in it.
type routingTable struct {
	mu      sync.Mutex
	process uint64
	number  uint64          // of the newest change; 0: never looked
	whole   uint64          // who knows an older one gets everything
	cluster *config.Cluster // the routes are of
	routes  []Route
	changed []uint64 // by route: the number of its last change
	news    uint64   // of the host, seen by the last look
	looked  time.Time
	took    time.Duration
}

// look returns what has changed after a version, and when to look again; pending when there may be more, for which it is too
// early yet.
func (t *routingTable) look(h *Host, after RoutingVersion, now time.Time) (u RoutingUpdate, again time.Duration, pending bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := h.routeNews.Load()
	pending = news != t.news
	due := routingEvery
	if pending {
		due = max(routingGap, routingShare*t.took)
	}
	again = due - now.Sub(t.looked)
	if t.number == 0 || again <= 0 {
		t.refresh(h, now)
		t.news, t.looked, t.took = news, now, time.Since(now)
		again, pending = routingEvery, false
	}
	return t.since(h.name, after), again, pending
}

// refresh makes the routes anew and numbers what is not as it was.
func (t *routingTable) refresh(h *Host, now time.Time) {
	c := h.cluster()
	routes := h.routes(c, now)
	next := t.number + 1
	if c != t.cluster {
		t.number, t.whole, t.cluster, t.routes = next, next, c, routes
		t.changed = make([]uint64, len(routes))
		return
	}
	for i := range routes {
		if routes[i].equal(&t.routes[i]) {
			continue
		}
		t.number, t.routes[i], t.changed[i] = next, routes[i], next
	}
}

// since makes the update for who knows a version.
func (t *routingTable) since(host string, after RoutingVersion) RoutingUpdate {
	u := RoutingUpdate{Host: host, Version: RoutingVersion{t.process, t.number}, Routes: []Route{}}
	if after == u.Version {
		return u
	}
	if after.process != t.process || after.number < t.whole || after.number > t.number {
		u.Whole, u.Routes, u.Hosts = true, slices.Clone(t.routes), make(map[string]RouteHost, len(t.cluster.Hosts))
		for name, h := range t.cluster.Hosts {
			u.Hosts[name] = RouteHost{Addr: h.Addr, HTTP: h.HTTP, Zone: h.Zone}
		}
		return u
	}
	for i := range t.routes {
		if t.changed[i] > after.number {
			u.Routes = append(u.Routes, t.routes[i])
		}
	}
	return u
}

func (r *Route) equal(o *Route) bool {
	return r.Partition == o.Partition && r.Leader == o.Leader && r.Addr == o.Addr && r.HTTP == o.HTTP && r.Epoch == o.Epoch &&
		r.Serving == o.Serving && r.First == o.First && r.Last == o.Last && slices.Equal(r.Members, o.Members)
}

// routes makes the table of a configuration.
func (h *Host) routes(c *config.Cluster, now time.Time) []Route {
	draining := h.isDraining()
	table := make([]Route, 0, len(c.Partitions))
	for i := range c.Partitions {
		p := &c.Partitions[i]
		first, last := c.HashRange(i)
		r := Route{Partition: p.ID, First: hexHash(first), Last: hexHash(last), Members: make([]RouteMember, 0, len(p.Voters)+len(p.Replicas))}
		for _, host := range p.Voters {
			r.Members = append(r.Members, RouteMember{Host: host, Voter: true})
		}
		for _, host := range p.Replicas {
			r.Members = append(r.Members, RouteMember{Host: host})
		}
		leader, epoch, serving := h.leaderOf(p.ID, now)
		r.Epoch, r.Serving = epoch, serving
		if leader != "" {
			r.Leader = partition.HostOf(leader)
			r.Addr, r.HTTP = c.Hosts[r.Leader].Addr, c.Hosts[r.Leader].HTTP
		}
		h.reports.health(p.ID, r.Members, now)
		if m := h.member(p.ID); m != nil {
			m.ownHealth(r.Members, draining)
		}
		table = append(table, r)
	}
	return table
}

// ownHealth fills in how this host's member is.
func (m *member) ownHealth(members []RouteMember, draining bool) {
	i := slices.IndexFunc(members, func(r RouteMember) bool { return r.Host == m.host.name })
	if i < 0 {
		return
	}
	own := &members[i]
	if p := m.running(); p != nil && m.host.failed() == nil {
		own.Alive, own.SafeMode, own.Draining = true, p.Brief().SafeMode, draining
	}
	own.Complete = m.docs.Complete()
}

// health fills in how the members on other hosts are, as these reported.
func (t *reportTable) health(id uint32, members []RouteMember, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range members {
		r := &members[i]
		h := t.byHost[r.Host]
		m, ok := h.members[id]
		if !ok {
			continue
		}
		r.Alive = now.Sub(h.received) < freshFor
		r.Complete, r.SafeMode, r.Draining = m.Flags&flagComplete != 0, m.Flags&flagSafeMode != 0, m.Flags&flagDraining != 0
	}
}

func hexHash(v uint64) string {
	return hex.EncodeToString([]byte{byte(v >> 56), byte(v >> 48), byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// leaderOf names a partition's leader, and says whether it says to serve: what this host's own member knows, or else the
// newest that other hosts reported.
func (h *Host) leaderOf(id uint32, now time.Time) (leader raft.ServerID, epoch uint64, serving bool) {
	reported, reportedEpoch, serves := h.reports.leader(id, now)
	if m := h.member(id); m != nil {
		if p := m.running(); p != nil {
			own := p.Brief()
			if own.Leader == h.serverID && (own.Term >= reportedEpoch || !serves) {
				return own.Leader, own.Term, own.Serving == partition.Serves
			}
			if own.Leader != "" && (own.Term >= reportedEpoch || !serves) {
				return own.Leader, own.Term, serves && own.Leader == reported && own.Term == reportedEpoch
			}
		}
	}
	return reported, reportedEpoch, serves
}

// routeChanged wakes everybody who waits for the routing table to change.
func (h *Host) routeChanged() {
	h.routeNews.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.route)
	h.route = make(chan struct{})
}

// RoutingChanged returns a channel that is closed when there is news that may change the routing table. WatchRouting tells what
// has.
func (h *Host) RoutingChanged() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.route
}
