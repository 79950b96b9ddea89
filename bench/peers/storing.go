package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/raft"
)

// What a snapshot's reader believes of a length at the most.
const (
	storedKeyBytes   = 1 << 10
	storedValueBytes = 1 << 20
)

// storingMachine keeps what commands set in a map, as small users of hashicorp/raft do: the disk has the log and the snapshots.
type storingMachine struct {
	mu       sync.RWMutex
	entries  map[string][]byte
	index    uint64 // of the newest command in entries
	restored uint64 // how often a snapshot was taken over
}

func newStoringMachine() raft.FSM { return &storingMachine{entries: map[string][]byte{}} }

// appendStored appends an entry to a command or to a snapshot: a key and a value, each with its length (uvarint) before it.
func appendStored(b []byte, key string, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

var errStoredTorn = errors.New("a command ends within an entry")

// eachStored finds the entries of a command. The values are parts of it.
func eachStored(command []byte, found func(key string, value []byte)) error {
	next := func() ([]byte, bool) {
		n, size := binary.Uvarint(command)
		if size <= 0 || n > uint64(len(command)-size) {
			return nil, false
		}
		field := command[size : size+int(n)]
		command = command[size+int(n):]
		return field, true
	}
	for len(command) > 0 {
		key, ok := next()
		if !ok {
			return errStoredTorn
		}
		value, ok := next()
		if !ok {
			return errStoredTorn
		}
		found(string(key), value)
	}
	return nil
}

// Apply implements raft.FSM. It answers an error when the command is none.
func (m *storingMachine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = l.Index
	if err := eachStored(l.Data, func(key string, value []byte) { m.entries[key] = value }); err != nil {
		return err
	}
	return nil
}

// state is how far the machine is, and how often that came by a snapshot.
func (m *storingMachine) state() (index, restored uint64, entries int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index, m.restored, len(m.entries)
}

// walk finds everything there is.
func (m *storingMachine) walk(found func(key string, value ...[]byte)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for key, value := range m.entries {
		found(key, value)
	}
}

// Snapshot implements raft.FSM. Values are never changed, so a copy of the map is enough.
func (m *storingMachine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &storedSnapshot{index: m.index, entries: maps.Clone(m.entries)}, nil
}

// Restore implements raft.FSM: it reads an index and a number of entries (uvarint), and so many entries.
func (m *storingMachine) Restore(from io.ReadCloser) error {
	defer from.Close()
	r := bufio.NewReaderSize(from, 1<<16)
	index, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("index of a snapshot: %w", err)
	}
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("number of entries of a snapshot: %w", err)
	}
	entries := map[string][]byte{}
	for range count {
		key, err := readStored(r, storedKeyBytes)
		if err != nil {
			return fmt.Errorf("key in a snapshot: %w", err)
		}
		value, err := readStored(r, storedValueBytes)
		if err != nil {
			return fmt.Errorf("value in a snapshot: %w", err)
		}
		entries[string(key)] = value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries, m.index = entries, index
	m.restored++
	return nil
}

func readStored(r *bufio.Reader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("%d bytes, more than %d", n, most)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

type storedSnapshot struct {
	index   uint64
	entries map[string][]byte
}

// Persist implements raft.FSMSnapshot: the entries one by one, in any order.
func (s *storedSnapshot) Persist(sink raft.SnapshotSink) error {
	w := bufio.NewWriterSize(sink, 1<<16)
	if err := s.write(w); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s *storedSnapshot) write(w *bufio.Writer) error {
	b := binary.AppendUvarint(nil, s.index)
	if _, err := w.Write(binary.AppendUvarint(b, uint64(len(s.entries)))); err != nil {
		return err
	}
	for key, value := range s.entries {
		b = appendStored(b[:0], key, value)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Release implements raft.FSMSnapshot.
func (s *storedSnapshot) Release() {}
