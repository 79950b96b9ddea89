package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
)

// system is what is measured: hosts of a cluster that run in this process, all of them or some. It is opened once and closed
// in any case. Writes to different documents may come at the same time, those to one document come one after the other.
type system interface {
	// prepare opens what needs no other host, and says where the hosts that run here listen.
	prepare(s settings, dir string, hosts []int) (AddressBook, error)
	// open returns when writes can be made to the hosts that run here. All hosts of the cluster are prepared.
	open(ctx context.Context, all AddressBook) error
	// homes says of each document the host at which it is written, which runs here or elsewhere.
	homes() ([]int, error)
	// create makes a document whose home runs here; it returns when that is durable on a majority.
	create(ctx context.Context, document Placed, value []byte) error
	// write writes a document that was created, as durably, and says how often it had to try again.
	write(ctx context.Context, document int, value []byte) (retries int, err error)
	close() error
}

func newSystem(name string) (system, error) {
	switch name {
	case "adamant":
		return &adamantSystem{}, nil
	case "etcd":
		return &etcdSystem{}, nil
	case "etcd-spread":
		return &etcdSystem{spread: true}, nil
	case "etcd-tuned": // for fail-overs only: the rest of it is like etcd
		return tunedEtcd(), nil
	case "raft":
		return &raftSystem{}, nil
	case memoryStock:
		return &raftSystem{memory: true}, nil
	case memoryTuned:
		return &raftSystem{memory: true, tuned: true}, nil
	}
	return nil, fmt.Errorf("unknown system %q", name)
}

// systemNames puts first what the others are compared with.
func systemNames() []string {
	return []string{"adamant", "etcd", "etcd-spread", "raft", memoryStock, memoryTuned}
}

// Raft groups without a disk and a network.
const (
	memoryStock = "raft-memory"
	memoryTuned = "raft-memory-tuned"
)

func inMemory(name string) bool { return name == memoryStock || name == memoryTuned }

// hostName is what the systems call a host, by its number.
func hostName(host int) string { return fmt.Sprintf("h%d", host+1) }

// openPatience is how long a system may take until it can be written to.
const openPatience = 2 * time.Minute

// patience is how long one write is tried before the trial fails.
const patience = 30 * time.Second

// retryPause is what a writer waits after a refusal that names nobody better.
const retryPause = 2 * time.Millisecond

// documentKey names a document in all systems.
func documentKey(n int) adamant.Key { return adamant.Key{Space: "bench", Key: fmt.Sprintf("d%d", n)} }

// verdict says what to do after an attempt that failed.
type verdict int

const (
	giveUp verdict = iota
	again          // after a pause
	atOnce         // elsewhere
)

// retry attempts a write until it succeeds, fails for good, or nobody is patient any more.
func retry(ctx context.Context, attempt func() (verdict, error)) (retries int, err error) {
	var begun time.Time
	for {
		v, err := attempt()
		switch {
		case err == nil:
			return retries, nil
		case ctx.Err() != nil:
			return retries, ctx.Err()
		case v == giveUp:
			return retries, err
		}
		if retries++; begun.IsZero() {
			begun = time.Now()
		}
		if time.Since(begun) > patience {
			return retries, fmt.Errorf("no acknowledgement in %v: %w", patience, err)
		}
		if v == again {
			time.Sleep(retryPause)
		}
	}
}

// until waits for a condition.
func until(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// each does something with all elements at the same time.
func each[T any](list []T, do func(int, T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, e := range list {
		wg.Go(func() { errs[i] = do(i, e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
