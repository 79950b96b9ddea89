package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// logState is what a group keeps in memory of its log; LogGroup draws its invariant. The functions here decide what an
// operation does to the disk, without doing it: each returns one logChange, one atomic step.
type logState struct {
	first, last uint64 // 0 when there are no entries
	compacted   logPoint
	marker      *Marker
	vote        *logVote
	stable      stableValues // never changed, only replaced
}

// stableValues are in the order of their keys: most groups have one for as long as they live.
type stableValues []stableValue

type stableValue struct {
	key   string
	value []byte
}

func (s stableValues) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(v stableValue, key string) int { return strings.Compare(v.key, key) })
}

// with returns the values with one of them set.
func (s stableValues) with(key string, value []byte) stableValues {
	i, known := s.find(key)
	if !known {
		s = slices.Insert(slices.Clip(s), i, stableValue{key: key})
	} else {
		s = slices.Clone(s)
	}
	s[i].value = value
	return s
}

// logChange is one atomic step of a group's durable state.
type logChange struct {
	entries    []*raft.Log // stored at the end
	bytes      int64       // of entries
	from, to   uint64      // entries removed from the front or the back; none when from is 0
	compacted  *logPoint   // replaces the record
	marker     *Marker     // replaces the record
	vote       *logVote    // replaces the record
	key, value []byte      // stable value; none when key is nil; neither is changed afterwards

	// lazy: need not be durable when it returns, only ordered before what follows.
	lazy bool
}

// holds reports whether there is an entry at index.
func (s *logState) holds(index uint64) bool {
	return s.first > 0 && index >= s.first && index <= s.last
}

// split returns what is shown before the change is durable, and what is shown after. The record of what was compacted
// goes with the removal when it says of an entry of this log what this log said.
func (c *logChange) split() (removal, rest logChange) {
	rest = *c
	removal.from, removal.to, rest.from, rest.to = c.from, c.to, 0, 0
	if c.compacted != nil && c.marker == nil {
		removal.compacted, rest.compacted = c.compacted, nil
	}
	return removal, rest
}

// cut leaves in a change as many entries as are stored in one step, and returns one of the others; nil when there are none. What Raft has
// stored at once it has gathered while it was busy, however much it is. It needs no more than that a crash leaves the first of
// it; and steps of a bounded size keep no other group waiting for long.
func (c *logChange) cut() (rest *logChange) {
	if c.bytes <= maxLogRound {
		return nil
	}
	n, size := firstStep(c.entries)
	if n == len(c.entries) {
		return nil
	}
	rest = &logChange{entries: c.entries[n:], bytes: c.bytes - size}
	c.entries, c.bytes = c.entries[:n], size
	return rest
}

// firstStep returns how many of the entries are stored in one step, and their bytes.
func firstStep(logs []*raft.Log) (n int, size int64) {
	for n < len(logs) {
		bytes := int64(len(logs[n].Data)) + int64(len(logs[n].Extensions))
		if n > 0 && size+bytes > maxLogRound {
			break
		}
		n, size = n+1, size+bytes
	}
	return n, size
}

// LogSteps returns the runs of entries, one after the other, that a LogGroup stores in one step each. Who stores them by themselves
// learns of each when it is durable.
func LogSteps(logs []*raft.Log) iter.Seq[[]*raft.Log] {
	return func(yield func([]*raft.Log) bool) {
		for len(logs) > 0 {
			n, _ := firstStep(logs)
			if !yield(logs[:n:n]) {
				return
			}
			logs = logs[n:]
		}
	}
}

// next is the index that the next entry must have.
func (s *logState) next() uint64 {
	if s.last > 0 {
		return s.last + 1
	}
	return s.compacted.index + 1
}

// after returns the state once c is durable.
func (s logState) after(c *logChange) logState {
	switch {
	case c.from == 0:
	case c.from == s.first && c.to == s.last:
		s.first, s.last = 0, 0
	case c.from == s.first:
		s.first = c.to + 1
	default:
		s.last = c.from - 1
	}
	if n := len(c.entries); n > 0 {
		if s.first == 0 {
			s.first = c.entries[0].Index
		}
		s.last = c.entries[n-1].Index
	}
	if c.compacted != nil {
		s.compacted = *c.compacted
	}
	if c.marker != nil {
		s.marker = c.marker
	}
	if c.vote != nil {
		s.vote = c.vote
	}
	if c.key != nil {
		s.stable = s.stable.with(string(c.key), c.value)
	}
	return s
}

// get answers a stable value; the two halves of a vote are read as one.
func (s *logState) get(key string) ([]byte, bool) {
	switch {
	case key != logKeyVoteTerm && key != logKeyVoteCandidate:
		i, ok := s.stable.find(key)
		if !ok {
			return nil, false
		}
		return s.stable[i].value, true
	case s.vote == nil:
		return nil, false
	case key == logKeyVoteTerm:
		return binary.BigEndian.AppendUint64(nil, s.vote.term), true
	}
	return s.vote.candidate, true
}

