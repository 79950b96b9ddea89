package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// raftRebuilder is hashicorp/raft with a state machine that stores: a new server is sent a snapshot.
type raftRebuilder struct {
	raftSystem
	dir string
}

// raftTrailing is how many entries logs keep behind a snapshot.
const raftTrailing = 8

func newRaftRebuilder() *raftRebuilder {
	r := &raftRebuilder{}
	r.machine = newStoringMachine
	return r
}

func (r *raftRebuilder) prepare(s settings, dir string, hosts []int) (AddressBook, error) {
	r.dir = dir
	return r.raftSystem.prepare(s, dir, hosts)
}

// put sets a key for each entry, all in one command.
func (r *raftRebuilder) put(ctx context.Context, document, first int, values [][]byte) error {
	var command []byte
	for i, value := range values {
		command = appendStored(command, entryKey(r.keys[document], int64(first+i)), value)
	}
	if _, err := r.groups[r.group[document]].propose(ctx, command); err != nil {
		return fmt.Errorf("apply %s/%d: %w", r.keys[document], first, err)
	}
	return nil
}

// forget takes a snapshot of every server, with a shorter log behind it than is usual.
func (r *raftRebuilder) forget(ctx context.Context) error {
	return each(r.groups, func(n int, g *raftGroup) error {
		if err := g.forget(ctx); err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		return nil
	})
}

func (g *raftGroup) forget(ctx context.Context) error {
	err := until(ctx, "all servers are as far as each other", func() bool {
		newest := g.newest()
		for _, s := range g.servers {
			if index, _, _ := s.stored().state(); index < newest {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	for host, s := range g.servers {
		c := s.raft.ReloadableConfig()
		c.TrailingLogs = raftTrailing
		if err := s.raft.ReloadConfig(c); err != nil {
			return err
		}
		// A group without documents has nothing.
		if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return fmt.Errorf("snapshot of server %s: %w", hostName(host), err)
		}
	}
	return nil
}

// newest is the index of the newest command that any server has applied.
func (g *raftGroup) newest() (newest uint64) {
	for _, s := range g.servers {
		index, _, _ := s.stored().state()
		newest = max(newest, index)
	}
	return newest
}

func (s *raftServer) stored() *storingMachine { return s.machine.(*storingMachine) }

// lose also removes the server from its groups.
func (r *raftRebuilder) lose(ctx context.Context, host int) error {
	return each(r.groups, func(n int, g *raftGroup) error {
		lost := g.servers[host]
		delete(g.servers, host)
		if err := lost.close(); err != nil {
			return fmt.Errorf("group %d: close a server: %w", n, err)
		}
		if err := os.RemoveAll(filepath.Join(raftDir(r.dir, n), hostName(host))); err != nil {
			return err
		}
		if err := until(ctx, fmt.Sprintf("group %d has a leader", n), g.find); err != nil {
			return err
		}
		leader := g.servers[int(g.leader.Load())].raft
		if err := leader.RemoveServer(raft.ServerID(hostName(host)), 0, raftTimeout).Error(); err != nil {
			return fmt.Errorf("group %d: remove a server: %w", n, err)
		}
		return nil
	})
}

func (r *raftRebuilder) replace(ctx context.Context, host int) error {
	return each(r.groups, func(n int, g *raftGroup) error {
		if err := g.replace(ctx, host, raftDir(r.dir, n)); err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		return nil
	})
}

func (g *raftGroup) replace(ctx context.Context, host int, dir string) error {
	wanted := g.newest()
	leader := g.servers[int(g.leader.Load())].raft
	id := raft.ServerID(hostName(host))
	s := &raftServer{machine: newStoringMachine()}
	g.servers[host] = s // to be closed, however far it comes
	if err := s.open(id, filepath.Join(dir, string(id))); err != nil {
		return fmt.Errorf("open the new server: %w", err)
	}
	if err := leader.AddVoter(id, s.transport.LocalAddr(), 0, raftTimeout).Error(); err != nil {
		return fmt.Errorf("add a server: %w", err)
	}
	err := until(ctx, "the new server has the newest command", func() bool {
		index, _, _ := s.stored().state()
		return index >= wanted
	})
	if err != nil {
		return err
	}
	if _, restored, entries := s.stored().state(); restored == 0 && entries > 0 {
		return errors.New("no snapshot was received: the log brought everything")
	}
	return nil
}

func (r *raftRebuilder) walk(ctx context.Context, host int, found func(key string, value ...[]byte)) error {
	for _, g := range r.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		g.servers[host].stored().walk(found)
	}
	return nil
}
