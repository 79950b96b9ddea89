package mesh

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/memberlist"
)

// gossipDoor looks at everything that comes by gossip before memberlist does. memberlist (v0.7.0) reads on goroutines of its own, so
// that a panic in it, of which it has some for whoever knows the key, or has a certificate, ends the process. What it is shown is
// therefore exactly what memberlist itself sends as it is configured here: flat messages of known fields, of a bounded size, neither
// packed nor padded, and none of an application, of which there are none.
type gossipDoor struct {
	label string
	keys  *memberlist.Keyring // nil: not encrypted
}

// What memberlist calls its messages (net.go).
const (
	messagePing         = 0
	messageIndirectPing = 1
	messageAck          = 2
	messageSuspect      = 3
	messageAlive        = 4
	messageDead         = 5
	messageState        = 6
	messageCompound     = 7
	messageEncrypted    = 10
	messageNack         = 11
	messageChecksum     = 12
	messageError        = 13
	messageLabel        = 244
)

const (
	// sealVersion is the encryption without padding; sealOverhead is what it adds: itself, a nonce and a tag.
	sealVersion  = 1
	sealNonce    = 12
	sealOverhead = 1 + sealNonce + 16

	// maxGossipStream is the longest state of a cluster that is taken: that of the most hosts there can be, with the longest names,
	// has two thirds of it. maxGossipNodes counts hosts that are gone, too.
	maxGossipStream = 1 << 20
	maxGossipNodes  = 4096
	// maxGossipFields is how many fields a message may have; the largest that is known has eight.
	maxGossipFields = 32
)

// gossipFault is the error for what is not let in.
func gossipFault(format string, args ...any) error {
	return &FrameError{Peer: "gossip", What: fmt.Sprintf(format, args...)}
}

// packet judges a packet.
func (d *gossipDoor) packet(b []byte) error {
	b, label, err := memberlist.RemoveLabelHeaderFromPacket(b)
	if err != nil {
		return gossipFault("%v", err)
	}
	if label != d.label {
		return gossipFault("a packet is labelled %q", label)
	}
	if d.keys != nil {
		if b, err = d.open(b, []byte(label)); err != nil {
			return err
		}
	}
	if len(b) >= 5 && b[0] == messageChecksum {
		if crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:5]) {
			return gossipFault("a packet's checksum is wrong")
		}
		b = b[5:]
	}
	if len(b) == 0 || b[0] != messageCompound {
		return packetMessage(b)
	}
	return compoundPacket(b[1:])
}

// compoundPacket judges the messages of a packet that has several: their number, their lengths, then themselves.
func compoundPacket(b []byte) error {
	if len(b) == 0 || len(b) < 1+2*int(b[0]) {
		return gossipFault("a packet of several messages is cut off")
	}
	n := int(b[0])
	lengths, rest := b[1:1+2*n], b[1+2*n:]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		size := int(binary.BigEndian.Uint16(lengths))
		if size > len(rest) {
			return gossipFault("a message of %d bytes has %d", size, len(rest))
		}
		if err := packetMessage(rest[:size]); err != nil {
			return err
		}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return gossipFault("%d bytes after the messages of a packet", len(rest))
	}
	return nil
}

// packetMessage judges one message of a packet.
func packetMessage(b []byte) error {
	if len(b) == 0 {
		return gossipFault("a message without a type")
	}
	switch b[0] {
	case messagePing, messageIndirectPing, messageAck, messageSuspect, messageAlive, messageDead, messageNack:
	default:
		return gossipFault("a packet with a message of type %d", b[0])
	}
	r := &gossipReader{from: bytes.NewReader(b[1:]), limit: len(b) - 1}
	m, err := r.message()
	if err != nil {
		return truncated(err)
	}
	if b[0] == messageIndirectPing && !m.addressed {
		return gossipFault("a ping to nobody")
	}
	return r.end()
}

// open decrypts what was sealed with a key that is understood.
func (d *gossipDoor) open(sealed, with []byte) ([]byte, error) {
	if len(sealed) <= sealOverhead || sealed[0] != sealVersion {
		return nil, gossipFault("%d bytes are not encrypted as they should be", len(sealed))
	}
	for _, key := range d.keys.GetKeys() {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		if plain, err := gcm.Open(nil, sealed[1:1+sealNonce], sealed[1+sealNonce:], with); err == nil {
			return plain, nil
		}
	}
	return nil, gossipFault("encrypted with another key")
}

