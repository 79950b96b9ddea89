package sim

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// spoilRepair has a host that has something to heal get bad answers for some time, or lose who answers. It reports whether any
// answer was concerned that lists documents or brings some.
func (w *world) spoilRepair(s step) bool {
	w.mu.Lock()
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 5))
	w.mu.Unlock()
	b := &spoiler{w: w, s: s, rng: rng}
	m, done := w.sicken(s)
	if m == nil {
		return false
	}
	defer done()
	w.spoil(b, true)
	w.open(m)
	least := time.Now().Add(s.For)
	for end := time.Now().Add(max(s.For, sickFor)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(least) && w.settled(false) == nil {
			break
		}
	}
	w.spoil(b, false)
	b.follows.Wait()
	w.healed(15 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	return b.did > 0
}

// sickFor is how long a bad source has at least to be asked, and missFor how long a host is away to miss something.
const (
	sickFor = 8 * time.Second
	missFor = 4 * time.Second
)

// sicken takes a host down that is to heal once it is opened. It returns nil when that can not be; else done must be called.
func (w *world) sicken(s step) (*machine, func()) {
	if !s.Missed {
		m, done := w.aside(step{Kind: s.Kind, Hosts: []string{s.Victim}})
		if m != nil {
			w.replaceDisk(m)
		}
		return m, done
	}
	w.wiping <- struct{}{}
	done := func() { <-w.wiping }
	for _, m := range w.crash(0, s.Victim) {
		time.Sleep(missFor)
		return m, done
	}
	done()
	return nil, nil
}

// spoiler alters what some hosts answer to another one's repair.
type spoiler struct {
	w       *world
	s       step
	follows sync.WaitGroup // what follows upon an answer

	rng   *rand.Rand // guarded by world.mu, like the rest
	last  []byte
	liar  string // the first that answered with something to heal by
	count int    // answers that list documents or bring some
	did   int    // those that were altered, or that something followed upon
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
	if m.Reply && m.Request.Service == mesh.ServiceRepair && m.To == b.s.Victim && slices.Contains(b.s.Hosts, m.From) {
		return b.reply(m)
	}
	return m.Payload, nil
}

// reply is what becomes of one answer. Bits that flip on the way are no matter of it: frames have checksums.
func (b *spoiler) reply(m simnet.Message) ([]byte, error) {
	w := b.w
	w.mu.Lock()
	defer w.mu.Unlock()
	old, large := b.last, antientropy.Substantial(m.Payload)
	b.last = m.Payload
	if large {
		b.count++
	}
	switch b.s.Kind {
	case dying:
		if large && b.count == b.s.N {
			b.follow(func() bool { return w.crashed(step{Hosts: []string{m.From}, For: b.s.For}) })
		}
		return m.Payload, nil
	case deposed:
		if large && b.count == b.s.N {
			b.follow(func() bool { return w.depose(m.From, b.s.Victim) })
		}
		return m.Payload, nil
	}
	if b.liar == "" && large {
		b.liar = m.From
	}
	if b.liar != m.From { // who lied is left alone for minutes: with none but liars nobody heals in time
		return m.Payload, nil
	}
	odds := 10
	if !large {
		odds = 60 // who lies in a comparison is not asked for more
	}
	if b.rng.IntN(odds) >= b.s.N {
		return m.Payload, nil
	}
	payload, name, err := b.lie(m, old)
	if large {
		b.did++
		w.count(name, 1)
	}
	return payload, err
}

// follow does what an answer is the occasion for.
func (b *spoiler) follow(do func() bool) {
	b.follows.Go(func() {
		if do() {
			b.w.mu.Lock()
			b.did++
			b.w.mu.Unlock()
		}
	})
}

// Names of lies whose form is wrong. Those in good form are antientropy's falsehoods.
const (
	lieShort    = "lie: cut short"
	lieRefused  = "lie: refused"
	lieRepeated = "lie: of an earlier question"
	lieLong     = "lie: too long"
)

// lieNames are all of them.
func lieNames() []string {
	list := []string{lieShort, lieRefused, lieRepeated, lieLong}
	for f := range antientropy.Falsehoods {
		list = append(list, lieName(f))
	}
	return list
}

func lieName(f antientropy.Falsehood) string { return "lie: " + f.String() }

// lie says something else than an answer, and names what. old is the answer before.
func (b *spoiler) lie(m simnet.Message, old []byte) (_ []byte, name string, _ error) {
	reply := m.Payload
	switch b.rng.IntN(12) {
	case 0:
		return nil, lieRefused, errors.New("no answer today")
	case 1:
		return append(slices.Clone(reply), byte(b.rng.Uint32())), lieLong, nil
	case 2:
		if old != nil {
			return old, lieRepeated, nil // to another question, in truth
		}
	case 3:
	default:
		for _, f := range b.falsehoods() {
			if other, ok := antientropy.Falsify(m.Request.Payload, reply, f, b.rng); ok {
				return other, lieName(f), nil
			}
		}
	}
	return reply[:b.rng.IntN(len(reply)+1)], lieShort, nil
}

// falsehoods are all of them in some order: mostly those first that few answers have an occasion for.
func (b *spoiler) falsehoods() (list []antientropy.Falsehood) {
	rare := []antientropy.Falsehood{antientropy.MissingRow, antientropy.InventedRow, antientropy.OtherDocument}
	always := []antientropy.Falsehood{antientropy.LessCoverage, antientropy.MoreCoverage}
	b.rng.Shuffle(len(rare), func(i, j int) { rare[i], rare[j] = rare[j], rare[i] })
	b.rng.Shuffle(len(always), func(i, j int) { always[i], always[j] = always[j], always[i] })
	if b.rng.IntN(4) == 0 {
		return append(always, rare...)
	}
	return append(rare, always...)
}

// depose moves leaderships: from a host to another, and to it from others. The victim gets none.
func (w *world) depose(host, victim string) (moved bool) {
	for name, h := range w.live() {
		for _, p := range h.Status().Partitions {
			to := host
			for _, m := range p.Members {
				if name == host && m.Voter && m.Host != host && m.Host != victim {
					to = m.Host
				}
			}
			if p.Role != adamant.RoleLeader || to == name {
				continue
			}
			ctx, cancel := within(time.Second)
			moved = h.Transfer(ctx, p.ID, to) == nil || moved
			cancel()
		}
	}
	return moved
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
