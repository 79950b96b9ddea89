package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// memorySink is a snapshot in memory.
type memorySink struct {
	bytes.Buffer
	canceled, closed bool
}

func (s *memorySink) ID() string    { return "memory" }
func (s *memorySink) Cancel() error { s.canceled = true; return nil }
func (s *memorySink) Close() error  { s.closed = true; return nil }

func filledMachine(t *testing.T) *storingMachine {
	t.Helper()
	m := newStoringMachine().(*storingMachine)
	var command []byte
	for _, key := range []string{"a", "b/1", "b/2"} {
		command = appendStored(command, key, []byte("value of "+key))
	}
	for i, c := range [][]byte{command, appendStored(nil, "a", []byte("another")), appendStored(nil, "c", nil)} {
		if answer := m.Apply(&raft.Log{Index: uint64(i + 5), Data: c}); answer != nil {
			t.Fatal(answer)
		}
	}
	return m
}

func takeCensus(m *storingMachine) (c census) {
	m.walk(c.add)
	return c
}

func TestSnapshotRestoresTheStoringMachine(t *testing.T) {
	m := filledMachine(t)
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	was := takeCensus(m)
	m.Apply(&raft.Log{Index: 8, Data: appendStored(nil, "later", nil)}) // is no part of it
	var sink memorySink
	if err := snapshot.Persist(&sink); err != nil || !sink.closed || sink.canceled {
		t.Fatalf("%v, %+v", err, &sink)
	}
	text := bytes.Clone(sink.Bytes())
	other := newStoringMachine().(*storingMachine)
	other.Apply(&raft.Log{Index: 2, Data: appendStored(nil, "stray", nil)})
	if err := other.Restore(io.NopCloser(&sink)); err != nil {
		t.Fatal(err)
	}
	index, restored, entries := other.state()
	if index != 7 || restored != 1 || entries != 4 || takeCensus(other) != was {
		t.Errorf("index %d, restored %d times, %d entries: %+v", index, restored, entries, other.entries)
	}
	for n := range text {
		if err := other.Restore(io.NopCloser(bytes.NewReader(text[:n]))); err == nil {
			t.Errorf("%d of %d bytes are a snapshot", n, len(text))
		}
	}
	if index, restored, _ := other.state(); index != 7 || restored != 1 || takeCensus(other) != was {
		t.Error("a torn snapshot changed something")
	}
}

// failingSink takes nothing.
type failingSink struct{ memorySink }

func (*failingSink) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestSnapshotThatCanNotBeWritten(t *testing.T) {
	snapshot, err := filledMachine(t).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &failingSink{}
	if err := snapshot.Persist(sink); !errors.Is(err, io.ErrShortWrite) || !sink.canceled || sink.closed {
		t.Errorf("%v, %+v", err, sink)
	}
}

func FuzzStoringMachine(f *testing.F) {
	f.Add(appendStored(appendStored(nil, "key", []byte("value")), "other", nil))
	f.Add([]byte{1, 'a', 5, 'b'})
	f.Add(binary.AppendUvarint(nil, 1<<63))
	f.Add([]byte{3, 2, 1, 'a', 1, 'b', 1, 'c', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newStoringMachine().(*storingMachine)
		if m.Apply(&raft.Log{Index: 1, Data: b}) == nil {
			var again []byte
			if err := eachStored(b, func(key string, value []byte) { again = appendStored(again, key, value) }); err != nil {
				t.Fatal(err)
			}
			if len(again) > len(b) {
				t.Errorf("%d bytes became %d", len(b), len(again))
			}
		}
		was := takeCensus(m)
		if m.Restore(io.NopCloser(bytes.NewReader(b))) != nil && takeCensus(m) != was {
			t.Error("a broken snapshot changed something")
		}
	})
}
