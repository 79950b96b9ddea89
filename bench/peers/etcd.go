package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
)

// etcdQuota is the database's greatest size. The default of 2 GB is less than a long run writes, as every revision is kept.
const etcdQuota = 64 << 30

// etcdSystem is a cluster of embedded etcd members.
type etcdSystem struct {
	members []*embed.Etcd
	keys    [][]byte // by document
}

func (e *etcdSystem) open(ctx context.Context, s settings, dir string) error {
	for n := range s.Documents {
		e.keys = append(e.keys, []byte(documentKey(n).String()))
	}
	configs, err := etcdConfigs(s.Hosts, dir)
	if err != nil {
		return err
	}
	e.members = make([]*embed.Etcd, len(configs))
	// At the same time: a member waits for the others.
	if err := each(configs, func(i int, c *embed.Config) (err error) {
		e.members[i], err = embed.StartEtcd(c)
		return err
	}); err != nil {
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
	return until(ctx, "etcd has a leader", func() bool { return e.leader() != nil })
}

func etcdConfigs(hosts int, dir string) ([]*embed.Config, error) {
	var configs []*embed.Config
	var cluster []string
	for i := range hosts {
		peer, err := freeURL()
		if err != nil {
			return nil, err
		}
		c := embed.NewConfig()
		c.Name = fmt.Sprintf("h%d", i+1)
		c.Dir = filepath.Join(dir, c.Name)
		c.LogLevel = "fatal"
		c.QuotaBackendBytes = etcdQuota
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
		// Clients' port is required, but nobody will use it.
		client := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.EnableGRPCGateway = false
		cluster = append(cluster, c.Name+"="+peer.String())
		configs = append(configs, c)
	}
	for _, c := range configs {
		c.InitialCluster = strings.Join(cluster, ",")
	}
	return configs, nil
}

// freeURL finds a port that is free, below those that outgoing connections use.
func freeURL() (*url.URL, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", addr); err == nil {
			return &url.URL{Scheme: "http", Host: addr}, l.Close()
		}
	}
	return nil, errors.New("no free port on 127.0.0.1 between 20000 and 32000")
}

// leader is the member that leads, or nil.
func (e *etcdSystem) leader() *embed.Etcd {
	for _, m := range e.members {
		if m.Server.Leader() == m.Server.MemberID() {
			return m
		}
	}
	return nil
}

func (e *etcdSystem) create(ctx context.Context, document int, value []byte) error {
	_, err := e.write(ctx, document, value)
	return err
}

func (e *etcdSystem) write(ctx context.Context, document int, value []byte) (int, error) {
	r := &pb.PutRequest{Key: e.keys[document], Value: value}
	retries, err := retry(ctx, func() (verdict, error) {
		m := e.leader()
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
	members := slices.DeleteFunc(e.members, func(m *embed.Etcd) bool { return m == nil })
	stopped := each(members, func(_ int, m *embed.Etcd) error {
		m.Server.HardStop()
		return nil
	})
	return errors.Join(stopped, each(members, func(_ int, m *embed.Etcd) error {
		m.Close()
		return nil
	}))
}
