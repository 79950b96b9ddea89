package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/simdisk"
)

// aside stops a host and lets its disk be lost, once everything that is committed is held by the other voters: another copy of
// something might be the only one, and the design promises no more. One step at a time does this. It returns nil when the
// others are not so far in time, and the host goes on; else the machine, and done must be called.
func (w *world) aside(s step) (m *machine, done func()) {
	w.wiping <- struct{}{}
	done = func() { <-w.wiping }
	if other := w.mayBeDamaged(s.Hosts); other != "" {
		w.note("no %s: the disk of %s may be damaged yet", s, other)
		done()
		return nil, nil
	}
	if err := w.settle(false, 5*time.Second); err != nil {
		w.note("no %s: %v", s, err)
		done()
		return nil, nil
	}
	if m := w.stop(s); m != nil {
		return m, done
	}
	done()
	return nil, nil
}

// stop stops a host of a step that the others can do without; nil when there is none.
func (w *world) stop(s step) *machine {
	for _, m := range w.crash(0, s.Hosts...) {
		err := w.othersHold(m)
		for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); err = w.othersHold(m) {
			time.Sleep(50 * time.Millisecond)
		}
		if err == nil {
			return m
		}
		w.note("no %s: %v", s, err)
		w.open(m)
	}
	return nil
}

// mayBeDamaged names another machine than those given whose disk was damaged so lately that not all of it was read since: what
// is wrong there, or refused at its next start, would be the second copy that is lost.
func (w *world) mayBeDamaged(hosts []string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.flipped) > 2*w.scrubWithin() {
		return ""
	}
	for name, m := range w.machines {
		if m.damaged && !slices.Contains(hosts, name) {
			return name
		}
	}
	return ""
}

// othersHold says which other voter of a host that is down does not hold everything that is committed. Nobody but the others can
// commit anything meanwhile.
func (w *world) othersHold(down *machine) error {
	known := knowledge{committed: map[uint32]uint64{}, terms: map[uint32]uint64{}}
	voters := w.voters(known)
	states := w.states()
	for id := range w.plan.Voters {
		id, served := uint32(id), false
		for host, incarnation := range voters[id] {
			p, up := states[host+"@"+incarnation][id]
			switch {
			case host == down.name:
			case !up:
				return fmt.Errorf("partition %d: %s is down", id, host)
			case len(lacking(p, known.committed[id])) > 0:
				return fmt.Errorf("partition %d: %s lacks %s", id, host, lacking(p, known.committed[id]))
			}
			served = served || p.Serving && host != down.name
		}
		if !served {
			return fmt.Errorf("partition %d is not served", id)
		}
	}
	return nil
}

// wipe replaces a disk by an empty one.
func (w *world) wipe(s step) bool {
	m, done := w.aside(s)
	if m == nil {
		return false
	}
	defer done()
	w.replaceDisk(m)
	time.Sleep(s.For)
	w.open(m)
	w.healed(15 * time.Second)
	return true
}

// replaceDisk gives a machine an empty one.
func (w *world) replaceDisk(m *machine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.disk, m.damaged = simdisk.New(), false
	w.lostDisks[m.incarnation] = true
	w.note("%s has an empty disk", m.name)
}

// refuse replaces a disk that was damaged, and is not opened for it. That was lost when it was damaged, while the others held everything; by
// now one of them may have fallen behind.
func (w *world) refuse(m *machine) {
	w.mu.Lock()
	w.refused[m.incarnation] = true
	w.mu.Unlock()
	w.replaceDisk(m)
}

// flip inverts bits of a host's files. A host that can not be opened any more gets an empty disk: its operator sees the error. So does one
// whose log was hit, in the end: nobody reads a log before it is needed, and it may be needed when another disk is lost.
func (w *world) flip(s step) bool {
	m, done := w.aside(s)
	if m == nil {
		return false
	}
	defer done()
	bits, log := 0, false
	if s.N > 0 {
		bits, log = w.invert(m, s.N, "")
		time.Sleep(s.For / 4)
	}
	w.open(m)
	if s.N < 0 { // tables only: what is written ahead is read by nobody before the next start
		bits, log = w.invert(m, -s.N, ".sst")
		time.Sleep(s.For)
	}
	w.count(bitsFlip, bits)
	switch healed := w.healed(15 * time.Second); {
	case !healed && w.hasNone(m):
		for _, m := range w.crash(0, m.name) { // its operator sees that a member can not be opened
			w.replaceDisk(m)
			w.open(m)
		}
		w.healed(15 * time.Second)
	case log && w.mayBeRefused(m):
		if m := w.stop(s); m != nil {
			w.replaceDisk(m)
			w.open(m)
			w.healed(15 * time.Second)
		}
	}
	return bits > 0
}

// hasNone reports whether a host is up with a member that does not run.
func (w *world) hasNone(m *machine) bool {
	h, _ := w.up(m)
	return h != nil && slices.ContainsFunc(h.Status().Partitions, func(p adamant.PartitionStatus) bool { return p.Role == adamant.RoleNone })
}

