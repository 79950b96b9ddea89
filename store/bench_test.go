//go:build unix

package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func benchOptions(dir string, fs vfs.FS) DocOptions {
	return DocOptions{Dir: dir, FS: fs, Cluster: "c", Host: "h", Incarnation: "i"}
}

func benchMember(b *testing.B, o DocOptions) (*DocEngine, *Documents) {
	b.Helper()
	e, err := OpenDocs(o)
	must(b, err)
	d, err := e.Member(7, FullRange())
	must(b, err)
	return e, d
}

// cpuTime is what the process has used: on a busy machine it says more than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApply appends deltas of 64 bytes to 1000 documents in turn, so many commands to a batch.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			e, d := benchMember(b, benchOptions(b.TempDir(), nil))
			defer func() { must(b, e.Close()) }()
			const documents = 1000
			index := uint64(0)
			heads := make([]Head, documents)
			keys := make([]Key, documents)
			for i := range keys {
				index++
				m := createAt(index)
				keys[i] = m.Key
				must(b, d.Apply([]Mutation{m}, index))
				heads[i], _, _ = d.Head(m.Key)
			}
			redo, undo := bytes.Repeat([]byte("r"), 32), bytes.Repeat([]byte("u"), 20)
			batch := make([]Mutation, 0, size)
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime()
			for n := 0; n < b.N; n += len(batch) {
				batch = batch[:0]
				for i := range size {
					at := (n + i) % documents
					index++
					m := appendAt(index, keys[at], heads[at], 1)
					m.Deltas[0].Redo, m.Deltas[0].Undo = redo, undo
					m.Chain = heads[at].Chain.Next(m.Deltas[0].AppendBinary(nil))
					heads[at].HeadSeq, heads[at].Chain = m.HeadSeq, m.Chain
					batch = append(batch, m)
				}
				must(b, d.Apply(batch, index))
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N), "cpu-µs/append")
		})
	}
}

// BenchmarkStage appends deltas of 256 bytes to 4096 documents in random order, as a busy partition does.
func BenchmarkStage(b *testing.B) {
	const documents, size = 4096, 128
	e, d := benchMember(b, benchOptions(b.TempDir(), nil))
	defer func() { must(b, e.Close()) }()
	index := uint64(0)
	heads, keys := make([]Head, documents), make([]Key, documents)
	for i := range keys {
		index++
		m := createAt(index)
		keys[i] = m.Key
		must(b, d.Apply([]Mutation{m}, index))
		heads[i], _, _ = d.Head(m.Key)
	}
	redo, undo := bytes.Repeat([]byte("r"), 246), bytes.Repeat([]byte("u"), 10)
	rng := rand.New(rand.NewPCG(1, 2))
	batch := make([]Mutation, 0, size)
	deltas := make([]Delta, size)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for n := 0; n < b.N; n += len(batch) {
		batch = batch[:0]
		for i := range size {
			at := rng.IntN(documents)
			index++
			m := appendAt(index, keys[at], heads[at], 1)
			deltas[i] = m.Deltas[0]
			deltas[i].Redo, deltas[i].Undo = redo, undo
			m.Deltas = deltas[i : i+1]
			m.Chain = heads[at].Chain.Next(deltas[i].AppendBinary(nil))
			heads[at].HeadSeq, heads[at].Chain = m.HeadSeq, m.Chain
			batch = append(batch, m)
		}
		must(b, d.Stage(batch, index))
	}
	b.StopTimer()
	b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N), "cpu-µs/append")
}