// stream reads the one message of a stream and returns its bytes, as they came, if memberlist may see them. Only who dials labels a
// stream. Errors: *FrameError, or that of the connection.
func (d *gossipDoor) stream(from io.Reader, labelled bool) ([]byte, error) {
	r := &gossipReader{from: bufio.NewReader(from), limit: maxGossipStream}
	if labelled {
		if err := d.streamLabel(r); err != nil {
			return nil, err
		}
	}
	typ, err := r.byte()
	if err != nil {
		return nil, err
	}
	if d.keys == nil {
		err := streamMessage(typ, r)
		return r.got.Bytes(), err
	}
	if typ != messageEncrypted {
		return nil, gossipFault("a stream is not encrypted")
	}
	head := r.got.Len() - 1
	size, err := r.take(4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size)
	if n > maxGossipStream {
		return nil, gossipFault("a stream of %d bytes", n)
	}
	sealed, err := r.take(int(n))
	if err != nil {
		return nil, err
	}
	with := append(bytes.Clone(r.got.Bytes()[head:head+5]), d.label...)
	plain, err := d.open(sealed, with)
	if err != nil {
		return nil, err
	}
	inner := &gossipReader{from: bytes.NewReader(plain[1:]), limit: len(plain) - 1}
	if err := streamMessage(plain[0], inner); err != nil {
		return nil, truncated(err)
	}
	return r.got.Bytes(), inner.end()
}

func (d *gossipDoor) streamLabel(r *gossipReader) error {
	if d.label == "" {
		return nil
	}
	head, err := r.take(2)
	if err != nil {
		return err
	}
	if head[0] != messageLabel {
		return gossipFault("a stream begins with %d", head[0])
	}
	label, err := r.take(int(head[1]))
	if err != nil {
		return err
	}
	if string(label) != d.label {
		return gossipFault("a stream is labelled %q", label)
	}
	return nil
}

// streamMessage judges what a stream carries: a ping or its answer, a fault, or the state of all hosts.
func streamMessage(typ byte, r *gossipReader) error {
	switch typ {
	case messagePing, messageAck, messageError, messageState:
	default:
		return gossipFault("a stream with a message of type %d", typ)
	}
	head, err := r.message()
	if err != nil || typ != messageState {
		return err
	}
	for range head.nodes {
		if _, err := r.message(); err != nil {
			return err
		}
	}
	return nil
}

// truncated makes the end of what should have gone on a fault: of a packet or a decrypted stream there is no more to come.
func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return gossipFault("a message is cut off")
	}
	return err
}

// gossipReader reads msgpack as far as memberlist's messages need it, and keeps what it has read.
type gossipReader struct {
	from  io.Reader
	limit int // bytes that may be read
	got   bytes.Buffer
}

