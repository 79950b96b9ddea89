package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestScratchIsReused: exports and decoders share memory one after the other, never at the same time.
func TestScratchIsReused(t *testing.T) {
	y, s := newDocsMember(t), newScript()
	var wants []Want
	for i := range 6 {
		key := keyInBucket(FullRange(), 9, i)
		s.create(key, 50+i)
		s.append(key, 300, 50+400*i) // plain deltas, and longer ones
		wants = append(wants, Want{Hash: key.Hash()})
	}
	y.follow(t, s, s.last())
	var whole [][]byte
	for i := range wants {
		c, err := y.Export(9, &ExportQuery{Wants: wants[i : i+1], Budget: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, c.AppendBinary(nil))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var d ChunkDecoder
			for n := range 30 {
				i := n % len(wants)
				wire, done, err := y.AppendExport(nil, 9, &ExportQuery{Wants: wants[i : i+1], Budget: 1 << 20})
				if err != nil || !done || !bytes.Equal(wire, whole[i]) {
					t.Errorf("document %d: %d bytes, done %v, %v", i, len(wire), done, err)
					return
				}
				got, err := d.Decode(wire)
				want, _ := DecodeChunk(whole[i])
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("document %d: decoded to something else (%v)", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestScratchIsBounded: a chunk of very many small things does not keep its memory for ever.
func TestScratchIsBounded(t *testing.T) {
	var m chunkScratch
	for range 3 {
		first := m.entries(10)[:10]
		m.entries(5 * mostScratch)
		again := m.entries(10)[:10]
		if first[9].Begin, again[0].Begin = 1, 2; first[9].Begin != 1 {
			t.Error("entries overlap")
		}
		for i := range 100 * arenaKept {
			if b := m.arena.join(make([]byte, arenaBlock/8), []byte{byte(i)}); len(b) != arenaBlock/8+1 || b[len(b)-1] != byte(i) {
				t.Fatal("joined to something else")
			}
		}
		m.reset()
		if cap(m.slab) > mostScratch || len(m.arena.spare) > arenaKept || len(m.arena.blocks) > 0 {
			t.Errorf("%d entries and %d blocks are kept", cap(m.slab), len(m.arena.spare))
		}
	}
}

// TestBufferClasses: a buffer that comes back fits whoever asks for its class.
func TestBufferClasses(t *testing.T) {
	var b bulkState
	for _, size := range []int{1, leastBuffer, leastBuffer + 1, 3 * leastBuffer, leastBuffer << (bufferClasses - 1), leastBuffer<<(bufferClasses-1) + 1} {
		var r bulkRecords
		buffer := *b.room(&r, size, size)
		if cap(buffer) < size || cap(buffer) >= max(2*size, 2*leastBuffer) {
			t.Errorf("%d bytes of room for %d", cap(buffer), size)
		}
		if got := b.gathered.Load(); got != int64(cap(buffer)) {
			t.Errorf("%d bytes counted, want %d", got, cap(buffer))
		}
		b.giveBack(&r)
		if got := b.buffer(size); cap(got) < size || len(got) > 0 {
			t.Errorf("%d of %d bytes, asked for %d", len(got), cap(got), size)
		}
		if got := b.gathered.Load(); got != 0 {
			t.Errorf("%d bytes still counted", got)
		}
	}
}

// TestRecordBlocks: documents come out of blocks as they went in, whatever their records' sizes, moved or not, and blocks are
// not much larger than what is in them.
func TestRecordBlocks(t *testing.T) {
	var b bulkState
	s := &Session{d: &Documents{engine: &DocEngine{}}}
	random := rand.New(rand.NewPCG(1, 2))
	var docs []bulkDoc
	var want [][]ChunkEntry
	for range 300 {
		doc := ChunkDoc{Entries: make([]ChunkEntry, random.IntN(20))}
		for i := range doc.Entries {
			doc.Entries[i] = ChunkEntry{Mark: Mark{End: int64(i)}, Delta: bytes.Repeat([]byte{byte(i)}, random.IntN(1<<random.IntN(20)))}
		}
		at := s.bulk.records.end()
		docs, want = append(docs, bulkDoc{from: at, to: at}), append(want, doc.Entries)
		s.put(&docs[len(docs)-1], &doc)
	}
	same := func(m *bulkDoc, records *bulkRecords, want []ChunkEntry) {
		n, size := 0, 0
		must(t, m.each(records, func(seqEnd int64, value []byte) error {
			if n >= len(want) || seqEnd != want[n].End || !bytes.Equal(value, want[n].appendValue(nil)) {
				t.Fatalf("record %d of %d is not what was put", n, len(want))
			}
			n, size = n+1, size+recordHeader+len(value)
			return nil
		}))
		if n != len(want) || size != m.size() {
			t.Fatalf("%d records of %d, %d bytes of %d", n, len(want), size, m.size())
		}
	}
	for i := range docs {
		same(&docs[i], &s.bulk.records, want[i])
		moved, m := bulkRecords{}, docs[i]
		b.move(&moved, &m, &s.bulk.records)
		if moved.size != m.bytes {
			t.Fatalf("%d bytes moved of %d", moved.size, m.bytes)
		}
		same(&m, &moved, want[i])
	}
	if used, held := s.bulk.records.size, s.d.engine.bulk.gathered.Load(); held > 2*int64(used) {
		t.Errorf("%d bytes are held for %d", held, used)
	}
}

// TestTableFile: what is written is there and durable when the file is finished, whatever the pieces.
func TestTableFile(t *testing.T) {
	fs := vfs.NewCrashableMem()
	f, err := fs.Create("t", vfs.WriteCategoryUnspecified)
	must(t, err)
	root, err := fs.OpenDir("")
	must(t, err)
	must(t, root.Sync())
	w, want := newTableFile(f, new(sync.Pool)), []byte(nil)
	for i := range 40 {
		piece := bytes.Repeat(fmt.Appendf(nil, "%d,", i), i*i*i)
		want = append(want, piece...)
		must(t, w.Write(piece))
	}
	must(t, w.Finish())
	after := fs.CrashClone(vfs.CrashCloneCfg{})
	r, err := after.Open("t")
	must(t, err)
	got := make([]byte, len(want))
	if n, err := r.ReadAt(got, 0); err != nil || n != len(want) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d after a crash: %v", n, len(want), err)
	}
	if info, err := r.Stat(); err != nil || info.Size() != int64(len(want)) {
		t.Errorf("%v bytes, want %d: %v", info.Size(), len(want), err)
	}
	must(t, r.Close())
}
