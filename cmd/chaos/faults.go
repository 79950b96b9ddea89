//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/adamantdb/adamant"
)

func (a *agent) millis(from, to int) time.Duration {
	return time.Duration(from+a.r.IntN(to-from+1)) * time.Millisecond
}

// take waits for some hosts that no other fault has to itself, and gives them back by the returned function.
func (a *agent) take(n int) (list []*host, back func()) {
	back = func() {
		for _, h := range list {
			<-h.taken
		}
		list = nil
	}
	for a.ctx.Err() == nil {
		for _, i := range a.r.Perm(len(a.hosts)) {
			select {
			case a.hosts[i].taken <- struct{}{}:
				if list = append(list, a.hosts[i]); len(list) == n {
					return list, back
				}
			default:
			}
		}
		back() // never wait while holding some
		pause(a.ctx, a.millis(5, 50))
	}
	return nil, back
}

// kill ends a process at once and starts it again.
func (a *agent) kill() error {
	list, back := a.take(1)
	defer back()
	for _, h := range list {
		a.note("kill %s", h.name)
		if err := h.stop(syscall.SIGKILL); err != nil {
			return err
		}
		a.did("kill")
		pause(a.ctx, a.millis(0, 1500))
		if err := h.start(); err != nil {
			return err
		}
		a.note("%s runs again", h.name)
	}
	return nil
}

// killMany kills several hosts at the same moment, one time of four all of them.
func (a *agent) killMany() error {
	n := 2
	if a.r.IntN(4) == 0 {
		n = len(a.hosts)
	}
	list, back := a.take(n)
	defer back()
	if list == nil {
		return nil
	}
	a.note("kill %d at once", n)
	for _, h := range list {
		if c := h.life(); c != nil {
			c.expected.Store(true)
		}
		h.signal(syscall.SIGKILL)
	}
	a.did("kill-many")
	for _, h := range list {
		if err := h.stop(syscall.SIGKILL); err != nil {
			return err
		}
		a.did("kill")
	}
	for _, h := range list {
		pause(a.ctx, a.millis(0, 300))
		if err := h.start(); err != nil {
			return err
		}
	}
	a.note("all of them run again")
	return nil
}

// stopAndGo stops a process for longer than a lease, mostly. What is asked of it meanwhile, it answers when it goes on.
func (a *agent) stopAndGo() error {
	list, back := a.take(1)
	defer back()
	for _, h := range list {
		d := a.millis(50, 3000)
		a.note("stop %s for %v", h.name, d)
		h.signal(syscall.SIGSTOP)
		pause(a.ctx, d)
		var asking sync.WaitGroup
		asked := map[*document]bool{nil: true}
		for i := range a.docs.touched {
			d := a.docs.touched[i].Load()
			if asked[d] {
				continue
			}
			asked[d] = true
			asking.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				a.read(ctx, d, h, "lease", 0)
			})
		}
		pause(a.ctx, 30*time.Millisecond)
		h.signal(syscall.SIGCONT)
		asking.Wait()
		a.did("pause")
		a.note("%s goes on", h.name)
	}
	return nil
}

func (a *agent) restart() error {
	list, back := a.take(1)
	defer back()
	for _, h := range list {
		a.note("restart %s", h.name)
		if err := h.restart(); err != nil {
			return err
		}
		a.did("restart")
	}
	return nil
}

// otherVersion replaces the program of a host by one of another version for a while, as in an upgrade to what is not compatible.
func (a *agent) otherVersion() error {
	list, back := a.take(1)
	defer back()
	others := strings.Split(a.o.Others, ",")
	other := others[a.r.IntN(len(others))]
	for _, h := range list {
		a.note("%s gets the program %s", h.name, filepath.Base(other))
		h.program = other
		if err := h.restart(); err != nil {
			return err
		}
		pause(a.ctx, a.millis(0, 3000))
		a.did("version")
		h.program = a.o.Binary
		if err := h.restart(); err != nil {
			return err
		}
		a.note("%s has its program again", h.name)
	}
	return nil
}

