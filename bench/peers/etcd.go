package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"

	"github.com/adamantdb/adamant/internal/loopback"
)

// etcdQuota is the database's greatest size. The default of 2 GB is less than a long run writes, as every revision is kept.
const etcdQuota = 64 << 30

// etcdSystem is a cluster of embedded etcd members.
type etcdSystem struct {
	spread   bool // write at all members, which forward to their leader, and not at the leader only
	settings settings
	dir      string
	members  map[int]*embed.Etcd // by host, of those that run here
	keys     [][]byte            // by document
	tune     func(*embed.Config) // nil to leave the settings alone
}

// prepare finds a port for each member. Nothing keeps it until the member opens.
func (e *etcdSystem) prepare(s settings, dir string, hosts []int) (AddressBook, error) {
	e.settings, e.dir, e.members = s, dir, map[int]*embed.Etcd{}
	book := AddressBook{}
	for _, host := range hosts {
		addr, err := freeURL()
		if err != nil {
			return nil, err
		}
		book[host], e.members[host] = []string{addr.String()}, nil
	}
	return book, nil
}

func (e *etcdSystem) open(ctx context.Context, all AddressBook) error {
	for n := range e.settings.Documents {
		e.keys = append(e.keys, []byte(documentKey(n).String()))
	}
	var cluster []string
	for host, list := range all {
		cluster = append(cluster, hostName(host)+"="+list[0])
	}
	slices.Sort(cluster)
	hosts := slices.Collect(maps.Keys(e.members))
	started := make([]*embed.Etcd, len(hosts))
	// At the same time: a member waits for the others.
	err := each(hosts, func(i, host int) error {
		c, err := e.config(hostName(host), all[host][0], strings.Join(cluster, ","))
		if err != nil {
			return err
		}
		started[i], err = embed.StartEtcd(c)
		return err
	})
	for i, host := range hosts {
		e.members[host] = started[i]
	}
	if err != nil {
		return err
	}
	for _, m := range e.members {
		select {
		case <-m.Server.ReadyNotify():
		case err := <-m.Err():
			return fmt.Errorf("etcd: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("waiting until etcd is ready: %w", ctx.Err())
		}
	}
	return until(ctx, "etcd has a leader", func() bool {
		for _, m := range e.members {
			if m.Server.Leader() == 0 {
				return false
			}
		}
		return true
	})
}

func (e *etcdSystem) config(name, peer, cluster string) (*embed.Config, error) {
	at, err := url.Parse(peer)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Name = name
	c.Dir = filepath.Join(e.dir, name)
	c.LogLevel = "fatal"
	c.QuotaBackendBytes = etcdQuota
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*at}, []url.URL{*at}
	// Clients' port is required, but nobody will use it.
	client := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.EnableGRPCGateway = false
	c.InitialCluster = cluster
	if e.tune != nil {
		e.tune(c)
	}
	return c, nil
}

// freeURL finds a port that is free, and that nobody else takes before etcd does.
func freeURL() (*url.URL, error) {
	addrs, err := loopback.Addrs(1)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "http", Host: addrs[0]}, nil
}

// homes are the leader for all documents, or the members in turn.
func (e *etcdSystem) homes() ([]int, error) {
	leader := -1
	for _, m := range e.members {
		if l := m.Server.Cluster().Member(m.Server.Leader()); l != nil {
			for host := range e.settings.Hosts {
				if hostName(host) == l.Name {
					leader = host
				}
			}
		}
	}
	if leader < 0 {
		return nil, etcderrors.ErrNoLeader
	}
	all := make([]int, e.settings.Documents)
	for n := range all {
		if all[n] = leader; e.spread {
			all[n] = n % e.settings.Hosts
		}
	}
	return all, nil
}

// at is the member to write at, or nil when there is no leader: the leader, or, when it runs elsewhere, any that runs here,
// which forwards.
func (e *etcdSystem) at(document int) *embed.Etcd {
	if m := e.members[document%e.settings.Hosts]; e.spread && m != nil && m.Server.Leader() != 0 {
		return m
	}
	var follower *embed.Etcd
	for _, m := range e.members {
		switch m.Server.Leader() {
		case m.Server.MemberID():
			return m
		case 0:
		default:
			follower = m
		}
	}
	return follower
}

func (e *etcdSystem) create(ctx context.Context, document Placed, value []byte) error {
	_, err := e.write(ctx, document.Number, value)
	return err
}

func (e *etcdSystem) write(ctx context.Context, document int, value []byte) (int, error) {
	r := &pb.PutRequest{Key: e.keys[document], Value: value}
	retries, err := retry(ctx, func() (verdict, error) {
		m := e.at(document)
		if m == nil {
			return again, etcderrors.ErrNoLeader
		}
		_, err := m.Server.Put(ctx, r)
		return judgeEtcd(err), err
	})
	if err != nil {
		return retries, fmt.Errorf("put %s: %w", r.Key, err)
	}
	return retries, nil
}

// judgeEtcd lets everything be tried again that another leader or less load may cure: to put the same value twice is to
// put it once.
func judgeEtcd(err error) verdict {
	for _, passing := range []error{etcderrors.ErrNoLeader, etcderrors.ErrLeaderChanged, etcderrors.ErrTimeout,
		etcderrors.ErrTimeoutDueToLeaderFail, etcderrors.ErrTimeoutDueToConnectionLost, etcderrors.ErrTooManyRequests} {
		if errors.Is(err, passing) {
			return again
		}
	}
	return giveUp
}

// close stops all members first: one that is closed alone waits seconds for the others' connections to end.
func (e *etcdSystem) close() error {
	members := slices.DeleteFunc(slices.Collect(maps.Values(e.members)), func(m *embed.Etcd) bool { return m == nil })
	stopped := each(members, func(_ int, m *embed.Etcd) error {
		m.Server.HardStop()
		return nil
	})
	return errors.Join(stopped, each(members, func(_ int, m *embed.Etcd) error {
		m.Close()
		return nil
	}))
}