// set plans Set. staged is a vote's term on its way.
func (s *logState) set(key, value []byte, staged **uint64) (*logChange, error) {
	if len(key) == 0 || len(key) > maxLogKey || len(value) > maxLogValue {
		return nil, fmt.Errorf("key of %d bytes, value of %d", len(key), len(value))
	}
	switch string(key) {
	case logKeyVoteTerm:
		if len(value) != 8 {
			return nil, fmt.Errorf("%s of %d bytes", key, len(value))
		}
		term := binary.BigEndian.Uint64(value)
		*staged = &term
		return nil, nil
	case logKeyVoteCandidate:
		if len(value) > maxLogCandidate {
			return nil, fmt.Errorf("%s of %d bytes", key, len(value))
		}
		v := &logVote{candidate: slices.Clone(value)}
		if *staged != nil {
			v.term = **staged
		} else if s.vote != nil {
			v.term = s.vote.term
		}
		*staged = nil
		return &logChange{vote: v}, nil
	}
	if _, known := s.stable.find(string(key)); !known && len(s.stable) == maxLogKeys {
		return nil, fmt.Errorf("more than %d keys", maxLogKeys)
	}
	return &logChange{key: slices.Clone(key), value: slices.Clone(value)}, nil
}

// markerIndex is 0 without a marker.
func (s *logState) markerIndex() uint64 {
	if s.marker == nil {
		return 0
	}
	return s.marker.Index
}

// store plans StoreLogs.
func (s *logState) store(logs []*raft.Log) (*logChange, error) {
	size := int64(0)
	for i, l := range logs {
		if want := s.next() + uint64(i); l.Index != want {
			return nil, fmt.Errorf("store entry %d: the log goes on at %d", l.Index, want)
		}
		if len(l.Extensions) > maxLogExtensions {
			return nil, fmt.Errorf("store entry %d: extensions of %d bytes", l.Index, len(l.Extensions))
		}
		bytes := int64(len(l.Data)) + int64(len(l.Extensions))
		if bytes > maxLogBytes {
			return nil, fmt.Errorf("store entry %d: %d bytes", l.Index, bytes)
		}
		size += bytes
	}
	return &logChange{entries: logs, bytes: size}, nil
}

// deleteRange plans DeleteRange; nil when it covers no entries. entry answers the log's own entries.
//
// A whole log may go for two reasons, which the marker tells apart: entries it covers are committed, so they are never
// in conflict with a leader's, and removing them is compaction; entries above it are not compacted, only removed.
func (s *logState) deleteRange(low, high uint64, entry func(uint64) (raft.Log, error)) (*logChange, error) {
	if s.first == 0 || low > high || high < s.first || low > s.last {
		return nil, nil
	}
	low, high = max(low, s.first), min(high, s.last)
	front, back, marker := low == s.first, high == s.last, s.markerIndex()
	c := &logChange{from: low, to: high}
	switch {
	case front && high <= marker:
		point := logPointAt(s.marker)
		switch l, err := entry(high); {
		case err == nil:
			point = logPointOf(&l)
		case errors.As(err, new(*CorruptionError)): // what is damaged goes along with the rest that the marker covers
			c.to = min(marker, s.last)
		default:
			return nil, err
		}
		c.compacted, c.lazy = &point, true
		return c, nil
	case front && back && low <= marker:
		point := logPointAt(s.marker)
		c.compacted = &point
		return c, nil
	case back && low > marker:
		return c, nil
	}
	return nil, fmt.Errorf("delete entries %d to %d of [%d, %d] with the marker at %d: the rest would not be a log", low, high,
		s.first, s.last, marker)
}

// saveMarker plans SaveMarker. term answers the term of an entry of [compacted, last].
func (s *logState) saveMarker(m *Marker, keep bool, term func(uint64) (uint64, bool, error)) (*logChange, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	if s.marker != nil && (m.Index < s.marker.Index || m.Index == s.marker.Index && m.Term != s.marker.Term) {
		return nil, fmt.Errorf("marker at index %d, term %d after the one at index %d, term %d", m.Index, m.Term,
			s.marker.Index, s.marker.Term)
	}
	c := &logChange{marker: m}
	if keep {
		have, ok, err := term(m.Index)
		if err != nil {
			return nil, err
		}
		if ok && have == m.Term {
			return c, nil
		}
	}
	point := logPointAt(m)
	c.compacted, c.from, c.to = &point, s.first, s.last
	return c, nil
}

// check verifies a state that was read back, all but the entries between first and last.
func (s *logState) check(term func(uint64) (uint64, bool, error)) error {
	if (s.first == 0) != (s.last == 0) || s.first > s.last {
		return fmt.Errorf("entries %d to %d", s.first, s.last)
	}
	if s.first > 0 && s.first != s.compacted.index+1 {
		return fmt.Errorf("entries start at %d, but %d was the last one dropped", s.first, s.compacted.index)
	}
	if s.marker == nil {
		if s.compacted.index > 0 {
			return fmt.Errorf("entries up to %d were dropped, but there is no marker", s.compacted.index)
		}
		return nil
	}
	have, ok, err := term(s.marker.Index)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("the marker is at %d, outside of [%d, %d]", s.marker.Index, s.compacted.index, s.last)
	case have != s.marker.Term:
		return fmt.Errorf("the marker at %d has the term %d, the log has %d there", s.marker.Index, s.marker.Term, have)
	}
	return nil
}
