package store

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// repairState is everything that a member and its host tell of themselves.
type repairState struct {
	held   string // what the member holds: all but its progress
	healed uint64 // a hash of every bucket's progress
	host   string // a record of the host's, and the scrub's progress
}

func repairStateOf(t testing.TB, e *DocEngine, d *Documents) repairState {
	t.Helper()
	st := d.Status()
	sums, _ := d.Summary()
	if sums != rebuild(t, d) {
		t.Fatalf("at %d the sums are not those of what is there", st.Applied)
	}
	progress := fnv.New64a()
	for b := range 256 {
		fmt.Fprintln(progress, d.Healed(uint8(b)))
	}
	note, ok, err := e.Meta("note")
	must(t, err)
	scrub, err := d.ScrubProgress()
	must(t, err)
	return repairState{held: fmt.Sprintf("applied %d, ahead %d, holes %s, complete %v, %d documents, %d bytes, %d delete records, root %s",
		st.Applied, st.Ahead, st.Holes, st.Complete, st.Documents, st.Bytes, st.DeleteRecords, st.Root),
		healed: progress.Sum64(), host: fmt.Sprintf("%q %v, %d buckets scrubbed", note, ok, scrub.Done)}
}

// repairLife is a member that is repaired, and its healthy peer.
type repairLife struct {
	t    *testing.T
	x, y *docsMember
	s    *script
	keys []Key

	session *Session
}

// repairCrashStep is a step of such a life: one batch, unless it has many, which all but the last change progress only. What a
// durable one did is there when it has returned.
type repairCrashStep struct {
	name          string
	durable, many bool
	run           func(l *repairLife)
}

// importOf begins a session for a bucket and imports what it lacks.
func importOf(bucket uint8) repairCrashStep {
	return repairCrashStep{name: fmt.Sprintf("import into bucket %d", bucket), run: func(l *repairLife) {
		l.session = l.x.BeginSession(bucket)
		theirs := pageOf(l.t, l.y.Documents, bucket, ListQuery{})
		l.session.Answer(theirs.Coverage, theirs.Applied, theirs.Ahead)
		if moved := l.x.pullHashes(l.t, l.session, l.y, bucket, theirs.Hashes(), 1<<20); moved.chunks != 1 {
			l.t.Fatalf("%d chunks", moved.chunks)
		}
	}}
}

var finishSession = repairCrashStep{name: "finish", run: func(l *repairLife) {
	_, err := l.session.Finish()
	must(l.t, err)
}}

var syncMember = repairCrashStep{name: "sync", durable: true, run: func(l *repairLife) { must(l.t, l.x.Sync()) }}

var closeHoles = repairCrashStep{name: "close holes", durable: true, run: func(l *repairLife) {
	closed, err := l.x.CloseHoles()
	if must(l.t, err); closed.Empty() {
		l.t.Fatalf("nothing was closed: %+v", l.x.Status())
	}
}}

// proveBuckets marks what a comparison at one index has shown.
func proveBuckets(first, last int) repairCrashStep {
	return repairCrashStep{name: fmt.Sprintf("prove buckets %d to %d", first, last), many: true, run: func(l *repairLife) {
		past, ok := l.x.PastAt(l.x.Applied())
		theirs, _ := l.y.Summary()
		for b := first; b <= last; b++ {
			if !ok || past.Sums[b] != theirs[b] {
				l.t.Fatalf("bucket %d: nothing to prove it by", b)
			}
			must(l.t, l.x.MarkProven(uint8(b), past))
		}
	}}
}

func setNote(name string, value []byte) repairCrashStep {
	return repairCrashStep{name: name, durable: true, run: func(l *repairLife) { must(l.t, l.x.e.SetMeta("note", value)) }}
}

func scrubTo(n int) repairCrashStep {
	return repairCrashStep{name: "scrub progress", run: func(l *repairLife) {
		must(l.t, l.x.SetScrubProgress(ScrubProgress{Done: n, Began: time.Unix(1, 0)}))
	}}
}

func followTo(index uint64) repairCrashStep {
	return repairCrashStep{name: fmt.Sprintf("apply up to %d", index), run: func(l *repairLife) { l.x.follow(l.t, l.s, index) }}
}

func holeTo(index uint64) repairCrashStep {
	return repairCrashStep{name: fmt.Sprintf("hole up to %d", index), durable: true, run: func(l *repairLife) {
		must(l.t, l.x.RecordHole(l.x.Applied()+1, index))
	}}
}

