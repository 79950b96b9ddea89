package adamant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/asyncfs"
	"github.com/adamantdb/adamant/internal/journal"
	"github.com/adamantdb/adamant/internal/liveness"
	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// Host is one process's part of a cluster: its members of the partitions the cluster file gives it, and the way to all
// documents. It is safe for concurrent use.
//
// Goroutines: steward, reporter and truncation (steward.go), the warden, the repair loop, the scrubber, the file watcher, the pool's workers, and
// those of its partitions and its mesh. All end in Close.
type Host struct {
	opts        Options
	name        string
	incarnation string
	serverID    raft.ServerID
	log         *slog.Logger
	queue       *eventQueue
	events      Events // each call queues
	started     time.Time

	net     mesh.Network
	mux     *mesh.RaftMux
	logs    store.LogEngine
	docs    *store.DocEngine
	watcher *config.Watcher // nil without a cluster file
	repair  *antientropy.Loop
	warden  warden
	scrub   *antientropy.Scrubber
	live    *liveness.Table
	// campaigns holds a token for each of this host's members that stands for election now.
	campaigns chan struct{}
	keeper    *partition.Keeper
	inFlight  *partition.Budget // for the commands that this host's members proposed
	roused    roused
	sent      sentReports
	// reconciled is the version of the configuration whose members are all open.
	reconciled atomic.Uint64
	// unrests counts what may give members something to do: see member.rest.
	unrests atomic.Uint64
	wanted  atomic.Pointer[wanted]
	pool    *pool // calls between hosts
	// repairPool serves repair apart from the rest: reading what others lack is slow and may wait.
	repairPool   *pool
	forwardGate  *gate // operations that other hosts forward
	repairServer antientropy.Server
	repairPace   *repairPacer

	table     routingTable
	routeNews atomic.Uint64 // how often the routing table may have changed

	config       atomic.Pointer[config.Cluster]
	configuring  sync.Mutex  // held while SetCluster replaces it
	keeping      sync.Mutex  // held while what others reported is written down
	disk         *asyncfs.FS // nil with Options.FS
	admission    admission
	reports      reportTable
	stewardPoke  chan struct{}
	reportPoke   chan struct{}
	transferring sync.Mutex // held while a leadership moves to its preferred host: one at a time
	history      history
	counts       counts
	meter        meter

	context context.Context // ends when the host closes
	stop    context.CancelFunc
	loops   sync.WaitGroup
	failure atomic.Pointer[error] // a durable step of an engine failed
	aside   sync.WaitGroup        // work that engines and links asked for and can not wait for

	mu       sync.Mutex
	sorted   []*member // of members; nil when they have changed
	members  map[uint32]*member
	route    chan struct{} // closed and replaced when the routing table may have changed
	draining bool
	strained time.Time     // until when leadership is not given back to this host: its disk was too slow for it
	closing  bool          // Close or Kill has begun
	closed   bool          // nothing is done for the application any more
	gone     chan struct{} // closed when the host has stopped

	here map[string]PeerChange // what was told last of the other hosts; peerChanged's alone
}

// Open starts a host. With nothing but a directory it runs a cluster of one host without opening a port.
//
// Errors: *OptionsError, *ConfigError, *WrongOwnerError (the directory belongs to another cluster or host), *OpenError
// (locked, not writable, full or damaged), and those of the network (the port is in use, a plain link that would leave
// the machine).
func Open(options Options) (*Host, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	queue := newEventQueue()
	h := &Host{opts: o, log: o.Logger, queue: queue, events: queue.deliver(o.Events), started: time.Now(), members: map[uint32]*member{}, here: map[string]PeerChange{},
		stewardPoke: make(chan struct{}, 1), reportPoke: make(chan struct{}, 1), route: make(chan struct{}), gone: make(chan struct{}), live: liveness.NewTable(rand.Uint64()), campaigns: make(chan struct{}, campaignsAtOnce),
		keeper: partition.NewKeeper(o.Clock), inFlight: partition.NewBudget(o.Limits.HostInFlightBytes),
		sent:      sentReports{process: rand.Uint64(), taken: map[string]uint64{}},
		admission: admission{left: map[string]departed{}},
		reports:   reportTable{heartbeat: o.Timing.Heartbeat}, table: routingTable{process: rand.Uint64()},
		warden: warden{poked: make(chan struct{}, 1), waiting: map[wardCall]bool{}},
		pool:   newPool(hostWorkers, hostQueue), repairPool: newPool(repairWorkers, repairQueue), forwardGate: newGate(forwardsAtOnce),
		repairPace: newRepairPacer(o.Repair.ServeBytesPerSecond, o.Repair.Foreground)}
	h.context, h.stop = context.WithCancel(context.Background())
	if options.FS == nil {
		h.disk = asyncfs.New(vfs.Default)
		h.opts.FS = h.disk
	}
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.release())
	}
	ctx := h.context
	if h.watcher != nil {
		if err := h.watcher.Start(ctx); err != nil {
			return nil, errors.Join(err, h.release())
		}
	}
	h.loops.Go(func() { h.steward(ctx) })
	h.loops.Go(func() { h.reporter(ctx) })
	h.loops.Go(func() { h.beat(ctx) })
	h.loops.Go(func() { h.tick(ctx) })
	h.loops.Go(func() { h.keeper.Run(ctx) })
	h.loops.Go(func() { h.truncation(ctx) })
	h.loops.Go(func() { h.repair.Run(ctx) })
	h.loops.Go(func() { h.ward(ctx) })
	h.loops.Go(func() { h.scrub.Run(ctx) })
	return h, nil
}

