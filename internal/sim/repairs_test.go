package sim

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// spoilRepair has a host be a bad source of repair for some time.
func (w *world) spoilRepair(s step) bool {
	w.mu.Lock()
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 5))
	w.mu.Unlock()
	b := &spoiler{w: w, s: s, rng: rng}
	w.spoil(b, true)
	time.Sleep(s.For)
	w.spoil(b, false)
	w.mu.Lock()
	defer w.mu.Unlock()
	return b.did > 0
}

// spoiler alters what one host answers to repair.
type spoiler struct {
	w     *world
	s     step
	rng   *rand.Rand // guarded by world.mu, like the rest
	last  []byte
	count int
	did   int // answers that were altered, or that something followed upon
}

// spoil puts somebody in front of the messages, or takes it away.
func (w *world) spoil(b interpreter, on bool) {
	w.mu.Lock()
	if on {
		w.interpreters = append(w.interpreters, b)
	} else {
		w.interpreters = slices.DeleteFunc(w.interpreters, func(o interpreter) bool { return o == b })
	}
	list := slices.Clone(w.interpreters)
	w.mu.Unlock()
	if len(list) == 0 {
		w.net.Alter(nil)
		return
	}
	w.net.Alter(func(m simnet.Message) (_ []byte, err error) {
		for _, b := range list {
			if m.Payload, err = b.alter(m); err != nil {
				return nil, err
			}
		}
		return m.Payload, nil
	})
}

// interpreter makes something else of what is said.
type interpreter interface {
	alter(m simnet.Message) ([]byte, error)
}

func (b *spoiler) alter(m simnet.Message) ([]byte, error) {
	if m.Reply && m.Request.Service == mesh.ServiceRepair && slices.Contains(b.s.Hosts, m.From) {
		return b.reply(m.Payload)
	}
	return m.Payload, nil
}

// reply is what becomes of one answer. Bits that flip on the way are no matter of it: frames have checksums.
func (b *spoiler) reply(reply []byte) ([]byte, error) {
	w := b.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b.count++
	old := b.last
	b.last = reply
	switch b.s.Kind {
	case dying:
		if b.count == 1 {
			b.did++
			w.work.Go(func() { w.crashed(step{Hosts: b.s.Hosts, For: b.s.For}) })
		}
		return reply, nil
	case deposed:
		if b.count == 1 {
			b.did++
			w.work.Go(func() { w.depose(b.s) })
		}
		return reply, nil
	}
	if b.rng.IntN(10) >= b.s.N {
		return reply, nil
	}
	b.did++
	switch b.rng.IntN(4) {
	case 0:
		return reply[:b.rng.IntN(len(reply)+1)], nil
	case 1:
		return nil, errors.New("no answer today")
	case 2:
		if old != nil {
			return old, nil // to another question, in truth
		}
	}
	return append(reply, byte(b.rng.Uint32())), nil
}

// depose moves what a host leads elsewhere.
func (w *world) depose(s step) {
	for _, h := range w.plan.Hosts {
		if !slices.Contains(s.Hosts, h) {
			w.transfer(step{Hosts: []string{h}, For: s.For})
			return
		}
	}
}

// strange sends a host what another version might, and what nobody would, in the name of a peer that is down meanwhile.
func (w *world) strange(s step) (heard bool) {
	to := s.Hosts[0]
	name := w.plan.Hosts[(slices.Index(w.plan.Hosts, to)+1)%len(w.plan.Hosts)]
	w.restart(step{Hosts: []string{name}, For: s.For}, func(m *machine) {
		h, _ := w.up(w.machines[to])
		heard = h != nil
		w.mu.Lock()
		rng, id := rand.New(rand.NewPCG(w.rng.Uint64(), 6)), mesh.Identity{Cluster: "sim", Host: m.name, Incarnation: m.incarnation}
		w.mu.Unlock()
		other := w.net.Host(id)
		for range 40 {
			payload := make([]byte, rng.IntN(40))
			for i := range payload {
				payload[i] = byte(rng.Uint32())
			}
			service := []mesh.Service{mesh.ServiceHost, mesh.ServiceRepair, mesh.ServiceRaft}[rng.IntN(3)]
			switch {
			case service == mesh.ServiceHost && len(payload) > 1:
				payload[0], payload[1] = 1, 2+byte(rng.IntN(200)) // a report of another version
			case service == mesh.ServiceRaft:
				payload = payload[:min(len(payload), 3)] // longer ones might mean something
			}
			r := mesh.Request{Service: service, Partition: uint32(rng.IntN(len(w.plan.Voters) + 1)), Payload: payload, Timeout: time.Second}
			got, err := other.Start(mesh.Target{Host: to}, r).Result()
			if err == nil && service == mesh.ServiceHost && len(payload) > 1 {
				w.complain("%s answers %q to the report %q of another version", to, got, payload)
			}
		}
		_ = other.Close()
	})
	return heard
}