// take reads n bytes; they are valid until the next call. Nothing is allocated because a length says so.
func (r *gossipReader) take(n int) ([]byte, error) {
	if n < 0 || n > r.limit {
		return nil, gossipFault("%d bytes more are too many", n)
	}
	r.limit -= n
	at := r.got.Len()
	if _, err := io.CopyN(&r.got, r.from, int64(n)); err != nil {
		if err == io.EOF && at > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return r.got.Bytes()[at:], nil
}

func (r *gossipReader) byte() (byte, error) {
	b, err := r.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// uint reads a big-endian number of n bytes.
func (r *gossipReader) uint(n int) (v uint64, err error) {
	b, err := r.take(n)
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v, err
}

// end checks that nothing is left.
func (r *gossipReader) end() error {
	if r.limit > 0 {
		return gossipFault("%d bytes after a message", r.limit)
	}
	return nil
}

// gossipMessage is what matters of a message.
type gossipMessage struct {
	nodes     int  // that follow, in a state
	addressed bool // it has a target
}

// message reads a map of fields, each of which is known and within its bounds, or neither a map nor a list: a later version may have
// added it.
func (r *gossipReader) message() (m gossipMessage, err error) {
	n, err := r.fields()
	if err != nil {
		return m, err
	}
	seen := make(map[string]bool, n)
	for range n {
		key, err := r.value()
		if err != nil {
			return m, err
		}
		name := string(key.bytes)
		if key.kind != kindBytes || len(name) > maxNameBytes || seen[name] {
			return m, gossipFault("a field without a name, or there twice")
		}
		seen[name] = true
		v, err := r.value()
		if err != nil {
			return m, err
		}
		if bound, ok := gossipFields[name]; ok && !bound.holds(v) {
			return m, gossipFault("%s of a message is not possible", name)
		}
		switch name {
		case "Nodes":
			m.nodes = int(v.number)
		case "Target":
			m.addressed = len(v.bytes) > 0
		}
	}
	return m, nil
}

// fields reads how many fields there are.
func (r *gossipReader) fields() (n int, err error) {
	lead, err := r.byte()
	if err != nil {
		return 0, err
	}
	count := uint64(lead & 0x0f)
	switch {
	case lead&0xf0 == 0x80:
	case lead == 0xde:
		count, err = r.uint(2)
	case lead == 0xdf:
		count, err = r.uint(4)
	default:
		return 0, gossipFault("a message begins with %#x", lead)
	}
	if err == nil && count > maxGossipFields {
		err = gossipFault("a message of %d fields", count)
	}
	return int(count), err
}

// The kinds of values that fields have.
const (
	kindNone = iota // nil, which stands for the zero of any
	kindBool
	kindNumber // not negative
	kindBytes  // text, too
)

type gossipValue struct {
	kind   int
	number uint64
	bytes  []byte // valid until the next one is read
}

// value reads one that is neither a map nor a list, nor a kind that no field has.
func (r *gossipReader) value() (v gossipValue, err error) {
	lead, err := r.byte()
	if err != nil {
		return v, err
	}
	switch {
	case lead <= 0x7f:
		return gossipValue{kind: kindNumber, number: uint64(lead)}, nil
	case lead >= 0xa0 && lead <= 0xbf:
		return r.bytesValue(uint64(lead & 0x1f))
	}
	switch lead {
	case 0xc0:
		return gossipValue{}, nil
	case 0xc2, 0xc3:
		return gossipValue{kind: kindBool}, nil
	case 0xcc, 0xcd, 0xce, 0xcf: // of 1, 2, 4 and 8 bytes
		v.kind = kindNumber
		v.number, err = r.uint(1 << (lead - 0xcc))
		return v, err
	case 0xd0, 0xd1, 0xd2, 0xd3: // with a sign
		size := 1 << (lead - 0xd0)
		v.kind = kindNumber
		v.number, err = r.uint(size)
		if err == nil && v.number>>(8*size-1) != 0 {
			err = gossipFault("a negative number")
		}
		return v, err
	case 0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb: // bytes and text, their lengths of 1, 2 and 4 bytes
		first := byte(0xc4)
		if lead >= 0xd9 {
			first = 0xd9
		}
		size, err := r.uint(1 << (lead - first))
		if err != nil {
			return v, err
		}
		return r.bytesValue(size)
	}
	return v, gossipFault("a value begins with %#x", lead)
}

func (r *gossipReader) bytesValue(size uint64) (v gossipValue, err error) {
	if size > maxGossipStream {
		return v, gossipFault("a value of %d bytes", size)
	}
	v.kind = kindBytes
	v.bytes, err = r.take(int(size))
	return v, err
}

// gossipBound is what values a field may have.
type gossipBound struct {
	kind int
	most uint64 // of a number, or of how many bytes; if only is set those lengths alone
	only []int
}

// gossipFields are those of memberlist's messages. Addresses of other lengths would be looked up as if they were names.
var gossipFields = map[string]gossipBound{
	"SeqNo":        {kind: kindNumber, most: 1<<32 - 1},
	"Incarnation":  {kind: kindNumber, most: 1<<32 - 1},
	"Port":         {kind: kindNumber, most: 1<<16 - 1},
	"SourcePort":   {kind: kindNumber, most: 1<<16 - 1},
	"State":        {kind: kindNumber, most: 3},
	"Nodes":        {kind: kindNumber, most: maxGossipNodes},
	"UserStateLen": {kind: kindNumber, most: 0},
	"Node":         {kind: kindBytes, most: maxNameBytes},
	"Name":         {kind: kindBytes, most: maxNameBytes},
	"From":         {kind: kindBytes, most: maxNameBytes},
	"SourceNode":   {kind: kindBytes, most: maxNameBytes},
	"Error":        {kind: kindBytes, most: 4 << 10},
	"Payload":      {kind: kindBytes, most: memberlist.MetaMaxSize},
	"Meta":         {kind: kindBytes, most: memberlist.MetaMaxSize},
	"Vsn":          {kind: kindBytes, only: []int{0, 6}},
	"Addr":         {kind: kindBytes, only: []int{0, 4, 16}},
	"SourceAddr":   {kind: kindBytes, only: []int{0, 4, 16}},
	"Target":       {kind: kindBytes, only: []int{0, 4, 16}},
	"Join":         {kind: kindBool},
	"Nack":         {kind: kindBool},
}

func (b *gossipBound) holds(v gossipValue) bool {
	switch {
	case v.kind == kindNone:
		return true
	case v.kind != b.kind:
		return false
	case v.kind == kindNumber:
		return v.number <= b.most
	case v.kind == kindBytes && b.only != nil:
		for _, n := range b.only {
			if len(v.bytes) == n {
				return true
			}
		}
		return false
	}
	return v.kind != kindBytes || uint64(len(v.bytes)) <= b.most
}
