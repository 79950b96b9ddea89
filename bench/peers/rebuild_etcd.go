package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
)

// etcdRebuilder is etcd with a short log: a new member is sent a snapshot.
type etcdRebuilder struct {
	etcdSystem
	book AddressBook
}

// A log keeps etcdTrailing entries behind the newest, or some more: it is looked at every hundred.
const (
	etcdSnapshots = 256 // entries between two snapshots
	etcdTrailing  = 128
	etcdChurn     = 2 * (etcdTrailing + etcdSnapshots)
	etcdPage      = 1000 // entries that are read at a time
)

func newEtcdRebuilder() *etcdRebuilder {
	e := &etcdRebuilder{}
	e.tune = func(c *embed.Config) { c.SnapshotCount, c.SnapshotCatchUpEntries = etcdSnapshots, etcdTrailing }
	return e
}

func (e *etcdRebuilder) open(ctx context.Context, all AddressBook) error {
	e.book = all
	return e.etcdSystem.open(ctx, all)
}

// put sets a key for each entry, all in one transaction.
func (e *etcdRebuilder) put(ctx context.Context, document, first int, values [][]byte) error {
	r := &pb.TxnRequest{}
	for i, value := range values {
		put := &pb.PutRequest{Key: []byte(entryKey(string(e.keys[document]), int64(first+i))), Value: value}
		r.Success = append(r.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	_, err := retry(ctx, func() (verdict, error) {
		m := e.at(document)
		if m == nil {
			return again, etcderrors.ErrNoLeader
		}
		_, err := m.Server.Txn(ctx, r)
		return judgeEtcd(err), err
	})
	if err != nil {
		return fmt.Errorf("put %s/%d: %w", e.keys[document], first, err)
	}
	return nil
}

// forget sets a key and deletes it, until the log holds nothing else.
func (e *etcdRebuilder) forget(ctx context.Context) error {
	key := []byte("churn")
	for range etcdChurn / 2 {
		_, err := retry(ctx, func() (verdict, error) {
			m := e.at(0)
			if m == nil {
				return again, etcderrors.ErrNoLeader
			}
			_, err := m.Server.Put(ctx, &pb.PutRequest{Key: key, Value: key})
			if err == nil {
				_, err = m.Server.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key})
			}
			return judgeEtcd(err), err
		})
		if err != nil {
			return fmt.Errorf("churn: %w", err)
		}
	}
	return until(ctx, "all members hold the same", func() bool {
		newest := e.revision()
		for _, m := range e.members {
			if m.Server.KV().Rev() < newest {
				return false
			}
		}
		return true
	})
}

// revision is the newest that any member has.
func (e *etcdRebuilder) revision() (newest int64) {
	for _, m := range e.members {
		newest = max(newest, m.Server.KV().Rev())
	}
	return newest
}

// lose also tells the others of the member to come, as the manual has it: etcd changes its members only when those that are
// left have been connected for some seconds.
func (e *etcdRebuilder) lose(ctx context.Context, host int) error {
	m := e.members[host]
	lost := m.Server.MemberID()
	delete(e.members, host)
	m.Server.HardStop()
	m.Close()
	if err := os.RemoveAll(filepath.Join(e.dir, hostName(host))); err != nil {
		return err
	}
	err := until(ctx, "the others have a leader", func() bool {
		for _, m := range e.members {
			if l := m.Server.Leader(); l == 0 || l == lost {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	err = e.change(ctx, func(s *etcdserver.EtcdServer) error {
		_, err := s.RemoveMember(ctx, uint64(lost))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove a member: %w", err)
	}
	addr, err := freeURL()
	if err != nil {
		return err
	}
	e.book[host] = []string{addr.String()}
	now := time.Now()
	err = e.change(ctx, func(s *etcdserver.EtcdServer) error {
		_, err := s.AddMember(ctx, *membership.NewMember("", types.URLs{*addr}, "", &now))
		return err
	})
	if err != nil {
		return fmt.Errorf("add a member: %w", err)
	}
	return nil
}

// change changes the members when etcd is willing to.
func (e *etcdRebuilder) change(ctx context.Context, do func(*etcdserver.EtcdServer) error) error {
	_, err := retry(ctx, func() (verdict, error) {
		m := e.at(0)
		if m == nil {
			return again, etcderrors.ErrNoLeader
		}
		err := do(m.Server)
		if errors.Is(err, etcderrors.ErrUnhealthy) {
			return again, err
		}
		return giveUp, err
	})
	return err
}

// replace starts a member in the place of the lost one.
func (e *etcdRebuilder) replace(ctx context.Context, host int) error {
	wanted := e.revision()
	received, err := e.snapshotsReceived()
	if err != nil {
		return err
	}
	m, err := e.join(host)
	if err != nil {
		return err
	}
	var failed error
	err = until(ctx, "the new member has the newest revision", func() bool {
		select {
		case failed = <-m.Err():
			return true
		default:
			return m.Server.KV().Rev() >= wanted
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	arrived, err := e.snapshotsReceived()
	if err == nil && arrived == received {
		err = errors.New("no snapshot was received: the log brought everything")
	}
	return err
}

// join starts the member of a host in a cluster that knows of it.
func (e *etcdRebuilder) join(host int) (*embed.Etcd, error) {
	var cluster []string
	for other, list := range e.book {
		cluster = append(cluster, hostName(other)+"="+list[0])
	}
	slices.Sort(cluster)
	c, err := e.config(hostName(host), e.book[host][0], strings.Join(cluster, ","))
	if err != nil {
		return nil, err
	}
	c.ClusterState = embed.ClusterStateFlagExisting
	m, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start the new member: %w", err)
	}
	e.members[host] = m
	return m, nil
}

// snapshotsReceived is how many snapshots of this cluster's members have been received in this process.
func (e *etcdRebuilder) snapshotsReceived() (n float64, err error) {
	senders := map[string]bool{}
	for _, m := range e.members {
		senders[m.Server.MemberID().String()] = true
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() != "etcd_network_snapshot_receive_success" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "From" && senders[l.GetValue()] {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n, nil
}

// walk reads document by document: to etcd, the pages of a range cost what is behind them.
func (e *etcdRebuilder) walk(ctx context.Context, host int, found func(key string, value ...[]byte)) error {
	s := e.members[host].Server
	var n int64
	for _, document := range e.keys {
		next, end := append(slices.Clone(document), '/'), append(slices.Clone(document), '/'+1)
		for {
			page, err := s.Range(ctx, &pb.RangeRequest{Key: next, RangeEnd: end, Limit: etcdPage, Serializable: true})
			if err != nil {
				return err
			}
			for _, kv := range page.Kvs {
				found(string(kv.Key), kv.Value)
			}
			n += int64(len(page.Kvs))
			if !page.More {
				break
			}
			next = append(slices.Clone(page.Kvs[len(page.Kvs)-1].Key), 0)
		}
	}
	all, err := s.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true, Serializable: true})
	if err == nil && all.Count != n {
		err = fmt.Errorf("%d keys, of which %d are entries", all.Count, n)
	}
	return err
}
