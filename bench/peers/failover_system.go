package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// fallible is a system whose hosts clients of other processes reach, and of which one can be stopped.
type fallible interface {
	system
	// door lets clients in to a host that runs here, and says where.
	door(host int) (addr string, err error)
	// stop closes a host that runs here as an orderly end does.
	stop(host int) error
}

// reach is a client's way to one host. Values are numbered by the writes of their key.
type reach interface {
	// put makes a write durable, again if it is already. An error may name the host that leads; −1 stands for none.
	put(ctx context.Context, key adamant.Key, seq int64, value []byte) (leader int, err error)
	// get reads linearizably which write was the last.
	get(ctx context.Context, key adamant.Key) (seq int64, err error)
	close() error
}

func newReach(system, addr string) (reach, error) {
	if system == "adamant" {
		c, err := httpapi.NewClient([]string{addr}, nil)
		return adamantReach{c}, err
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	return etcdReach{c}, err
}

// etcdTick and etcdElection are the shortest that etcd's documentation gives reason for on a network like this: ten round trips are
// less than a tick, and an election takes ten ticks.
const (
	etcdTick     = 30
	etcdElection = 300
)

// tunedEtcd finds out sooner than by default that its leader is gone.
func tunedEtcd() *etcdSystem {
	return &etcdSystem{tune: func(c *embed.Config) { c.TickMs, c.ElectionMs = etcdTick, etcdElection }}
}

func (e *etcdSystem) door(host int) (string, error) {
	m := e.members[host]
	if m == nil || len(m.Clients) == 0 {
		return "", fmt.Errorf("host %s does not listen for clients here", hostName(host))
	}
	return m.Clients[0].Addr().String(), nil
}

// stop lets etcd give its leadership away, as it does when it is asked to end.
func (e *etcdSystem) stop(host int) error {
	e.members[host].Close()
	e.members[host] = nil
	return nil
}

// sequenced is a value that says which write of its key it is. Later ones are greater, byte by byte.
func sequenced(seq int64, filler []byte) []byte {
	v := fmt.Appendf(nil, "%s%019d ", payloadHead, seq)
	return append(v, filler[min(len(v), len(filler)-len(payloadTail)-len(payloadUndo)):]...)
}

// sequenceOf is 1 for a value that was not made by sequenced: the one that a key was created with.
func sequenceOf(value []byte) int64 {
	text, ok := strings.CutPrefix(string(value), payloadHead)
	number, _, found := strings.Cut(text, " ")
	if seq, err := strconv.ParseInt(number, 10, 64); ok && found && err == nil {
		return seq
	}
	return 1
}

type etcdReach struct{ client *clientv3.Client }

// put writes only what is newer than what is there: an attempt that was given up, of a host that stood still, may arrive when
// later writes are done. The first value is the one that the key was created with, which has no place in the order.
func (e etcdReach) put(ctx context.Context, key adamant.Key, seq int64, value []byte) (int, error) {
	op := clientv3.OpPut(key.String(), string(value))
	if seq == 2 {
		_, err := e.client.Do(ctx, op)
		return -1, err
	}
	_, err := e.client.Txn(ctx).If(clientv3.Compare(clientv3.Value(key.String()), "<", string(value))).Then(op).Commit()
	return -1, err
}

func (e etcdReach) get(ctx context.Context, key adamant.Key) (int64, error) {
	r, err := e.client.Get(ctx, key.String())
	if err != nil {
		return 0, err
	}
	if len(r.Kvs) == 0 {
		return 0, nil
	}
	return sequenceOf(r.Kvs[0].Value), nil
}

func (e etcdReach) close() error { return e.client.Close() }

func (a *adamantSystem) door(host int) (string, error) {
	h := a.hosts[hostName(host)]
	if h == nil {
		return "", fmt.Errorf("host %s does not run here", hostName(host))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httpapi.New(h, httpapi.Options{MaxRequests: doorRequests}).Serve(ctx, l) }()
	a.doors = append(a.doors, func() error {
		cancel()
		return <-ended
	})
	return l.Addr().String(), nil
}

// doorRequests is how many a host works at: all writers and readers of a run.
const doorRequests = 1 << 14

// stop gives leaderships away, and then closes the door.
func (a *adamantSystem) stop(host int) error {
	h := a.hosts[hostName(host)]
	delete(a.hosts, hostName(host))
	return errors.Join(h.Close(), a.closeDoors())
}

func (a *adamantSystem) closeDoors() error {
	doors := a.doors
	a.doors = nil
	return each(doors, func(_ int, end func() error) error { return end() })
}

type adamantReach struct{ client *httpapi.Client }

func (a adamantReach) put(ctx context.Context, key adamant.Key, seq int64, value []byte) (int, error) {
	d := adamantDocument{head: seq - 1}
	_, err := a.client.Append(ctx, key, []adamant.Delta{d.delta(value)})
	var elsewhere *adamant.NotLeaderError
	if errors.As(err, &elsewhere) {
		if number, parsed := strconv.Atoi(strings.TrimPrefix(elsewhere.Leader, "h")); parsed == nil {
			return number - 1, err
		}
	}
	return -1, err
}

func (a adamantReach) get(ctx context.Context, key adamant.Key) (int64, error) {
	d, err := a.client.HeadPatch(ctx, key, 1, "lease")
	return d.Head, err
}

func (a adamantReach) close() error { return nil }
