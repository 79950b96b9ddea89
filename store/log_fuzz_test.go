package store

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

func sampleLogRecord() boltRecord {
	m := logTestMarker(20, 3)
	return boltRecord{marker: &m, compacted: logPoint{index: 8, term: 3, kind: raft.LogNoop}, vote: &logVote{term: 3, candidate: []byte("a@1")},
		stable: stableValues{{"CurrentTerm", []byte{0, 0, 0, 0, 0, 0, 0, 3}}, {"k", []byte{'v'}}}, from: 9, to: 12}
}

// TestLogFormatIsPinned: tomorrow's program reads these bytes.
func TestLogFormatIsPinned(t *testing.T) {
	entry := &raft.Log{Index: 300, Term: 2, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"),
		AppendedAt: time.Unix(1_700_000_000, 5)}
	small := Marker{Index: 300, Term: 2, Configuration: []byte("conf"), ConfigurationIndex: 7, Payload: []byte("terms")}
	record := sampleLogRecord()
	record.marker = &small
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"entry", appendLogEntry(nil, entry), "010503ac020280c49fd50c050365787464617461"},
		{"point", appendLogPoint(nil, logPoint{300, 2, raft.LogConfiguration, []byte("conf")}), "0105ac020204636f6e66"},
		{"vote", appendLogVote(nil, &logVote{300, []byte("a@1")}), "01ac0203614031"},
		{"marker", small.AppendBinary(nil), "01ac02020704636f6e66057465726d73"},
		{"promise", logPromise{2, 1}.encode(), "70726f6d00000000000000020000000000000001"},
		{"record", record.encode(), "010f01ac02020704636f6e66057465726d730101080300010303614031090c020b43757272656e745465726d080000000000000003016b0176a7d18700"},
		{"entry key", appendLogEntryKey(nil, 7, 300), "0000000706000000000000012c"},
		{"vote key", appendLogKey(nil, 7, logKindVote), "0000000702"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzLogEntry(f *testing.F) {
	for _, l := range []*raft.Log{logEntry(1, 1), {Index: 1 << 63, Term: 1 << 40, Type: raft.LogBarrier},
		{Index: 7, Term: 2, Type: raft.LogConfiguration, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: time.Unix(-5, 999999999)}} {
		f.Add(appendLogEntry(nil, l))
	}
	f.Add([]byte{2, 0, 0})
	f.Add([]byte{1, 0, 2, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLogEntry(b)
		if err != nil {
			return
		}
		encoded := appendLogEntry(nil, &l)
		again, err := decodeLogEntry(encoded)
		if err != nil || !reflect.DeepEqual(again, l) {
			t.Fatalf("%+v came back as %+v (%v)", l, again, err)
		}
		if size := logEntrySize(&l); size != len(encoded) {
			t.Fatalf("%+v takes %d bytes, not %d", l, len(encoded), size)
		}
	})
}

func FuzzLogPoint(f *testing.F) {
	f.Add(appendLogPoint(nil, logPoint{index: 8, term: 3, kind: raft.LogNoop}))
	f.Add(appendLogPoint(nil, logPoint{1, 1, raft.LogConfiguration, logTestMarker(1, 1).Configuration}))
	f.Add([]byte{1, 0, 8, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeLogPoint(b)
		if err != nil {
			return
		}
		again, err := decodeLogPoint(appendLogPoint(nil, p))
		if err != nil || !reflect.DeepEqual(again, p) || p.index == 0 {
			t.Fatalf("%+v came back as %+v (%v)", p, again, err)
		}
	})
}

func FuzzLogVote(f *testing.F) {
	f.Add(appendLogVote(nil, &logVote{term: 3, candidate: []byte("a@1")}))
	f.Add(appendLogVote(nil, &logVote{}))
	f.Add([]byte{1, 3, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeLogVote(b)
		if err != nil {
			return
		}
		again, err := decodeLogVote(appendLogVote(nil, v))
		if err != nil || again.term != v.term || !bytes.Equal(again.candidate, v.candidate) {
			t.Fatalf("%+v came back as %+v (%v)", v, again, err)
		}
	})
}

func FuzzLogMarker(f *testing.F) {
	f.Add(logTestMarker(20, 3).AppendBinary(nil))
	f.Add(append(Marker{Index: 1, Term: 1}.AppendBinary(nil), "rest"...))
	f.Add(Marker{Index: 1, Term: 1, ConfigurationIndex: 2}.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, rest, err := DecodeMarker(b)
		if err != nil {
			return
		}
		again, rest2, err := DecodeMarker(append(m.AppendBinary(nil), rest...))
		if err != nil || !sameMarker(m, again) || !bytes.Equal(rest, rest2) || m.validate() != nil {
			t.Fatalf("%+v came back as %+v (%v)", m, again, err)
		}
	})
}