// open acquires, in order: the configuration, the directory, the engines, the network.
func (h *Host) open() error {
	c, err := h.loadCluster()
	if err != nil {
		return err
	}
	h.config.Store(c)
	h.name = h.opts.Host
	identity, err := openIdentity(h.opts.Dir, h.opts.FS, c.Name, h.name)
	if err != nil {
		return h.openFailure(err)
	}
	if err := checkBegun(h.opts.FS, h.opts.Dir); err != nil {
		return h.openFailure(err)
	}
	h.incarnation = identity.Incarnation
	h.keepLastGood(c)
	h.serverID = raft.ServerID(h.name + "@" + h.incarnation)
	if err := h.openEngines(c.Name); err != nil {
		return err
	}
	if err := identity.seal(h.opts.Dir, h.opts.FS); err != nil {
		return h.openFailure(err)
	}
	kept, err := journal.Open(h.opts.FS, h.opts.path(historyDir), journal.Options{Logger: h.log})
	if err != nil {
		return h.openFailure(err)
	}
	h.history.open(kept)
	if err := h.openNetwork(c); err != nil {
		return err
	}
	if err := h.openRepair(); err != nil {
		return err
	}
	if err := h.openScrub(); err != nil {
		return err
	}
	_, err = h.reconcileMembers()
	return err
}

// openFailure gives an error of the data directory a type and a number, unless it has them.
func (h *Host) openFailure(err error) error {
	if Code(err) != 0 {
		return err
	}
	return store.NewOpenError(h.opts.Dir, err)
}

func (h *Host) openEngines(cluster string) error {
	docs, err := store.OpenDocs(store.DocOptions{Dir: h.opts.path(documentsDir), FS: h.opts.FS, Cluster: cluster, Host: h.name,
		Incarnation: h.incarnation, CacheBytes: h.opts.CacheBytes, HeadCache: h.opts.HeadCache,
		Logger: h.log, OnFatal: h.fail, Events: h.storageEvents()})
	if err != nil {
		return err
	}
	h.docs = docs
	open, fs := store.OpenPebbleLog, h.opts.FS
	if h.opts.Log == LogBolt {
		open = store.OpenBoltLog
		if h.disk != nil {
			fs = h.disk.Unwrap() // bolt files sync themselves
		}
	}
	logs, err := open(store.LogOptions{Dir: h.opts.path(logDir), FS: fs, Cluster: cluster, Host: h.name,
		Incarnation: h.incarnation, MemTableBytes: h.opts.LogMemoryBytes, EntryCacheBytes: h.opts.LogMemoryBytes, Logger: h.log, OnFatal: h.fail})
	if err != nil {
		return err
	}
	h.logs = logs
	return nil
}

func (h *Host) openNetwork(c *config.Cluster) error {
	self := mesh.Identity{Cluster: c.Name, Host: h.name, Incarnation: h.incarnation}
	switch {
	case h.opts.Network != nil:
		h.net = h.opts.Network(self)
		if n, ok := h.net.(interface{ OnPeer(func(mesh.PeerState)) }); ok {
			n.OnPeer(h.peerChanged)
		}
	case h.opts.single():
		h.net = mesh.NewLocal(self)
	default:
		m, err := mesh.Listen(h.meshOptions(self, c))
		if err != nil {
			return err
		}
		h.net = m
	}
	h.mux = mesh.NewRaftMux()
	h.net.Handle(mesh.ServiceRaft, h.forMembers(h.mux))
	h.net.Handle(mesh.ServiceHost, h.forMembers(mesh.HandlerFunc(h.serveHost)))
	h.net.Handle(mesh.ServiceRepair, h.forMembers(mesh.HandlerFunc(h.serveRepair)))
	return nil
}

func (h *Host) cluster() *config.Cluster { return h.config.Load() }

// desired is what the cluster file wants of a partition.
func (h *Host) desired(id uint32) (partition.Desired, bool) {
	c := h.cluster()
	i := c.Find(id)
	if i < 0 {
		return partition.Desired{}, false
	}
	p := c.Partitions[i]
	return desiredOf(&p), true
}

func desiredOf(p *config.Partition) partition.Desired {
	return partition.Desired{Voters: p.Voters, Replicas: p.Replicas, Prefer: p.Prefer}
}

// wanted is what one version of the cluster file wants of every partition.
type wanted struct {
	of      *config.Cluster
	desired map[uint32]partition.Desired
}

