package sim

import (
	"slices"
	"time"

	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// What another version of the program says in another way (step.N).
const (
	otherLinks = iota
	otherRepair
	otherReports
)

// otherVersion has a host's program be replaced by one of another version, and put back: as in an upgrade that is not one to
// a compatible version, or that stops half way. Whatever the host still does with the others has to be right.
func (w *world) otherVersion(s step) bool {
	d := &dialect{hosts: s.Hosts, what: s.N}
	speak := func(on bool) {
		if s.N != otherLinks {
			w.spoil(d, on)
			return
		}
		v := uint8(0)
		if on {
			v = 2
		}
		for _, h := range s.Hosts {
			w.net.Speak(h, v)
		}
	}
	const pause = 100 * time.Millisecond
	replaced := false
	w.restart(step{Hosts: s.Hosts, For: pause}, func(*machine) {
		speak(true)
		replaced = true
	})
	if !replaced {
		return false // the host is down, or about to be
	}
	time.Sleep(s.For)
	back := false
	w.restart(step{Hosts: s.Hosts, For: pause}, func(*machine) {
		speak(false)
		back = true
	})
	if !back {
		speak(false) // it is down; what comes up is the program that it was
	}
	return true
}

// dialect is what the hosts of another version say to those of this one, and hear from them: each side finds a version in front that
// it does not know.
type dialect struct {
	hosts []string
	what  int
}

func (d *dialect) alter(m simnet.Message) ([]byte, error) {
	if slices.Contains(d.hosts, m.From) == slices.Contains(d.hosts, m.To) {
		return m.Payload, nil
	}
	at := 0
	switch {
	case d.what == otherRepair && m.Request.Service == mesh.ServiceRepair:
	case d.what == otherReports && m.Request.Service == mesh.ServiceHost && !m.Reply && len(m.Payload) > 0 && m.Payload[0] == reportCall:
		at = 1
	default:
		return m.Payload, nil
	}
	if len(m.Payload) > at {
		m.Payload[at] += 100
	}
	return m.Payload, nil
}

// reportCall is the first byte of a report from host to host (the root package's service.go); the version follows it.
const reportCall = 1
