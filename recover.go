package adamant

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// Recovery of partitions that lost their majority for good, by an operator (design §10, docs/recovery.md): Survey on each host
// that is left, PlanRecovery once, ApplyRecovery on each of these hosts. All of it while the hosts are stopped.

// MemberSurvey is what a host holds of one partition.
type MemberSurvey = partition.MemberSurvey

// PartitionRecovery is what becomes of one partition.
type PartitionRecovery = partition.Recovery

// HostSurvey is what a stopped host holds, and what it last knew of others.
type HostSurvey struct {
	Format      int       `json:"format"`
	Cluster     string    `json:"cluster"`
	Host        string    `json:"host"`
	Incarnation string    `json:"incarnation"`
	Time        time.Time `json:"time"` // of the survey
	// Begun is the digest of a plan that was begun here and not finished.
	Begun      string            `json:"begun,omitempty"`
	Addrs      map[string]string `json:"addrs,omitempty"` // of the cluster's hosts, by the kept copy of the cluster file
	Partitions []MemberSurvey    `json:"partitions"`
	Heard      []HeardHost       `json:"heard,omitempty"`
}

// HeardHost is what another host last reported to this one, as far as this one wrote it down: when it was closed, and when a
// partition was found to have lost its majority.
type HeardHost struct {
	Host        string        `json:"host"`
	Incarnation string        `json:"incarnation"`
	At          time.Time     `json:"at"`    // of the report
	Alive       bool          `json:"alive"` // it still reported when this was written down
	Members     []HeardMember `json:"members"`
}

// HeardMember is a member on another host, as that host reported it.
type HeardMember struct {
	Partition uint32             `json:"partition"`
	Applied   uint64             `json:"applied"`
	Epoch     uint64             `json:"epoch"`
	Founding  partition.Founding `json:"founding"`
}

// RecoveryOptions are for Survey and ApplyRecovery. The zero value will do.
type RecoveryOptions struct {
	FS     vfs.FS // default: the disk
	Logger *slog.Logger
	// Force skips the look for hosts that are given up as lost and still answer.
	Force bool
}

func (o RecoveryOptions) withDefaults() RecoveryOptions {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	surveyFormat = 1
	heardFile    = "heard.json"    // []HeardHost
	recoveryFile = "recovery.json" // the plan that is being carried out
)

// Survey reads what a stopped host holds. It opens the directory as a start would, and changes nothing else.
//
// Errors: *OpenError (a process has the directory open, it is damaged), and those of reading. A host whose fsync failed can be
// surveyed once its process is gone: it holds what its disk holds now.
func Survey(dir string, o RecoveryOptions) (HostSurvey, error) {
	o = o.withDefaults()
	s, err := openStopped(dir, o)
	if err != nil {
		return HostSurvey{}, err
	}
	survey, err := s.survey()
	return survey, errors.Join(err, s.close())
}

// stopped is the data directory of a host that does not run.
type stopped struct {
	dir  string
	o    RecoveryOptions
	id   identity
	docs *store.DocEngine
	logs store.LogEngine
}

func openStopped(dir string, o RecoveryOptions) (*stopped, error) {
	id, err := readIdentity(dir, o.FS)
	if err != nil {
		return nil, store.NewOpenError(dir, err)
	}
	s := &stopped{dir: dir, o: o, id: id}
	s.docs, err = store.OpenDocs(store.DocOptions{Dir: o.FS.PathJoin(dir, documentsDir), FS: o.FS, Cluster: id.Cluster, Host: id.Host,
		Incarnation: id.Incarnation, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	open := store.OpenPebbleLog
	if bolt, err := holdsBolt(o.FS, o.FS.PathJoin(dir, logDir)); err != nil {
		return nil, errors.Join(err, s.close())
	} else if bolt {
		open = store.OpenBoltLog
	}
	s.logs, err = open(store.LogOptions{Dir: o.FS.PathJoin(dir, logDir), FS: o.FS, Cluster: id.Cluster, Host: id.Host, Incarnation: id.Incarnation, Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stopped) close() error {
	var errs []error
	if s.logs != nil {
		errs = append(errs, s.logs.Close())
	}
	return errors.Join(append(errs, s.docs.Close())...)
}

func (s *stopped) serverID() raft.ServerID { return raft.ServerID(s.id.Host + "@" + s.id.Incarnation) }

// readIdentity is openIdentity for whoever the directory belongs to. One without both engines has nothing to recover.
func readIdentity(dir string, fs vfs.FS) (identity, error) {
	path := fs.PathJoin(dir, identityFile)
	b, err := readFile(fs, path)
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("%s: %w", path, err)
	}
	if id, err = parseIdentity(path, b, id.Cluster, id.Host); err != nil {
		return id, err
	}
	if !id.Ready {
		return id, errors.New("it was never opened to the end: it holds nothing")
	}
	return id, checkEngines(dir, fs)
}

func holdsBolt(fs vfs.FS, dir string) (bool, error) {
	names, err := fs.List(dir)
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".bolt") }), err
}