// restart asks a process to end, and starts it again.
func (h *host) restart() error {
	if err := h.stop(syscall.SIGTERM); err != nil {
		return err
	}
	return h.start()
}

// rolling restarts all hosts, one after the other.
func (a *agent) rolling() error {
	a.note("rolling restart")
	for _, i := range a.r.Perm(len(a.hosts)) {
		h := a.hosts[i]
		select {
		case h.taken <- struct{}{}:
		case <-a.ctx.Done():
			return nil
		}
		err := h.restart()
		<-h.taken
		if err != nil {
			return err
		}
	}
	a.did("rolling-restart")
	a.note("rolling restart is done")
	return nil
}

// fullDisk lets a host run out of room, at work and when it starts again with little: it has to stop, or may refuse to start,
// and has to go on from what it has once there is room.
func (a *agent) fullDisk() error {
	list, back := a.take(1)
	defer back()
	for _, h := range list {
		a.note("fill the disk of %s", h.name)
		h.diskFull.Store(true)
		failed, err := a.withoutRoom(h)
		if err := errors.Join(err, resize(h.dir, a.o.Disk, -1), h.stop(syscall.SIGKILL)); err != nil {
			return err
		}
		h.diskFull.Store(false)
		if failed {
			a.did("full-disk")
		} else {
			a.did("full-disk, not felt") // nothing was written in that time
		}
		if err := h.start(); err != nil {
			return err
		}
		a.note("%s has room again (it had failed: %t)", h.name, failed)
	}
	return nil
}

func (a *agent) withoutRoom(h *host) (failed bool, err error) {
	if err := resize(h.dir, a.o.Disk, 0); err != nil {
		return false, err
	}
	if failed = a.awaitFailure(h, a.millis(0, 1500)); failed {
		return true, nil
	}
	if err := h.stop(syscall.SIGKILL); err != nil {
		return false, err
	}
	if err := resize(h.dir, a.o.Disk, a.r.Int64N(1<<18)); err != nil {
		return false, err
	}
	if err := h.begin(); err != nil {
		return false, err
	}
	h.life().expected.Store(true)
	return a.awaitFailure(h, a.millis(500, 3000)), nil
}

// awaitFailure waits for a host to say that its storage failed, or to end.
func (a *agent) awaitFailure(h *host, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end) && a.ctx.Err() == nil; pause(a.ctx, 50*time.Millisecond) {
		select {
		case <-h.life().ended:
			return true
		default:
		}
		ctx, cancel := context.WithTimeout(a.ctx, time.Second)
		s, _, err := h.client.Status(ctx)
		cancel()
		if err == nil && s.Failed != "" {
			return true
		}
	}
	return false
}

// wipe takes a host's data away, when every member of every partition is whole: the design promises to survive the loss of a
// minority of disks. Other faults go on while the host comes back.
func (a *agent) wipe() error {
	if err := a.settle(a.ctx, healPatience); err != nil {
		return err
	}
	order := a.r.Perm(len(a.hosts))
	if a.r.IntN(2) == 0 {
		return a.wipeOneOfThree(a.hosts[order[0]], a.hosts[order[1]], a.hosts[order[2]])
	}
	return a.wipeOne(a.hosts[order[0]])
}

func (a *agent) wipeOne(h *host) error {
	a.note("wipe %s", h.name)
	if err := h.stop(syscall.SIGKILL); err != nil {
		return err
	}
	if err := os.RemoveAll(h.data()); err != nil {
		return err
	}
	a.did("wipe")
	return h.start()
}

// wipeOneOfThree wipes a host while another one misses the newest writes, and lets the third, which has them, come back a while
// after both: what only that one holds must not be forgotten meanwhile.
func (a *agent) wipeOneOfThree(h, down, behind *host) error {
	cut := between([]string{behind.name}, hostNames(len(a.hosts)))
	a.note("%s is cut off, and %s will be down", behind.name, down.name)
	if err := a.wires.cut(cut); err != nil {
		return err
	}
	pause(a.ctx, a.millis(100, 400))
	err := errors.Join(down.stop(syscall.SIGKILL), a.wipeOne(h), a.wires.join(cut))
	pause(a.ctx, a.millis(500, 2500))
	a.did("kill")
	return errors.Join(err, down.start())
}