// BenchmarkReadWhatIsStaged appends deltas of 256 bytes to 4096 documents, and reads the newest delta of some that were written just
// now: "in-turn" 16 appends and 4 reads, and "beside" a read now and then while another goroutine stages as many as it can.
func BenchmarkReadWhatIsStaged(b *testing.B) {
	const documents, size = 4096, 16
	open := func(b *testing.B) (d *Documents, keys []Key, stage func()) {
		e, d := benchMember(b, benchOptions(b.TempDir(), nil))
		b.Cleanup(func() { must(b, e.Close()) })
		index := uint64(0)
		heads := make([]Head, documents)
		for i := range heads {
			index++
			m := createAt(index)
			keys = append(keys, m.Key)
			must(b, d.Apply([]Mutation{m}, index))
			heads[i], _, _ = d.Head(m.Key)
		}
		redo, batch := bytes.Repeat([]byte("r"), 256), make([]Mutation, 0, size)
		rng := rand.New(rand.NewPCG(1, 2))
		return d, keys, func() {
			batch = batch[:0]
			for range size {
				at := rng.IntN(documents)
				index++
				m := appendAt(index, keys[at], heads[at], 1)
				m.Deltas[0].Redo = redo
				m.Chain = heads[at].Chain.Next(m.Deltas[0].AppendBinary(nil))
				heads[at].HeadSeq, heads[at].Chain = m.HeadSeq, m.Chain
				batch = append(batch, m)
			}
			must(b, d.Stage(batch, index))
		}
	}
	read := func(b *testing.B, d *Documents, key Key) {
		v, err := d.View(key)
		must(b, err)
		_, ok, err := v.EntryAt(v.Head.HeadSeq)
		if err != nil || !ok {
			b.Errorf("%v, %v", ok, err)
		}
		must(b, v.Close())
	}
	b.Run("in-turn", func(b *testing.B) {
		d, keys, stage := open(b)
		rng := rand.New(rand.NewPCG(1, 2)) // the same documents
		b.ReportAllocs()
		b.ResetTimer()
		cpu := cpuTime()
		for range b.N {
			stage()
			for i := range size {
				if at := rng.IntN(documents); i%4 == 0 {
					read(b, d, keys[at])
				}
			}
		}
		b.StopTimer()
		b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N), "cpu-µs/turn")
	})
	b.Run("beside", func(b *testing.B) {
		d, keys, stage := open(b)
		end, ended := make(chan struct{}), make(chan struct{})
		staged := 0
		go func() {
			defer close(ended)
			for {
				select {
				case <-end:
					return
				default:
					stage()
					staged += size
				}
			}
		}()
		rng := rand.New(rand.NewPCG(3, 4))
		took := make([]time.Duration, 0, b.N)
		b.ResetTimer()
		for range b.N {
			time.Sleep(500 * time.Microsecond)
			begun := time.Now()
			read(b, d, keys[rng.IntN(documents)])
			took = append(took, time.Since(begun))
		}
		close(end)
		<-ended
		b.StopTimer()
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
		b.ReportMetric(float64(staged)/b.Elapsed().Seconds(), "appends/s")
	})
}

// BenchmarkView reads a document of 260,000 deltas in one pass.
func BenchmarkView(b *testing.B) {
	e, d := benchMember(b, benchOptions(b.TempDir(), nil))
	defer func() { must(b, e.Close()) }()
	create := createAt(1)
	key := create.Key
	must(b, d.Apply([]Mutation{create}, 1))
	h, _, err := d.Head(key)
	must(b, err)
	const entries = 260_000
	batch := make([]Mutation, 0, 1000)
	for index := uint64(2); index <= entries; index++ {
		m := appendAt(index, key, h, 1)
		m.Prior = h.Chain
		h.HeadSeq, h.Chain = m.HeadSeq, m.Chain
		if batch = append(batch, m); len(batch) == cap(batch) || index == entries {
			must(b, d.Apply(batch, index))
			batch = batch[:0]
		}
	}
	must(b, e.db.Flush())
	for _, reverse := range []bool{false, true} {
		name := "forward"
		if reverse {
			name = "backward"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			cpu := cpuTime()
			for range b.N {
				v, err := d.View(key)
				must(b, err)
				seq := v.Entries(-1)
				if reverse {
					seq = v.EntriesReverse(-1)
				}
				n := 0
				for _, err := range seq {
					must(b, err)
					n++
				}
				if n != entries {
					b.Fatalf("%d entries", n)
				}
				must(b, v.Close())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N)/entries, "cpu-ns/entry")
		})
	}
}

func BenchmarkHead(b *testing.B) {
	o := benchOptions(b.TempDir(), nil)
	e, d := benchMember(b, o)
	defer func() { must(b, e.Close()) }()
	const documents = 20000
	batch := make([]Mutation, 0, documents)
	for i := uint64(1); i <= documents; i++ {
		batch = append(batch, createAt(i))
	}
	must(b, d.Apply(batch, documents))
	must(b, e.db.Flush())
	b.Run("cached", func(b *testing.B) {
		for n := range b.N {
			_, _, _ = d.Head(batch[n%1000].Key)
		}
	})
	b.Run("uncached", func(b *testing.B) {
		for n := range b.N {
			p, _ := d.place(batch[n%documents].Key)
			_, _, _ = readHead(e.db, 7, p)
		}
	})
	b.Run("missing", func(b *testing.B) {
		for n := range b.N {
			_, _, _ = d.Head(Key{Space: "space", Key: fmt.Sprint("missing", n)})
		}
	})
}