// FuzzLogBoltRecord puts the checksum on, or nothing would get past it.
func FuzzLogBoltRecord(f *testing.F) {
	full := sampleLogRecord()
	for _, r := range []boltRecord{full, {}, {vote: full.vote}} {
		v := r.encode()
		body, err := unseal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte{1, boltHasRemoval, 5, 4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeBoltRecord(seal(bytes.Clone(b)))
		if err != nil {
			return
		}
		again, err := decodeBoltRecord(r.encode())
		if err != nil || !bytes.Equal(again.encode(), r.encode()) || len(again.stable) != len(r.stable) {
			t.Fatalf("%+v came back as %+v (%v)", r, again, err)
		}
	})
}

// FuzzLogBoltEntry: an entry comes back as it was sealed, and none that was not is taken, with its checksum put on or not.
func FuzzLogBoltEntry(f *testing.F) {
	f.Add(uint64(1), uint64(1), []byte("data"), []byte("more"))
	f.Add(uint64(0), uint64(0), []byte(nil), []byte(nil))
	f.Add(uint64(1<<63), uint64(7), []byte{}, make([]byte, 8))
	d := &boltLogDisk{log: &boltLog{engine: &logEngine{}}}
	f.Fuzz(func(t *testing.T, index, term uint64, data, extensions []byte) {
		raw := raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data, Extensions: bytes.Clone(extensions)}
		if unsealBoltEntry(&raw, index) == nil && len(extensions) < 8 {
			t.Fatal("taken without a checksum")
		}
		want := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data, Extensions: extensions}
		got := *d.sealed([]*raft.Log{want})[0]
		if other := got; unsealBoltEntry(&other, index+1) == nil {
			t.Fatal("taken for another index")
		}
		if err := unsealBoltEntry(&got, index); err != nil || !sameLog(&got, want) {
			t.Fatalf("%+v came back as %+v (%v)", want, got, err)
		}
	})
}

// FuzzLogTail reads arbitrary files as a write-ahead log: no panic, and no damage where Pebble's log has none.
func FuzzLogTail(f *testing.F) {
	mem := vfs.NewMem()
	o := logOptions("/log")
	o.FS = mem
	e, err := OpenPebbleLog(o)
	mustLog(f, err)
	fillLog(f, openLogGroup(f, e, 3))
	mustLog(f, e.Close())
	whole, err := vfsRead(mem, "/log/000002.log")
	mustLog(f, err)
	f.Add(whole)
	f.Add(whole[100:])
	f.Fuzz(func(t *testing.T, b []byte) {
		files := vfs.NewMem()
		w, err := files.Create("/000002.log", vfs.WriteCategoryUnspecified)
		mustLog(t, err)
		_, err = w.Write(b)
		mustLog(t, err)
		mustLog(t, w.Close())
		_, damaged, err := checkLogTail(files, "/000002.log", 2)
		if err != nil || damaged && bytes.HasPrefix(whole, b) {
			t.Fatalf("damaged %v, %v", damaged, err)
		}
	})
}