// repairCrashSteps is a life with every kind of step of repair in it, between the commands of the log.
var repairCrashSteps = []repairCrashStep{
	followTo(6), setNote("note", []byte("a")), scrubTo(3), holeTo(12), followTo(14),
	importOf(0), finishSession, importOf(1), scrubTo(4), finishSession, syncMember, importOf(2),
	finishSession, proveBuckets(3, 100), setNote("another note", []byte("b")), proveBuckets(101, 255), closeHoles,
	followTo(18),
	{name: "retry", durable: true, run: func(l *repairLife) { // what was staged is staged again
		must(l.t, l.x.Stage(l.s.log[18:20], 20))
		spoiled := errors.New("spoiled")
		l.x.stage.spoil.Store(&spoiled)
		must(l.t, l.x.Retry())
		must(l.t, l.x.Flush())
		must(l.t, l.x.Sync())
	}},
	setNote("no note", nil), holeTo(22), scrubTo(5), followTo(24),
	{name: "abandon", durable: true, many: true, run: func(l *repairLife) {
		done, err := l.x.Abandon(interval.Of(21, 22))
		if must(l.t, err); !done {
			l.t.Fatal("nothing was given up")
		}
	}},
	setNote("last note", []byte("c")), followTo(26),
}

// TestCrashDuringRepair crashes each step of repair at each operation on the disk: the member is as before a step or as after it, and
// what was said to be durable is. What was opened after a crash may crash again.
func TestCrashDuringRepair(t *testing.T) {
	for seed := range crashSeeds() {
		rec := newCrashRecorder(80 + seed)
		l := newRepairLife(t, rec)
		states := []repairState{repairStateOf(t, l.x.e, l.x.Documents)}
		rec.start()
		for i, step := range repairCrashSteps {
			rec.writing(i + 1)
			step.run(l)
			states = append(states, repairStateOf(t, l.x.e, l.x.Documents))
			if step.durable {
				rec.acknowledged(i + 1)
			}
			rec.take()
		}
		must(t, l.x.e.Close())
		again := 0
		for n, image := range rec.images {
			again += verifyRepairCrash(t, n, image, states)
		}
		if t.Logf("%d images, %d crashes of openings", len(rec.images), again); len(rec.images) < 50 || again < 30 {
			t.Error("hardly anything was crashed")
		}
	}
}

func newRepairLife(t *testing.T, rec *crashRecorder) *repairLife {
	t.Helper()
	l := &repairLife{t: t, y: newDocsMember(t), s: newScript()}
	for i := range 6 {
		l.keys = append(l.keys, keyInBucket(FullRange(), uint8(i%3), i))
		l.s.create(l.keys[i], 10)
	}
	for i := range 20 {
		if i == 3 { // within the hole
			l.s.delete(l.keys[5])
		} else {
			l.s.append(l.keys[i%5], 1, 10)
		}
	}
	l.y.follow(t, l.s, 14)
	e, d := openMember(t, testOptions(rec.fs()))
	l.x = &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
	must(t, e.Sync())
	return l
}

// verifyRepairCrash opens an image and returns how often its opening was crashed.
func verifyRepairCrash(t *testing.T, n int, image crashImage, states []repairState) int {
	t.Helper()
	left := wholeClone(image.fs)
	open := func(fs vfs.FS) repairState {
		t.Helper()
		e, d := openMember(t, testOptions(fs))
		defer func() { must(t, e.Close()) }()
		return repairStateOf(t, e, d)
	}
	have := open(image.fs)
	last := min(image.written, len(states)-1)
	within := func(i int) bool { // a step with many batches
		return i > 0 && repairCrashSteps[i-1].many && have.held == states[i-1].held && have.host == states[i-1].host
	}
	found := slices.Contains(states[image.durable:last+1], have)
	for i := image.durable; i <= last; i++ {
		found = found || within(i)
	}
	if !found {
		t.Fatalf("image %d, during %s: %+v\nis none of the states from\n%+v\nto\n%+v", n, repairCrashSteps[max(last, 1)-1].name, have,
			states[image.durable], states[last])
	}
	if n%10 > 0 {
		return 0
	}
	return crashAgain(left, uint64(n), func(fs vfs.FS, again bool) {
		t.Helper()
		if now := open(fs); now != have {
			t.Fatalf("image %d: a crash while a crash was recovered from: %+v, was %+v", n, now, have)
		}
	})
}