// member opens what the directory holds of a partition. Documents whose first record a crash took with it get their range from the
// kept copy of the cluster file.
func (s *stopped) member(id uint32) (store.LogGroup, partition.Documents, error) {
	log, err := s.logs.Group(id)
	if err != nil {
		return nil, nil, err
	}
	docs, ok, err := s.docs.Held(id)
	if err == nil && !ok {
		c, at := s.lastGood(), -1
		if c != nil {
			at = c.Find(id)
		}
		if at < 0 {
			return nil, nil, fmt.Errorf("partition %d: %s holds a log but no documents, and does not tell the partition's range: start the host once", id, s.dir)
		}
		first, last := c.HashRange(at)
		docs, err = s.docs.Member(id, store.Range{First: first, Last: last})
	}
	return log, memberDocuments{docs, s.docs, func(time.Time) {}}, err
}

func (s *stopped) survey() (HostSurvey, error) {
	out := HostSurvey{Format: surveyFormat, Cluster: s.id.Cluster, Host: s.id.Host, Incarnation: s.id.Incarnation, Time: time.Now().Round(0),
		Addrs: s.addrs()}
	plan, err := readBegun(s.o.FS, s.dir)
	if err != nil {
		return out, err
	}
	if plan != nil {
		out.Begun = plan.Digest()
	}
	if out.Heard, err = readHeard(s.o.FS, s.dir); err != nil {
		return out, err
	}
	groups, err := s.logs.Groups()
	if err != nil {
		return out, err
	}
	for _, id := range groups {
		log, docs, err := s.member(id)
		if err != nil {
			return out, err
		}
		m, err := partition.Survey(id, s.serverID(), log, docs)
		if err != nil {
			return out, err
		}
		if m.SafeMode, m.Diverged, err = storedIsolation(s.docs, id); err != nil {
			return out, err
		}
		out.Partitions = append(out.Partitions, m)
	}
	return out, nil
}

// storedIsolation is why a member is in safe mode, and whether that is a divergence of documents. Two histories of the partition are what a
// recovery chooses from.
func storedIsolation(docs *store.DocEngine, id uint32) (reason string, diverged bool, err error) {
	b, ok, err := docs.Meta(divergenceKey(id))
	if err != nil {
		return "", false, err
	}
	if ok {
		q, err := decodeQuarantine(b)
		if err != nil {
			return "", false, fmt.Errorf("partition %d: %w", id, err)
		}
		if q.on() || q.Restore != "" {
			return cmp.Or(q.reason(), "it takes over the version of "+q.Restore), !q.lost(), nil
		}
	}
	alone, _, err := docs.Meta(safeModeKey(id))
	return string(alone), false, err
}

// lastGood is the kept copy of the cluster file; nil when there is none that is usable.
func (s *stopped) lastGood() *config.Cluster {
	b, err := readFile(s.o.FS, s.o.FS.PathJoin(s.dir, lastGoodFile))
	if err != nil {
		return nil
	}
	c, err := config.Parse(b, lastGoodFile)
	if err != nil {
		s.o.Logger.Warn("the kept copy of the cluster file is not usable", "error", err)
		return nil
	}
	return c
}

// addrs are the addresses of the cluster's hosts, as far as they are known here.
func (s *stopped) addrs() map[string]string {
	c := s.lastGood()
	if c == nil {
		return nil
	}
	out := map[string]string{}
	for name, h := range c.Hosts {
		out[name] = h.Addr
	}
	return out
}

func readHeard(fs vfs.FS, dir string) ([]HeardHost, error) {
	b, err := readFile(fs, fs.PathJoin(dir, heardFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []HeardHost
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", heardFile, err)
	}
	return list, nil
}

// keepHeard writes down what the other hosts last reported, for a recovery that has to do without them. Best effort: it only
// adds to what a survey can tell.
func (h *Host) keepHeard() {
	h.keeping.Lock() // Close and the steward may both come
	defer h.keeping.Unlock()
	heard := h.reports.heard(time.Now())
	before, err := readHeard(h.opts.FS, h.opts.Dir)
	if err != nil {
		h.log.Warn("what other hosts reported before is not usable", "error", err)
	}
	if len(heard)+len(before) == 0 {
		return
	}
	byHost := map[string]HeardHost{}
	for _, o := range before {
		o.Alive = false
		byHost[o.Host] = o
	}
	for _, o := range heard {
		byHost[o.Host] = o
	}
	list := slices.SortedFunc(maps.Values(byHost), func(a, b HeardHost) int { return cmp.Compare(a.Host, b.Host) })
	b, err := json.Marshal(list)
	if err == nil {
		err = replaceFile(h.opts.FS, h.opts.Dir, heardFile, b)
	}
	if err != nil {
		h.log.Warn("what other hosts reported is not written down", "error", err)
	}
}

// heard lists the newest report of every other host.
func (t *reportTable) heard(now time.Time) []HeardHost {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []HeardHost
	for host, r := range t.byHost {
		o := HeardHost{Host: host, Incarnation: r.incarnation, At: r.received.Round(0), Alive: now.Sub(r.received) < freshFor}
		for _, m := range r.members {
			o.Members = append(o.Members, HeardMember{Partition: m.Partition, Applied: m.Applied, Epoch: m.Epoch, Founding: partition.Founding(m.Founding)})
		}
		slices.SortFunc(o.Members, func(a, b HeardMember) int { return cmp.Compare(a.Partition, b.Partition) })
		list = append(list, o)
	}
	return list
}