// allDesired is what the cluster file wants of every partition. The map is shared: nobody changes it.
func (h *Host) allDesired() map[uint32]partition.Desired {
	c := h.cluster()
	if w := h.wanted.Load(); w != nil && w.of == c {
		return w.desired
	}
	out := make(map[uint32]partition.Desired, len(c.Partitions))
	for i := range c.Partitions {
		out[c.Partitions[i].ID] = desiredOf(&c.Partitions[i])
	}
	h.wanted.Store(&wanted{c, out})
	return out
}

// otherHosts lists the hosts of the cluster file without this one.
func (h *Host) otherHosts() []string {
	return slices.DeleteFunc(h.cluster().HostNames(), func(n string) bool { return n == h.name })
}

func (h *Host) member(id uint32) *member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members[id]
}

// allMembers lists this host's members by partition.
// The list is shared: nobody changes it.
func (h *Host) allMembers() []*member {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sorted == nil && len(h.members) > 0 {
		h.sorted = slices.SortedFunc(maps.Values(h.members), func(a, b *member) int { return cmp.Compare(a.id, b.id) })
	}
	return h.sorted
}

// reconcileMembers opens the storage of every partition that the cluster file gives this host, or that it holds data of.
func (h *Host) reconcileMembers() ([]*member, error) {
	var errs []error
	c := h.cluster()
	for i, p := range c.Partitions {
		if h.member(p.ID) != nil {
			continue
		}
		listed := slices.Contains(p.Voters, h.name) || slices.Contains(p.Replicas, h.name)
		if !listed {
			held, err := h.holdsData(p.ID)
			if err != nil || !held {
				errs = append(errs, err)
				continue
			}
		}
		first, last := c.HashRange(i)
		if err := h.addMember(p.ID, store.Range{First: first, Last: last}); err != nil {
			errs = append(errs, err)
		}
	}
	return h.allMembers(), errors.Join(errs...)
}

func (h *Host) addMember(id uint32, r store.Range) error {
	docs, err := h.docs.Member(id, r)
	if err != nil {
		return fmt.Errorf("partition %d: %w", id, err)
	}
	log, err := h.logs.Group(id)
	if err != nil {
		return fmt.Errorf("partition %d: %w", id, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return &ClosedError{Host: h.name}
	}
	m := &member{host: h, id: id, docs: docs, log: log, complete: true}
	m.restless.Store(true)
	h.members[id], h.sorted = m, nil
	return nil
}

// holdsData reports whether the engines hold anything of a partition that is not open as a member.
func (h *Host) holdsData(id uint32) (bool, error) {
	groups, err := h.logs.Groups()
	if err != nil {
		return false, err
	}
	if slices.Contains(groups, id) {
		return true, nil
	}
	held, err := h.docs.Members()
	return slices.Contains(held, id), err
}

// drop removes a member and everything it holds. It stays in the table until nothing is left, so that no successor is
// opened on what is about to go.
func (h *Host) drop(m *member) error {
	if err := m.stop(); err != nil {
		return err
	}
	m.isolation.mu.Lock() // until it is out of the table nothing more may be stored of it
	defer m.isolation.mu.Unlock()
	if err := dropStorage(h.docs, h.logs, m.id); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, m.id)
	h.sorted = nil
	h.reconciled.Store(0) // the file may list it again by now
	return nil
}

// dropStorage removes what the engines hold of a partition. The documents go first: a crash in between leaves a log without
// documents, which is a member that knows what it lacks, while documents without their log are refused as a log that was
// lost. Either way the host finds the rest at its next start and drops it again. What is stored of the member's safe mode and
// recovery goes with the documents: it is about them, and a later member of the partition has others.
func dropStorage(docs interface {
	Drop(uint32, ...string) error
}, logs interface{ Drop(uint32) error }, id uint32) error {
	if err := docs.Drop(id, safeModeKey(id), divergenceKey(id), recoveryKey(id)); err != nil {
		return fmt.Errorf("partition %d: drop the documents: %w", id, err)
	}
	if err := logs.Drop(id); err != nil {
		return fmt.Errorf("partition %d: drop the log: %w", id, err)
	}
	return nil
}

// fail is told by an engine that a write or fsync failed: the host serves nothing any more (design §10). Its members stop
// at once, so that others take their leaderships.
func (h *Host) fail(err error) {
	if !h.failure.CompareAndSwap(nil, &err) {
		return
	}
	h.log.Error("storage failed, the host stops serving", "error", err)
	h.note(nil, "failure", err.Error())
	h.events.Failed(err)
	h.aside.Go(func() { // not on the engine's goroutine: members wait for their logs
		for _, m := range h.allMembers() {
			if p := m.running(); p != nil {
				p.Fail(err)
			}
		}
		h.routeChanged()
	})
}

// failed returns the failure that stopped the host, nil when none did.
func (h *Host) failed() error {
	if err := h.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (h *Host) memberFailed(m *member, err error) {
	h.unrests.Add(1)
	if h.failed() != nil {
		return // one of many that the engine's failure brings
	}
	h.note(&m.id, "failure", err.Error())
	h.events.MemberFailed(MemberFailure{Partition: m.id, Err: err})
}