// BenchmarkOpen opens a member of 20,000 documents: a few hundred records are read.
func BenchmarkOpen(b *testing.B) {
	o := benchOptions(b.TempDir(), nil)
	e, d := benchMember(b, o)
	const documents = 20000
	batch := make([]Mutation, 0, documents)
	for i := uint64(1); i <= documents; i++ {
		batch = append(batch, createAt(i))
	}
	must(b, d.Apply(batch, documents))
	must(b, e.db.Flush())
	b.ResetTimer()
	for range b.N {
		if _, err := openDocuments(e, 7, FullRange()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	must(b, e.Close())
}

// listing is a bucket of 512 documents of 1000 entries each, in one of two layouts.
type listing struct {
	dir       string
	kindFirst bool
}

const listedDocuments, listedEntries = 512, 1000

func (l listing) key(kind recordKind, doc int, seq int64) []byte {
	name := func(k []byte) []byte {
		k = binary.BigEndian.AppendUint64(k, uint64(doc)<<40)
		return append(fmt.Appendf(k, "space/document-%d", doc), 0)
	}
	k := appendBucket(nil, 7, 0)
	if l.kindFirst {
		k = name(append(k, byte(kind)))
	} else {
		k = append(name(k), byte(kind))
	}
	if kind == kindEntry {
		k = appendSeq(binary.BigEndian.AppendUint64(k, 5), seq)
	}
	return k
}

func (l listing) open(b *testing.B) *pebble.DB {
	c := pebble.NewCache(64 << 20)
	defer c.Unref()
	db, err := openPebble(l.dir, nil, newFailStop("documents", testLogger(), nil), &pebble.Options{Cache: c, MemTableSize: 32 << 20})
	must(b, err)
	return db
}

func (l listing) fill(b *testing.B, db *pebble.DB) {
	head := appendHeadValue(nil, &sampleHead)
	entry := appendEntryValue(nil, &Entry{Delta: Delta{SeqBegin: 1, SeqEnd: 1, Redo: make([]byte, 32), Undo: make([]byte, 20)}})
	for doc := range listedDocuments {
		batch := db.NewBatch()
		must(b, batch.Set(l.key(kindHead, doc, 0), head, nil))
		for seq := range int64(listedEntries) {
			must(b, batch.Set(l.key(kindEntry, doc, seq), entry, nil))
		}
		must(b, db.Apply(batch, pebble.NoSync))
	}
	must(b, db.Compact(b.Context(), []byte{0}, []byte{0xff}, false))
}

// list visits the heads: one scan where they are contiguous, else a seek past the entries of each document.
func (l listing) list(b *testing.B, db *pebble.DB) {
	lower, upper := prefixRange(appendBucket(nil, 7, 0))
	if l.kindFirst {
		lower, upper = prefixRange(append(lower, byte(kindHead)))
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	must(b, err)
	n := 0
	for ok := it.First(); ok; n++ {
		if _, err := it.ValueAndErr(); err != nil {
			b.Fatal(err)
		}
		if l.kindFirst {
			ok = it.Next()
			continue
		}
		k := it.Key()
		ok = it.SeekGE(append(bytes.Clone(k[:len(k)-1]), 0xff))
	}
	must(b, it.Close())
	if n != listedDocuments {
		b.Fatalf("%d heads", n)
	}
}

// BenchmarkListBucket lists the heads of a bucket in the layout as it is, kind before document, and in the other one.
// "cold" starts with an empty cache of Pebble's; the operating system's stays warm.
func BenchmarkListBucket(b *testing.B) {
	for _, kindFirst := range []bool{true, false} {
		name := map[bool]string{true: "kind-first", false: "document-first"}[kindFirst]
		l := listing{b.TempDir(), kindFirst}
		db := l.open(b)
		l.fill(b, db)
		b.Run(name+"/warm", func(b *testing.B) {
			cpu := cpuTime()
			for range b.N {
				l.list(b, db)
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N), "cpu-µs/listing")
		})
		must(b, db.Close())
		b.Run(name+"/cold", func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				db := l.open(b)
				b.StartTimer()
				l.list(b, db)
				b.StopTimer()
				must(b, db.Close())
				b.StartTimer()
			}
		})
	}
}
