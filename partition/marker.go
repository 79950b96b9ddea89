package partition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// maxMarkerBytes bounds the payload of a marker: maxTermRanges ranges of three numbers.
const maxMarkerBytes = 64 << 10

// markerStore is Raft's snapshot store. It holds one marker, in the log engine, so that a marker and the truncation of
// the log it allows or demands are one durable step (design §5).
type markerStore struct {
	log     store.LogGroup
	install func(store.Marker) error // a marker from a leader: harvest, hole, then save
	saved   atomic.Pointer[store.Marker]
}

func markerID(m store.Marker) string { return fmt.Sprintf("%d-%d", m.Term, m.Index) }

func snapshotMeta(m store.Marker) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, ID: markerID(m), Index: m.Index, Term: m.Term,
		Configuration: raft.DecodeConfiguration(m.Configuration), ConfigurationIndex: m.ConfigurationIndex, Size: int64(len(m.Payload))}
}

// Create implements raft.SnapshotStore for markers made here and markers received.
func (s *markerStore) Create(_ raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &markerSink{store: s, marker: store.Marker{Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(configuration), ConfigurationIndex: configurationIndex}}, nil
}

// List returns the marker, if there is one.
func (s *markerStore) List() ([]*raft.SnapshotMeta, error) {
	m, ok, err := s.log.Marker()
	if err != nil || !ok {
		return nil, err
	}
	return []*raft.SnapshotMeta{snapshotMeta(m)}, nil
}

// Open returns the marker of that id; a newer one may have taken its place, then the newer one is returned. A marker that
// was just saved needs no log to be read from: Raft panics when it can not open what it has taken over.
func (s *markerStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, ok, err := s.log.Marker()
	if saved := s.saved.Load(); err != nil && saved != nil {
		m, ok, err = *saved, true, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("marker %s: none stored", id)
	}
	return snapshotMeta(m), io.NopCloser(bytes.NewReader(m.Payload)), nil
}

// markerSink collects the payload of one marker. Raft's snapshot goroutine (local markers) or its main goroutine
// (received ones) owns it.
type markerSink struct {
	store  *markerStore
	marker store.Marker
	local  bool // made by this member: everything up to it is durable here
	closed bool
}

func (s *markerSink) ID() string { return markerID(s.marker) }

func (s *markerSink) Write(b []byte) (int, error) {
	if len(s.marker.Payload)+len(b) > maxMarkerBytes {
		return 0, fmt.Errorf("marker %s: more than %d bytes", s.ID(), maxMarkerBytes)
	}
	s.marker.Payload = append(s.marker.Payload, b...)
	return len(b), nil
}

func (s *markerSink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	save := s.store.install
	if s.local {
		save = func(m store.Marker) error { return s.store.log.SaveMarker(m, true) }
	}
	if err := save(s.marker); err != nil {
		return err
	}
	s.store.saved.Store(&s.marker)
	return nil
}

func (s *markerSink) Cancel() error {
	s.closed = true
	return nil
}

// snapshot is the state machine's marker in the making.
type snapshot struct {
	payload []byte
	durable func(index uint64) error
}

// Persist syncs the document engine first: no index is dropped from the log before it is durable there (lemma I1).
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	m, ok := sink.(*markerSink)
	if !ok {
		return errors.New("marker: foreign snapshot sink")
	}
	if err := s.durable(m.marker.Index); err != nil {
		return err
	}
	m.local = true
	_, err := m.Write(s.payload)
	return err
}

func (s *snapshot) Release() {}