// sides are two groups of hosts, the first the smaller one.
func (a *agent) sides() (few, many []string) {
	names := hostNames(len(a.hosts))
	a.r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	n := 1 + a.r.IntN(len(names)/2)
	return names[:n], names[n:]
}

// lose cuts paths for a while.
func (a *agent) lose(name string, list []path, d time.Duration) error {
	if err := a.wires.cut(list); err != nil {
		return err
	}
	pause(a.ctx, d)
	a.did(name)
	return a.wires.join(list)
}

// split cuts the cluster in two, or one host off.
func (a *agent) split() error {
	few, many := a.sides()
	d := a.millis(300, 3000)
	a.note("split %v from %v for %v", few, many, d)
	defer a.note("split of %v is over", few)
	return a.lose("split", between(few, many), d)
}

// oneWay lets a host, or a side, hear and not be heard, or the other way round.
func (a *agent) oneWay() error {
	few, many := a.sides()
	all := between(few, many)
	if a.r.IntN(2) == 0 {
		few, many = many, few
	}
	all = slices.DeleteFunc(all, func(p path) bool { return !slices.Contains(few, p.from) })
	d := a.millis(300, 3000)
	a.note("%v is not heard by %v for %v", few, many, d)
	defer a.note("%v is heard again", few)
	return a.lose("one-way", all, d)
}

// flap cuts a host off again and again.
func (a *agent) flap() error {
	few, many := a.sides()
	a.note("%v flaps", few[:1])
	defer a.note("%v does not flap any more", few[:1])
	list := between(few[:1], append(many, few[1:]...))
	for range 3 + a.r.IntN(6) {
		if err := a.wires.cut(list); err != nil {
			return err
		}
		pause(a.ctx, a.millis(50, 600))
		if err := a.wires.join(list); err != nil {
			return err
		}
		pause(a.ctx, a.millis(20, 400))
	}
	a.did("flap")
	return nil
}

// slow makes what a host sends slow.
func (a *agent) slow() error {
	h := a.hosts[a.r.IntN(len(a.hosts))].name
	d := a.millis(300, 3000)
	a.note("%s is slow for %v", h, d)
	defer a.note("%s is fast again", h)
	if err := a.wires.slow(h, +1); err != nil {
		return err
	}
	pause(a.ctx, d)
	a.did("slow")
	return a.wires.slow(h, -1)
}

// drain has a host give its leaderships away, and restarts it, which ends that.
func (a *agent) drain() error {
	list, back := a.take(1)
	defer back()
	for _, h := range list {
		a.note("drain %s", h.name)
		ctx, cancel := context.WithTimeout(a.ctx, 5*time.Second)
		err := h.client.Drain(ctx)
		cancel()
		if err != nil {
			a.note("%s keeps leaderships: %v", h.name, err) // others may be cut off
			a.did("drain, not to the end")
		} else {
			a.did("drain")
		}
		pause(a.ctx, a.millis(0, 1000))
		if err := h.restart(); err != nil {
			return err
		}
	}
	return nil
}

// transfer asks the leader of a partition to let another host lead.
func (a *agent) transfer() error {
	for _, s := range a.statuses(a.ctx) {
		for _, i := range a.r.Perm(len(s.Partitions)) {
			m := &s.Partitions[i]
			at := a.cluster.Load().Find(m.ID)
			others := slices.DeleteFunc(slices.Clone(a.cluster.Load().Partitions[at].Voters), func(name string) bool { return name == s.Host })
			if m.Role != adamant.RoleLeader || len(others) == 0 {
				continue
			}
			to := others[a.r.IntN(len(others))]
			ctx, cancel := context.WithTimeout(a.ctx, 3*time.Second)
			err := a.host(s.Host).client.Transfer(ctx, m.ID, to)
			cancel()
			a.note("transfer partition %d from %s to %s: %v", m.ID, s.Host, to, err)
			if err != nil {
				a.did("transfer, refused")
				return nil
			}
			a.did("transfer")
			return nil
		}
	}
	return nil
}
