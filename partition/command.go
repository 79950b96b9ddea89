package partition

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/adamantdb/adamant/store"
)

// commandVersion is the first byte of every encoded command. A member that meets a version it does not know stops
// rather than guess.
const commandVersion = 1

// kindBarrier marks the command a new leader commits before it serves: it changes nothing, but once it is applied every
// entry of earlier terms is too (design §9).
const kindBarrier = 0

// command is a blind command (design §3): what the state machine is to write, and the term in which the leader that
// evaluated it served. Proposal numbers commands within a term, so that the proposer recognises its own.
type command struct {
	EvalTerm uint64
	Proposal uint64
	Barrier  bool
	Founding uint64         // of a barrier: the id the group takes if it has none yet
	Mutation store.Mutation // Index and Term are the log entry's, not encoded
}

// founds reports whether the command, in an entry of the given term, gives a group its id, if it has none.
func (c *command) founds(term uint64) bool { return c.Barrier && c.EvalTerm == term }

var errCommand = errors.New("malformed command")

// maxDeltas bounds the deltas of one command before anything is allocated for them.
const maxDeltas = 1 << 20

// encode returns the bytes of an entry of this command alone: the version (u8), and the command:
//
//	kind u8 | evalTerm uvarint | proposal uvarint
//	| space, key (each uvarint length + bytes) | generation uvarint | headSeq varint | chain, prior 16 bytes each
//	| flags u8 (1: dropped) | baseSeq varint | floor varint | base (uvarint length + bytes)
//	| count uvarint | count × delta (uvarint length + canonical bytes)
//
// A barrier has only the founding id (uvarint) after the proposal number.
func (c *command) encode() []byte {
	return c.append(append(make([]byte, 0, c.sizeHint()), commandVersion))
}

// append adds the command without a version.
func (c *command) append(b []byte) []byte {
	if c.Barrier {
		b = append(b, kindBarrier)
		b = binary.AppendUvarint(b, c.EvalTerm)
		b = binary.AppendUvarint(b, c.Proposal)
		return binary.AppendUvarint(b, c.Founding)
	}
	m := &c.Mutation
	b = append(b, byte(m.Kind))
	b = binary.AppendUvarint(b, c.EvalTerm)
	b = binary.AppendUvarint(b, c.Proposal)
	b = appendBytes(b, []byte(m.Key.Space))
	b = appendBytes(b, []byte(m.Key.Key))
	b = binary.AppendUvarint(b, m.Generation)
	b = binary.AppendVarint(b, m.HeadSeq)
	b = append(b, m.Chain[:]...)
	b = append(b, m.Prior[:]...)
	flags := byte(0)
	if m.Dropped {
		flags = 1
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, m.BaseSeq)
	b = binary.AppendVarint(b, m.Floor)
	b = appendBytes(b, m.Base)
	b = binary.AppendUvarint(b, uint64(len(m.Deltas)))
	for i := range m.Deltas {
		b = binary.AppendUvarint(b, uint64(m.Deltas[i].Size()))
		b = m.Deltas[i].AppendBinary(b)
	}
	return b
}

// sizeHint is at least the size of an entry of this command alone.
func (c *command) sizeHint() int { return sizeHint(&c.Mutation) }

func sizeHint(m *store.Mutation) int {
	n := 128 + len(m.Base) + len(m.Key.Space) + len(m.Key.Key)
	for i := range m.Deltas {
		n += m.Deltas[i].Size() + 8
	}
	return n
}

// command reads what follows the kind of a command. The result shares the reader's memory, and room where its deltas fit there.
func (r *reader) command(kind byte, c *command, room *[]store.Delta) error {
	*c = command{EvalTerm: r.uvarint(), Proposal: r.uvarint()}
	if kind == kindBarrier {
		c.Barrier = true
		c.Founding = r.uvarint()
		return r.err
	}
	m := &c.Mutation
	m.Kind = store.Kind(kind)
	if !m.Kind.Valid() {
		return fmt.Errorf("%w: kind %d", errCommand, kind)
	}
	m.Key.Space = r.spaceName()
	m.Key.Key = string(r.bytes())
	m.Generation = r.uvarint()
	m.HeadSeq = r.varint()
	copy(m.Chain[:], r.take(len(m.Chain)))
	copy(m.Prior[:], r.take(len(m.Prior)))
	flags := r.take(1)
	m.Dropped = len(flags) == 1 && flags[0]&1 != 0
	m.BaseSeq = r.varint()
	m.Floor = r.varint()
	if base := r.bytes(); len(base) > 0 {
		m.Base = base
	}
	if err := r.deltas(m, room); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	if err := m.Key.Validate(); err != nil {
		return fmt.Errorf("%w: %w", errCommand, err)
	}
	return nil
}

func (r *reader) deltas(m *store.Mutation, room *[]store.Delta) error {
	n := r.uvarint()
	if r.err == nil && (n > maxDeltas || n > uint64(len(r.b))) {
		return fmt.Errorf("%w: %d deltas in %d bytes", errCommand, n, len(r.b))
	}
	if n == 0 || r.err != nil {
		return r.err
	}
	if uint64(len(*room)) < n {
		*room = make([]store.Delta, n)
	}
	m.Deltas, *room = (*room)[:0:n], (*room)[n:]
	for range n {
		d, rest, err := store.DecodeDelta(r.bytes())
		if r.err != nil {
			return r.err
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCommand, err)
		}
		if len(rest) > 0 {
			return fmt.Errorf("%w: %d bytes after a delta", errCommand, len(rest))
		}
		m.Deltas = append(m.Deltas, d)
	}
	return nil
}

func appendBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// reader takes values off the front of a byte slice; the first failure sticks and later reads return zero values.
type reader struct {
	b     []byte
	err   error
	space string // the one before, mostly the next one's, too
}

func (r *reader) spaceName() string {
	if b := r.bytes(); string(b) != r.space {
		r.space = string(b)
	}
	return r.space
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: truncated %s", errCommand, what)
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.err != nil {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 || r.err != nil {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("field")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail("bytes")
		return nil
	}
	return r.take(int(n))
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%w: %d bytes too many", errCommand, len(r.b))
	}
	return r.err
}
