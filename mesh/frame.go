package mesh

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// A frame is a header of 32 bytes and a payload (docs/wire-format.md).
const (
	headerBytes  = 32
	frameMagic   = 0xADA3
	frameVersion = 1

	// What may come before a peer has said who it is, and in frames that carry
	// no application payload, is small.
	maxHandshakeBytes = 4 << 10
	maxFailureBytes   = 4 << 10

	// A payload longer than this is read piece by piece, so that a header
	// alone does not make the receiver allocate its whole length.
	readStep = 1 << 20
)

type frameType uint8

const (
	frameHello frameType = iota + 1
	frameWelcome
	frameRefusal
	frameRequest
	frameResponse
	frameFailure
	framePing
	framePong
	frameGoodbye
)

func (t frameType) String() string {
	names := [...]string{"", "hello", "welcome", "refusal", "request", "response", "failure", "ping", "pong", "goodbye"}
	if int(t) < len(names) && t != 0 {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// header is a frame's header without what encoding adds (magic, version,
// length, checksum).
type header struct {
	typ       frameType
	class     Class
	service   Service
	partition uint32
	id        uint64
}

// frameLimits are the largest payloads a receiver takes.
type frameLimits struct {
	urgent int // requests and responses of class Urgent
	other  int // those of the other classes
}

// of is the largest payload of a frame with this header.
func (l frameLimits) of(h header) int {
	switch h.typ {
	case frameHello, frameWelcome, frameRefusal:
		return maxHandshakeBytes
	case frameFailure, frameGoodbye:
		return maxFailureBytes
	case frameRequest, frameResponse:
		if h.class == Urgent {
			return l.urgent
		}
		return l.other
	}
	return 0
}

// appendHeader appends the header of a frame with this payload.
func appendHeader(dst []byte, h header, payload []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, frameMagic)
	dst = append(dst, frameVersion, byte(h.typ), byte(h.class), byte(h.service), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.partition)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.BigEndian.AppendUint64(dst, h.id)
	return binary.BigEndian.AppendUint64(dst, frameSum(dst[start:], payload))
}

// frameSum is the checksum over the header before it and the payload.
func frameSum(head, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(head)
	_, _ = d.Write(payload)
	return d.Sum64()
}

// parseHeader checks everything that can be checked without the payload.
func parseHeader(b []byte, limits frameLimits) (h header, length int, err error) {
	if magic := binary.BigEndian.Uint16(b); magic != frameMagic {
		return h, 0, &FrameError{What: fmt.Sprintf("a frame begins with % x", b[:2])}
	}
	if b[2] != frameVersion {
		return h, 0, &FrameError{What: fmt.Sprintf("frame version %d", b[2])}
	}
	h = header{
		typ: frameType(b[3]), class: Class(b[4]), service: Service(b[5]),
		partition: binary.BigEndian.Uint32(b[8:]), id: binary.BigEndian.Uint64(b[16:]),
	}
	if h.typ < frameHello || h.typ > frameGoodbye {
		return h, 0, &FrameError{What: "frame of unknown " + h.typ.String()}
	}
	if h.class < Urgent || h.class > Bulk {
		return h, 0, &FrameError{What: fmt.Sprintf("%s frame of class %d", h.typ, h.class)}
	}
	if b[6] != 0 || b[7] != 0 {
		return h, 0, &FrameError{What: fmt.Sprintf("%s frame with reserved bytes % x", h.typ, b[6:8])}
	}
	n := binary.BigEndian.Uint32(b[12:])
	if limit := limits.of(h); uint64(n) > uint64(limit) {
		return h, 0, &FrameError{What: fmt.Sprintf("%s frame of %d bytes, limit %d", h.typ, n, limit)}
	}
	return h, int(n), nil
}

// readFrame reads one frame. A *FrameError (its Peer left empty) means that the
// stream is not the protocol and cannot be followed any further; any other
// error is the connection's. The payload is the caller's.
func readFrame(r *bufio.Reader, limits frameLimits) (header, []byte, error) {
	head, err := r.Peek(headerBytes)
	if err != nil {
		return header{}, nil, cutOff(err, len(head) > 0, "header")
	}
	h, n, err := parseHeader(head, limits)
	if err != nil {
		return h, nil, err
	}
	var kept [headerBytes]byte
	copy(kept[:], head)
	_, _ = r.Discard(headerBytes)
	payload, err := readPayload(r, n)
	if err != nil {
		return h, nil, cutOff(err, true, "payload")
	}
	sum := binary.BigEndian.Uint64(kept[24:])
	if frameSum(kept[:24], payload) != sum {
		return h, nil, &FrameError{What: fmt.Sprintf("checksum of a %s frame of %d bytes does not match", h.typ, n)}
	}
	return h, payload, nil
}

// cutOff tells an orderly end of the stream from one in the midst of a frame.
func cutOff(err error, inside bool, part string) error {
	if inside && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return fmt.Errorf("connection ended inside a frame's %s: %w", part, io.ErrUnexpectedEOF)
	}
	return err
}

// readPayload reads n bytes; long ones in doubling steps as they arrive.
func readPayload(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := payloadRoom(min(n, readStep))
	for got := 0; ; {
		if _, err := io.ReadFull(r, b[got:]); err != nil {
			return nil, err
		}
		if len(b) == n {
			return b, nil
		}
		got = len(b)
		b = append(make([]byte, 0, min(n, 2*got)), b...)
		b = b[:cap(b)]
	}
}
