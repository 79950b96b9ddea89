package partition

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/adamantdb/adamant/store"
)

// kindSeveral marks an entry of several commands, which were proposed while others were on their way (outbox.go). What Raft, the log
// and the links do for an entry they then do once for all of these.
//
// Always: the commands are of different documents, so that still one command is what changed a document at an index, and none is
// a barrier. They take effect together: whoever holds the index holds all of them.
const kindSeveral = 0xff

// maxTogether bounds an entry of several commands, in bytes. A larger command goes alone.
const maxTogether = 64 << 10

// severalHeader is the size of what precedes the commands; leastCommand is less than any of them takes.
const (
	severalHeader = 4
	leastCommand  = 40
)

// together is an entry of several commands while they are being gathered:
//
//	version u8 | kindSeveral u8 | count u16 | count × command
type together struct {
	b     []byte
	count int
	alone bool // nothing may be added
}

// add appends a command and reports whether there was room for it, which there is for the first. room is what to allocate.
func (t *together) add(c *command, room int) bool {
	hint := c.sizeHint()
	if t.count > 0 && (t.alone || c.Barrier || len(t.b)+hint > maxTogether || t.count == math.MaxUint16) {
		return false
	}
	if t.count == 0 {
		t.b = make([]byte, severalHeader, severalHeader+max(hint, room))
	}
	t.b, t.alone = c.append(t.b), c.Barrier
	t.count++
	return true
}

// entry is the entry's data. One command is encoded as ever.
func (t *together) entry() []byte {
	if t.count == 1 {
		b := t.b[severalHeader-1:]
		b[0] = commandVersion
		return b
	}
	t.b[0], t.b[1] = commandVersion, kindSeveral
	binary.BigEndian.PutUint16(t.b[2:], uint16(t.count))
	return t.b
}

// entryReader reads the commands of an entry, one after the other.
type entryReader struct {
	r    reader
	kind byte // the entry's
	left int  // not read yet
}

func openCommands(entry []byte) (s entryReader, err error) {
	if len(entry) < 2 {
		return s, fmt.Errorf("%w: %d bytes", errCommand, len(entry))
	}
	if entry[0] != commandVersion {
		return s, fmt.Errorf("%w: version %d, this program knows %d", errCommand, entry[0], commandVersion)
	}
	s = entryReader{kind: entry[1], r: reader{b: entry[2:]}, left: 1}
	if s.kind == kindSeveral {
		count := s.r.take(2)
		if s.r.err != nil {
			return s, s.r.err
		}
		s.left = int(binary.BigEndian.Uint16(count))
		if s.left == 0 || s.left > len(s.r.b)/leastCommand {
			return s, fmt.Errorf("%w: %d commands in %d bytes", errCommand, s.left, len(s.r.b))
		}
	}
	return s, nil
}

// next reads a command, which shares the entry's memory, and room for its deltas; false at the end.
func (s *entryReader) next(c *command, room *[]store.Delta) (ok bool, err error) {
	if s.left == 0 {
		return false, s.r.end()
	}
	kind, err := s.start()
	if err != nil {
		return false, err
	}
	return true, s.r.command(kind, c, room)
}

// start reads the kind of the next command, of which there has to be one.
func (s *entryReader) start() (kind byte, err error) {
	s.left--
	if s.kind != kindSeveral {
		return s.kind, nil
	}
	k := s.r.take(1)
	if s.r.err != nil {
		return 0, s.r.err
	}
	if k[0] == kindBarrier {
		return 0, fmt.Errorf("%w: a barrier among others", errCommand)
	}
	return k[0], nil
}

// barrierIn returns the barrier that an entry consists of; false when it is something else.
func barrierIn(entry []byte) (c command, ok bool, err error) {
	s, err := openCommands(entry)
	for more := true; more && err == nil; {
		more, err = s.next(&c, new([]store.Delta))
	}
	return c, c.Barrier && err == nil, err // it would be the only one
}
