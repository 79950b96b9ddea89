package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/internal/simdisk"
	"github.com/adamantdb/adamant/internal/spoil"
)

// salvageRun is a host with three partitions, small enough for one table, and a healthy peer of each.
type salvageRun struct {
	t      *testing.T
	mem    *simdisk.Disk
	files  vfs.FS // mem, perhaps with somebody between; nil: mem
	e      *DocEngine
	mine   map[uint32]*docsMember
	peers  map[uint32]*docsMember
	table  string
	size   int64
	script *script
}

var salvaged = []uint32{7, 8, 9}

func newSalvageRun(t *testing.T) *salvageRun {
	t.Helper()
	r := &salvageRun{t: t, mem: simdisk.New(), peers: map[uint32]*docsMember{}, script: newScript()}
	for i, bucket := range []uint8{0, 1, 2, 100, 200, 254, 255} {
		key := keyInBucket(FullRange(), bucket, i)
		r.script.create(key, 10)
		r.script.append(key, 4, 700)
	}
	peer, err := OpenDocs(testOptions(vfs.NewMem()))
	must(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	r.open()
	for _, p := range salvaged {
		d, err := peer.Member(p, FullRange())
		must(t, err)
		r.peers[p] = &docsMember{d, peer, wantRoom{maxWantRanges, maxWantScan}}
		for _, m := range []*docsMember{r.peers[p], r.mine[p]} {
			m.follow(t, r.script, r.script.last())
		}
	}
	must(t, r.e.SetMeta("note", []byte("kept")))
	must(t, r.e.db.Flush())
	must(t, r.e.db.Compact(context.Background(), []byte{0}, []byte{0xff, 0xff, 0xff, 0xff, 0xff}, false))
	r.reopen()
	names, err := r.mem.List("docs")
	must(t, err)
	for _, name := range names {
		if info, err := r.mem.Stat(r.mem.PathJoin("docs", name)); err == nil && strings.HasSuffix(name, ".sst") && info.Size() > r.size {
			r.table, r.size = r.mem.PathJoin("docs", name), info.Size()
		}
	}
	return r
}

func (r *salvageRun) open() {
	r.t.Helper()
	must(r.t, r.tryOpen())
}

func (r *salvageRun) tryOpen() error {
	o := testOptions(r.mem)
	if r.files != nil {
		o.FS = r.files
	}
	o.CacheBytes, o.HeadCache = 1, 1
	e, err := OpenDocs(o)
	if err != nil {
		return err
	}
	r.e, r.mine = e, map[uint32]*docsMember{}
	for _, p := range salvaged {
		d, err := e.Member(p, FullRange())
		if err != nil {
			return errors.Join(err, e.Close())
		}
		r.mine[p] = &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
	}
	return nil
}

func (r *salvageRun) reopen() {
	r.t.Helper()
	must(r.t, r.e.Close())
	r.open()
}

// flip inverts a bit of the table beneath the open engine.
func (r *salvageRun) flip(at int64) {
	r.t.Helper()
	must(r.t, spoil.Flip(r.mem, r.table, at))
}

// scrub does what a scrubber does, to all that is there; it returns what was found.
func (r *salvageRun) scrub() (found []string) {
	r.t.Helper()
	for _, p := range salvaged {
		for b := range 256 {
			m := r.mine[p]
			report, err := m.ScrubBucket(context.Background(), uint8(b), nil)
			must(r.t, err)
			if report.Found == 0 {
				continue
			}
			found = append(found, fmt.Sprintf("partition %d: bucket %d: %v", p, b, report.Findings))
			done, err := m.Damage(uint8(b), report.Damaged)
			must(r.t, err)
			if done.Unreclaimed != "" {
				_, err := m.Reclaim(uint8(b), func(uint32) error { return nil })
				must(r.t, err)
			}
		}
	}
	return found
}

// mustHeal expects that after one scrub and a pull nothing damaged is left anywhere, and everything is as before.
func (r *salvageRun) mustHeal() {
	r.t.Helper()
	if found := r.scrub(); len(found) == 0 {
		r.t.Fatal("nothing was found")
	}
	r.pull()
}

// pull heals whoever needs it.
func (r *salvageRun) pull() {
	r.t.Helper()
	for _, p := range salvaged {
		if m := r.mine[p]; !m.Complete() {
			m.pullAll(r.t, r.peers[p])
		}
	}
	if again := r.scrub(); len(again) > 0 {
		r.t.Fatalf("after healing: %s", again)
	}
	must(r.t, r.e.db.Compact(context.Background(), []byte{0}, []byte{0xff, 0xff, 0xff, 0xff, 0xff}, false))
	r.reopen()
	for _, p := range salvaged {
		m := r.mine[p]
		if !m.Complete() {
			r.t.Fatalf("partition %d is not complete: %+v", p, m.Status())
		}
		m.mustEqual(r.t, r.peers[p])
		if got, _ := m.Summary(); got != rebuild(r.t, m.Documents) {
			r.t.Fatalf("partition %d: the sums are not those of what is there", p)
		}
		for key := range r.script.heads {
			if _, _, err := m.Documents.Head(key); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if v, ok, err := r.e.Meta("note"); err != nil || !ok || string(v) != "kept" {
		r.t.Fatalf("the host's record: %q, %v, %v", v, ok, err)
	}
}

// TestEveryBlockHeals: wherever a bit of a table is wrong, in blocks of several partitions, in their own records or the host's, in
// indexes and filters, one scrub finds it and gets rid of it, and everything heals.
func TestEveryBlockHeals(t *testing.T) {
	r := newSalvageRun(t)
	places := r.frame()
	maps.Copy(places, r.data())
	places["footer"] = r.size - 1
	must(t, r.e.Close())
	for i, name := range slices.Sorted(maps.Keys(places)) {
		if slowBuild && i%3 > 0 {
			continue
		}
		at := places[name]
		t.Run(name, func(t *testing.T) {
			r := newSalvageRun(t)
			r.flip(at)
			r.mustHeal()
			r.leavesNothingOpen()
		})
	}
}

// TestFramesAreScrubbed: the scrub of any bucket looks at all of its tables but other buckets' records; not only that of the first one, whose
// tables may be others.
func TestFramesAreScrubbed(t *testing.T) {
	r := newSalvageRun(t)
	places := r.frame()
	places["footer"] = r.size - 3
	must(t, r.e.Close())
	for name, at := range places {
		t.Run(name, func(t *testing.T) {
			r := newSalvageRun(t)
			defer func() { _ = r.e.Close() }()
			r.flip(at)
			if report, err := r.mine[8].ScrubBucket(context.Background(), 100, nil); err != nil || report.Found == 0 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// frame is where the table's blocks are that hold no records.
func (r *salvageRun) frame() map[string]int64 {
	r.t.Helper()
	places := map[string]int64{}
	levels, err := r.e.db.SSTables()
	must(r.t, err)
	for _, tables := range levels {
		for i := range tables {
			if !strings.HasSuffix(r.table, fmt.Sprintf("%06d.sst", uint64(tables[i].BackingSSTNum))) {
				continue
			}
			must(r.t, r.e.withTable(&tables[i], func(table *sstable.Reader) error {
				layout, err := table.Layout()
				must(r.t, err)
				blocks := map[string]block.Handle{"index": layout.Index[0], "properties": layout.Properties, "list of blocks": layout.MetaIndex}
				for n, f := range layout.Filter {
					blocks[fmt.Sprint("filter ", n)] = f.Handle
				}
				for name, b := range blocks {
					places[name] = int64(b.Offset + b.Length/2)
				}
				return nil
			}))
		}
	}
	if len(places) < 4 {
		r.t.Fatalf("the table has only %v", places)
	}
	return places
}

// data returns where data blocks of the table begin, of all that there are a dozen.
func (r *salvageRun) data() map[string]int64 {
	r.t.Helper()
	places := map[string]int64{}
	for i := range int64(12) {
		at, err := spoil.Block(r.mem, r.table, i*r.size/12)
		must(r.t, err)
		places[fmt.Sprint("data at ", at)] = at
	}
	return places
}

// TestDamagedTableIsClosed: a table that can not be opened is closed again, each time that a scrub looks at it.
func TestDamagedTableIsClosed(t *testing.T) {
	r := newSalvageRun(t)
	r.flip(r.size - 3) // the footer
	if found := r.scrub(); len(found) == 0 {
		t.Fatal("nothing was found")
	}
	r.leavesNothingOpen()
}

// leavesNothingOpen closes the engine.
func (r *salvageRun) leavesNothingOpen() {
	r.t.Helper()
	must(r.t, r.e.Close())
	if list := r.mem.Handles(); len(list) > 0 {
		r.t.Errorf("still open: %s", list)
	}
}

// TestHostRecordsAreScrubbed: a table of nothing but the host's records is looked at as well, before a start fails for it, although
// the engine has its frame in memory.
func TestHostRecordsAreScrubbed(t *testing.T) {
	r := newSalvageRun(t)
	defer func() { _ = r.e.Close() }()
	must(t, r.e.SetMeta("late", []byte("kept")))
	must(t, r.e.db.Flush())
	if found := r.scrub(); len(found) > 0 {
		t.Fatalf("of sound tables: %s", found)
	}
	levels, err := r.e.db.SSTables(pebble.WithKeyRangeFilter(spot{hostPartition, ownRecords}.keys()))
	must(t, err)
	newest := levels[0][0]
	r.table = r.mem.PathJoin("docs", fmt.Sprintf("%06d.sst", uint64(newest.BackingSSTNum)))
	r.flip(int64(newest.Size) - 3)
	r.mustHeal()
	if v, ok, err := r.e.Meta("late"); err != nil || !ok || string(v) != "kept" {
		t.Errorf("%q, %v, %v", v, ok, err)
	}
}

// TestSalvageAsks: what lies with damage in other partitions goes only when that is allowed, and else nothing does.
func TestSalvageAsks(t *testing.T) {
	r := newSalvageRun(t)
	defer func() { _ = r.e.Close() }()
	r.flip(r.size - 3) // the footer: nothing of the table can be read
	if _, err := r.mine[8].Damage(100, Damaged{Whole: true}); err != nil {
		t.Fatal(err)
	}
	forbidden := errors.New("forbidden")
	var asked []uint32
	_, err := r.mine[8].Reclaim(100, func(p uint32) error {
		if asked = append(asked, p); p == 9 {
			return forbidden
		}
		return nil
	})
	if !errors.Is(err, forbidden) || !slices.Equal(asked, []uint32{7, 9}) {
		t.Fatalf("asked %d: %v", asked, err)
	}
	if !r.mine[7].Complete() || !r.mine[9].Complete() {
		t.Error("something was given up")
	}
	if _, err := r.mine[8].Reclaim(100, nil); !errors.Is(err, errBeyond) {
		t.Errorf("nobody to ask: %v", err)
	}
	reports, err := r.mine[8].Reclaim(100, func(uint32) error { return nil })
	must(t, err)
	for _, p := range salvaged {
		if len(reports[p].Buckets) != 256 || r.mine[p].Complete() {
			t.Errorf("partition %d: %+v, complete %v", p, reports[p], r.mine[p].Complete())
		}
	}
}

// TestSalvageOutlivesACrash: when damage is cut out, the records of its members and of the host that lay with it are durable.
func TestSalvageOutlivesACrash(t *testing.T) {
	r := newSalvageRun(t)
	r.flip(r.size - 3)
	_, err := r.mine[8].Reclaim(100, func(uint32) error { return nil })
	must(t, err)
	r.mem = r.mem.Image(0, nil)
	must(t, r.e.Close())
	r.open()
	defer func() { _ = r.e.Close() }()
	if v, ok, err := r.e.Meta("note"); err != nil || !ok || string(v) != "kept" {
		t.Errorf("the host's record: %q, %v, %v", v, ok, err)
	}
	for _, p := range salvaged {
		if s := r.mine[p].Status(); s.Applied != r.script.last() || !s.Holes.Equal(interval.Of(1, s.Applied)) || s.Documents != 0 {
			t.Errorf("partition %d: %+v", p, s)
		}
	}
	for _, p := range salvaged {
		r.mine[p].pullAll(t, r.peers[p])
		r.mine[p].mustEqual(t, r.peers[p])
	}
}

// TestCrashDuringSalvage crashes the removal of damage that reaches into several partitions at each operation on the disk. Damage that
// is still there may keep a member from being opened, as before; else nothing is missing from a member that calls itself complete,
// the host knows its records, and everything heals. When it has returned, the damage is gone for good.
func TestCrashDuringSalvage(t *testing.T) {
	for name, place := range map[string]func(r *salvageRun) (int64, error){
		"footer": func(r *salvageRun) (int64, error) { return r.size - 3, nil },
		"block":  func(r *salvageRun) (int64, error) { return spoil.Block(r.mem, r.table, r.size/2) },
		"own":    func(r *salvageRun) (int64, error) { return spoil.Block(r.mem, r.table, r.size/11) },
	} {
		t.Run(name, func(t *testing.T) {
			rec := newCrashRecorder(90)
			r := newSalvageRun(t)
			rec.mem = r.mem.MemFS
			r.files = rec.fs()
			r.reopen()
			at, err := place(r)
			must(t, err)
			r.flip(at)
			rec.start()
			if found := r.scrub(); len(found) == 0 {
				t.Fatal("nothing was found")
			}
			rec.acknowledged(1)
			rec.take()
			must(t, r.e.Close())
			damaged, healed := 0, 0
			for i, image := range rec.images {
				one := &salvageRun{t: t, mem: &simdisk.Disk{MemFS: image.fs}, peers: r.peers, script: r.script, table: r.table, size: r.size}
				var corrupt *CorruptionError
				if err := one.tryOpen(); errors.As(err, &corrupt) && image.durable == 0 {
					damaged++
					continue
				} else if err != nil {
					t.Fatalf("image %d of %d: %v", i, len(rec.images), err)
				}
				one.nothingIsMissing(fmt.Sprintf("image %d of %d", i, len(rec.images)))
				if i%10 == 0 || image.durable == 1 {
					if found := one.scrub(); image.durable == 1 && len(found) > 0 {
						t.Fatalf("image %d: damage is back: %s", i, found)
					}
					one.pull()
					healed++
				}
				must(t, one.e.Close())
			}
			if t.Logf("%d images, %d could not be opened, %d healed", len(rec.images), damaged, healed); len(rec.images) < 10 || healed == 0 {
				t.Error("nothing was crashed")
			}
		})
	}
}

// nothingIsMissing: whoever calls itself complete has each document, though it may be damaged.
func (r *salvageRun) nothingIsMissing(where string) {
	r.t.Helper()
	if v, ok, err := r.e.Meta("note"); err != nil || !ok || string(v) != "kept" {
		r.t.Fatalf("%s: the host's record: %q, %v, %v", where, v, ok, err)
	}
	for _, p := range salvaged {
		m := r.mine[p]
		if !m.Complete() {
			continue
		}
		for key := range r.script.heads {
			want, _, err := r.peers[p].Documents.Head(key)
			must(r.t, err)
			h, ok, err := m.Documents.Head(key)
			var corrupt *CorruptionError
			if !errors.As(err, &corrupt) && (err != nil || !ok || h.HeadSeq != want.HeadSeq) {
				r.t.Fatalf("%s: partition %d is complete, and of %s it has %+v, %v, %v", where, p, key, h, ok, err)
			}
		}
	}
}

// TestVainCompactionsPause: Pebble tries again at once to compact what it cannot read in level 0. That must not keep a processor busy.
func TestVainCompactionsPause(t *testing.T) {
	mem := simdisk.New()
	o := testOptions(mem)
	o.CacheBytes = 1
	var failures atomic.Int64
	o.Events.BackgroundError = func(error) { failures.Add(1) }
	e, err := OpenDocs(o)
	must(t, err)
	defer func() { _ = e.Close() }()
	d, err := e.Member(7, FullRange())
	must(t, err)
	s := newScript()
	key := keyInBucket(FullRange(), 100, 0)
	s.create(key, 10)
	m := &docsMember{d, e, wantRoom{maxWantRanges, maxWantScan}}
	for i := range 8 { // as many tables of level 0 as are compacted
		s.append(key, 40, 700)
		m.follow(t, s, s.last())
		must(t, e.db.Flush())
		if i == 0 { // nothing of it is being compacted yet
			r := &salvageRun{t: t, mem: mem}
			names, err := mem.List("docs")
			must(t, err)
			for _, name := range names {
				r.table = mem.PathJoin("docs", name)
				if info, err := mem.Stat(r.table); err == nil && strings.HasSuffix(name, ".sst") && info.Size() > 100 {
					r.flip(20)
				}
			}
		}
	}
	for end := time.Now().Add(time.Minute); failures.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was compacted in vain")
		}
	}
	before, began := failures.Load(), time.Now()
	time.Sleep(3 * retryPause)
	more := failures.Load() - before
	took := time.Since(began)                                          // longer than that where the machine stood still
	if most := 2 * (took/retryPause + 1); time.Duration(more) > most { // two at a time
		t.Errorf("%d vain compactions within %s", more, took)
	}
}
