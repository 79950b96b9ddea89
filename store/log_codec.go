package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// The encodings of a log engine's records; Pebble checksums them, the bolt engine adds checksums of its own. Each starts
// with a version, so that a later layout can tell them apart. docs/log-format.md draws them.
const (
	logEntryVersion = 1
	logPointVersion = 1
	logVoteVersion  = 1
)

// Flags of an entry.
const (
	logHasTime       = 1 << 0
	logHasExtensions = 1 << 1
)

// Bounds of what is stored.
const (
	maxLogBytes      = 1 << 30 // one entry
	maxLogExtensions = 1 << 20
	maxLogCandidate  = 1 << 16
	maxLogStubData   = maxMarkerConfiguration
)

// appendLogEntry appends
//
//	version u8 = 1 | type u8 | flags u8 | index uvarint | term uvarint |
//	[flag 1: seconds varint | nanoseconds uvarint] [flag 2: length uvarint | extensions] | data
func appendLogEntry(b []byte, l *raft.Log) []byte {
	flags := byte(0)
	if !l.AppendedAt.IsZero() {
		flags |= logHasTime
	}
	if len(l.Extensions) > 0 {
		flags |= logHasExtensions
	}
	b = append(b, logEntryVersion, byte(l.Type), flags)
	b = binary.AppendUvarint(b, l.Index)
	b = binary.AppendUvarint(b, l.Term)
	if flags&logHasTime != 0 {
		b = binary.AppendVarint(b, l.AppendedAt.Unix())
		b = binary.AppendUvarint(b, uint64(l.AppendedAt.Nanosecond()))
	}
	if flags&logHasExtensions != 0 {
		b = appendLengthed(b, l.Extensions)
	}
	return append(b, l.Data...)
}

// logEntrySize is how many bytes appendLogEntry appends.
func logEntrySize(l *raft.Log) int {
	n := 3 + uvarintSize(l.Index) + uvarintSize(l.Term) + len(l.Data)
	if !l.AppendedAt.IsZero() {
		n += uvarintSize(zigzag(l.AppendedAt.Unix())) + uvarintSize(uint64(l.AppendedAt.Nanosecond()))
	}
	if e := len(l.Extensions); e > 0 {
		n += lengthedSize(e)
	}
	return n
}

// decodeLogEntry is the inverse of appendLogEntry. The entry's slices alias v; empty ones become nil.
func decodeLogEntry(v []byte) (raft.Log, error) {
	r := reader{b: v}
	if version := r.byte(); r.err == nil && version != logEntryVersion {
		return raft.Log{}, fmt.Errorf("%w: entry version %d", ErrEncoding, version)
	}
	l := raft.Log{Type: raft.LogType(r.byte())}
	flags := r.byte()
	if flags&^(logHasTime|logHasExtensions) != 0 {
		r.fail(fmt.Sprintf("entry flags %#x", flags))
	}
	l.Index, l.Term = r.uvarint(), r.uvarint()
	if flags&logHasTime != 0 {
		seconds, nanos := r.varint(), r.uvarint()
		if nanos >= 1e9 {
			r.fail("nanoseconds out of range")
		}
		l.AppendedAt = time.Unix(seconds, int64(nanos)).UTC()
		if r.err == nil && l.AppendedAt.IsZero() {
			r.fail("zero time recorded")
		}
	}
	if flags&logHasExtensions != 0 {
		if l.Extensions = r.lengthed(maxLogExtensions); l.Extensions == nil {
			r.fail("empty extensions recorded")
		}
	}
	if r.err != nil {
		return raft.Log{}, r.err
	}
	if len(r.b) > 0 {
		l.Data = r.b
	}
	return l, nil
}

// logPoint is the last entry that was dropped from the front of a log, as GetLog goes on answering it. Its zero value
// means that nothing was dropped.
//
// The data is kept only where it is a configuration: a leader sends a new follower the log from index 1, and takes what
// GetLog answers there for the entry itself, so at 1, where every group's first configuration is, the stub must be it.
type logPoint struct {
	index, term uint64
	kind        raft.LogType // LogNoop or LogConfiguration
	data        []byte
}

func logPointOf(l *raft.Log) logPoint {
	if l.Type == raft.LogConfiguration && len(l.Data) <= maxLogStubData {
		return logPoint{l.Index, l.Term, raft.LogConfiguration, append([]byte(nil), l.Data...)}
	}
	return logPoint{index: l.Index, term: l.Term, kind: raft.LogNoop}
}

func logPointAt(m *Marker) logPoint {
	if m.ConfigurationIndex == m.Index {
		return logPoint{m.Index, m.Term, raft.LogConfiguration, m.Configuration}
	}
	return logPoint{index: m.Index, term: m.Term, kind: raft.LogNoop}
}

func (p logPoint) stub() raft.Log {
	return raft.Log{Index: p.index, Term: p.term, Type: p.kind, Data: p.data}
}

// appendLogPoint appends version u8 = 1 | type u8 | index uvarint | term uvarint | data length uvarint | data.
func appendLogPoint(b []byte, p logPoint) []byte {
	b = append(b, logPointVersion, byte(p.kind))
	b = binary.AppendUvarint(b, p.index)
	b = binary.AppendUvarint(b, p.term)
	return appendLengthed(b, p.data)
}

func (r *reader) logPoint() logPoint {
	if v := r.byte(); r.err == nil && v != logPointVersion {
		r.fail(fmt.Sprintf("compacted record version %d", v))
	}
	p := logPoint{kind: raft.LogType(r.byte())}
	p.index, p.term = r.uvarint(), r.uvarint()
	p.data = r.lengthed(maxLogStubData)
	if r.err == nil && (p.index == 0 || p.kind != raft.LogNoop && p.kind != raft.LogConfiguration) {
		r.fail(fmt.Sprintf("compacted record of index %d, type %s", p.index, p.kind))
	}
	return p
}

func decodeLogPoint(v []byte) (logPoint, error) {
	r := reader{b: v}
	p := r.logPoint()
	return p, r.end()
}

// logVote is a vote: both parts or none.
type logVote struct {
	term      uint64
	candidate []byte
}

// appendLogVote appends version u8 = 1 | term uvarint | candidate length uvarint | candidate.
func appendLogVote(b []byte, v *logVote) []byte {
	return appendLengthed(binary.AppendUvarint(append(b, logVoteVersion), v.term), v.candidate)
}

func (r *reader) logVote() *logVote {
	if v := r.byte(); r.err == nil && v != logVoteVersion {
		r.fail(fmt.Sprintf("vote version %d", v))
	}
	return &logVote{term: r.uvarint(), candidate: r.lengthed(maxLogCandidate)}
}

func decodeLogVote(b []byte) (*logVote, error) {
	r := reader{b: b}
	v := r.logVote()
	return v, r.end()
}