// invert returns how many bits it found to invert, and whether some are of the log.
func (w *world) invert(m *machine, bits int, in string) (n int, log bool) {
	w.mu.Lock()
	rng, d := rand.New(rand.NewPCG(w.rng.Uint64(), 4)), m.disk
	m.damaged, w.flipped = true, time.Now()
	w.mu.Unlock()
	for range bits {
		where, err := d.Flip(rng, in)
		if err != nil {
			w.complain("%s: %v", m.name, err)
		}
		if where != "" {
			n++
		}
		log = log || strings.Contains(where, "/log/")
		w.note("%s: %s", m.name, where)
	}
	return n, log
}

// healed waits until the cluster has nothing to heal any more, for some time; the end of the run says whether it took too long.
func (w *world) healed(within time.Duration) bool {
	err := w.settle(false, within)
	if err != nil {
		w.note("not healed yet: %v", err)
	}
	return err == nil
}

// restore puts back an old copy of a host's directory. It has forgotten what it has acknowledged since, so that this is survived
// like a lost disk: once everything is on the others, too.
func (w *world) restore(s step) (old bool) {
	m, done := w.aside(s)
	if m == nil {
		return false
	}
	defer done()
	w.mu.Lock()
	copied := w.backups[m.name]
	if old = copied.incarnation == m.incarnation; old { // the directory of a disk that was replaced is another server's, which was removed
		m.disk = copied.disk.Backup()
		w.note("%s has an old copy of its directory", m.name)
	}
	w.mu.Unlock()
	time.Sleep(s.For)
	w.open(m)
	w.healed(15 * time.Second)
	return old
}

// backup is a copy of a directory.
type backup struct {
	disk        *simdisk.Disk
	incarnation string
}

// backUp copies every host's directory.
func (w *world) backUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, m := range w.machines {
		w.backups[n] = backup{m.disk.Backup(), m.incarnation}
	}
}

// breakDisk arms a fault of a host's disk; what it stops is replaced by replaceFailed.
func (w *world) breakDisk(s step) bool {
	w.mu.Lock()
	m := w.machines[s.Hosts[0]]
	d, up := m.disk, m.host != nil
	w.mu.Unlock()
	if !up {
		return false // a Pebble that fails to open may panic on a goroutine of its own
	}
	where := places[s.N%len(places)]
	fault, waits := diskFaults[s.Kind], d.Waits()
	before := d.Struck(fault)
	switch {
	case s.Kind == failRead:
		d.Arm(fault, ".sst")
	case s.Kind != slowDisk:
		d.Arm(fault, where)
	case *slowDisks:
		d.Slow(time.Duration(s.N)*time.Millisecond, "")
	}
	time.Sleep(s.For)
	hit := d.Struck(fault) > before
	if s.Kind == slowDisk {
		hit = *slowDisks && d.Waits() > waits
	}
	w.mend(d)
	return hit
}

// places are whose files fail while a host runs. The list of tables (MANIFEST) is not among them: when it can not be written, Pebble's own
// goroutine blocks for ever with a lock held (package store, failStop), and time would stand still.
var places = []string{"/log/*.log", "/documents/*.log", "*.log", "/documents/*.sst", "/log/*.sst"}

// failOpen restarts a host with a fault in its way, once: of what it reads, or of what it writes. Its operator tries again. What the fault
// stopped is left as a crash would leave it. Engines write while they open, too; one that can not leaves a goroutine of Pebble's
// waiting for a lock, so that this needs simulated time that goes on meanwhile, as slow disks do.
func (w *world) failOpen(s step) (hit bool) {
	var d *simdisk.Disk
	faults := []simdisk.Fault{simdisk.FailRead, simdisk.FailWrite, simdisk.FailSync, simdisk.Full}
	fault, where := faults[s.N%4], []string{"", "/documents/", "/log/", "MANIFEST"}[s.N/4%4]
	if fault != simdisk.FailRead && !*slowDisks {
		fault = simdisk.FailRead
	}
	var room *time.Timer
	w.restart(s, func(m *machine) {
		w.mu.Lock()
		defer w.mu.Unlock()
		m.opening = func(now *simdisk.Disk) {
			d = now
			d.Arm(fault, where)
			room = time.AfterFunc(fullFor, d.Mend) // an engine that has to write before it is open waits until there is room
		}
	})
	if room != nil {
		room.Stop()
	}
	if d == nil {
		return false
	}
	if hit = d.Struck(fault) > 0; hit && fault != simdisk.FailRead {
		w.engines.Add(1) // which was never open
	}
	d.Mend()
	return hit
}

// fullFor is how long a disk is full at the most while a host opens.
const fullFor = 5 * time.Second

var diskFaults = map[string]simdisk.Fault{failSync: simdisk.FailSync, failIO: simdisk.FailWrite, full: simdisk.Full, failRead: simdisk.FailRead}

// mend ends the faults of a disk.
func (w *world) mend(d *simdisk.Disk) {
	d.Mend()
	if *slowDisks {
		d.Slow(w.plan.Fsync, "")
	}
}

// mayBeRefused reports whether a machine's disk was damaged.
func (w *world) mayBeRefused(m *machine) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.damaged
}
