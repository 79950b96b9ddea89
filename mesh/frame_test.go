package mesh

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

var testLimits = frameLimits{urgent: 1 << 10, other: 4 << 20}

func encodeFrame(h header, payload []byte) []byte {
	return append(appendHeader(nil, h, payload), payload...)
}

func readOne(b []byte, limits frameLimits) (header, []byte, error) {
	return readFrame(bufio.NewReaderSize(bytes.NewReader(b), 4096), limits)
}

func TestFrameRoundTrip(t *testing.T) {
	for typ := frameHello; typ <= frameGoodbye; typ++ {
		for _, class := range []Class{Urgent, Normal, Bulk} {
			h := header{typ: typ, class: class, service: 9, partition: 0xFFEEDDCC, id: 1<<63 + 5}
			for _, n := range []int{0, 1, 1000, testLimits.of(h)} {
				n = min(n, testLimits.of(h))
				payload := bytes.Repeat([]byte{7}, n)
				got, data, err := readOne(encodeFrame(h, payload), testLimits)
				if err != nil || got != h || !bytes.Equal(data, payload) {
					t.Fatalf("%s frame of %d bytes: %+v, %d bytes, %v", typ, n, got, len(data), err)
				}
			}
		}
	}
}

func TestFrameArrivesInPieces(t *testing.T) {
	h := header{typ: frameRequest, class: Normal, id: 1}
	payload := bytes.Repeat([]byte("abc"), 1<<20) // several reading steps
	r := bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(encodeFrame(h, payload))), 4096)
	_, data, err := readFrame(r, testLimits)
	if err != nil || !bytes.Equal(data, payload) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if _, _, err := readFrame(r, testLimits); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

// Every single flipped bit is noticed, and nothing else than a *FrameError or
// the end of the input comes of it.
func TestFrameCorruption(t *testing.T) {
	good := encodeFrame(header{typ: frameResponse, class: Normal, service: 1, partition: 3, id: 77}, []byte("some payload"))
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		_, _, err := readOne(b, testLimits)
		var fault *FrameError
		if !errors.As(err, &fault) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
		}
	}
	for n := range good {
		_, _, err := readOne(good[:n], testLimits)
		if n == 0 && err != io.EOF || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut off after %d bytes: %v", n, err)
		}
	}
}

func TestFrameBounds(t *testing.T) {
	for _, c := range []struct {
		h     header
		limit int
	}{
		{header{typ: frameHello, class: Urgent}, maxHandshakeBytes},
		{header{typ: frameRequest, class: Urgent}, testLimits.urgent},
		{header{typ: frameResponse, class: Urgent}, testLimits.urgent},
		{header{typ: frameRequest, class: Normal}, testLimits.other},
		{header{typ: frameRequest, class: Bulk}, testLimits.other},
		{header{typ: frameFailure, class: Bulk}, maxFailureBytes},
		{header{typ: framePing, class: Urgent}, 0},
		{header{typ: framePong, class: Urgent}, 0},
	} {
		_, _, err := readOne(encodeFrame(c.h, make([]byte, c.limit+1)), testLimits)
		var fault *FrameError
		if !errors.As(err, &fault) || !strings.Contains(fault.What, "limit") {
			t.Errorf("%s frame of class %d over its limit: %v", c.h.typ, c.h.class, err)
		}
	}
}

// A header that announces a long payload does not make the reader allocate it.
func TestFrameAnnouncedLengthIsNotAllocated(t *testing.T) {
	limits := frameLimits{other: 1 << 30}
	b := make([]byte, headerBytes)
	copy(b, appendHeader(nil, header{typ: frameRequest, class: Normal}, nil))
	binary.BigEndian.PutUint32(b[12:], 1<<30)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := readOne(b, limits); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Fatalf("%d bytes allocated for a payload that never came", grown)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(encodeFrame(header{typ: frameRequest, class: Normal, service: 1}, []byte("payload")))
	f.Add(encodeFrame(header{typ: framePing, class: Urgent, id: 5}, nil))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"))
	f.Add([]byte{0xAD, 0xA3, 1, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 4096)
		for {
			h, payload, err := readFrame(r, frameLimits{urgent: 100, other: 1000})
			if err != nil {
				return
			}
			if len(payload) > maxHandshakeBytes {
				t.Fatalf("%s frame with %d bytes", h.typ, len(payload))
			}
			if again := encodeFrame(h, payload); !bytes.HasPrefix(b, again) {
				t.Fatal("a frame does not encode to what it was read from")
			}
			b = b[headerBytes+len(payload):]
		}
	})
}

var testHello = hello{
	minVersion: 1, maxVersion: 3, kind: linkBulk, maxFrame: 8 << 20, instance: 99,
	id: Identity{Cluster: "c", Host: "h1", Incarnation: "i"}, addr: "127.0.0.1:1", target: "h2",
}

func TestHandshakeRoundTrip(t *testing.T) {
	if got, err := decodeHello(testHello.append(nil)); err != nil || got != testHello {
		t.Errorf("hello: %+v, %v", got, err)
	}
	// A later version may have more to say.
	if got, err := decodeHello(append(testHello.append(nil), "more"...)); err != nil || got != testHello {
		t.Errorf("longer hello: %+v, %v", got, err)
	}
	w := welcome{version: 1, maxFrame: 5, instance: 7, id: testHello.id, addr: "x:1"}
	if got, err := decodeWelcome(w.append(nil)); err != nil || got != w {
		t.Errorf("welcome: %+v, %v", got, err)
	}
	r := refusal{code: refusedCluster, minVersion: 1, maxVersion: 2, instance: 8, id: testHello.id, addr: "y:2", text: "no"}
	if got, err := decodeRefusal(r.append(nil)); err != nil || got != r {
		t.Errorf("refusal: %+v, %v", got, err)
	}
	for n := range len(testHello.append(nil)) {
		if _, err := decodeHello(testHello.append(nil)[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("hello cut off after %d bytes: %v", n, err)
		}
	}
	long := testHello
	long.id.Host = strings.Repeat("x", maxNameBytes+1)
	if _, err := decodeHello(long.append(nil)); !errors.Is(err, ErrMalformed) {
		t.Errorf("overlong name: %v", err)
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add(testHello.append(nil))
	f.Add((&welcome{version: 1, id: testHello.id}).append(nil))
	f.Add((&refusal{code: refusedHost, id: testHello.id, text: "no"}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHello(b); err == nil {
			if again, err := decodeHello(h.append(nil)); err != nil || again != h {
				t.Fatalf("hello %+v became %+v, %v", h, again, err)
			}
		}
		if w, err := decodeWelcome(b); err == nil {
			if again, err := decodeWelcome(w.append(nil)); err != nil || again != w {
				t.Fatalf("welcome %+v became %+v, %v", w, again, err)
			}
		}
		if r, err := decodeRefusal(b); err == nil {
			if again, err := decodeRefusal(r.append(nil)); err != nil || again != r {
				t.Fatalf("refusal %+v became %+v, %v", r, again, err)
			}
		}
		_, _ = decodeFailure("h", b)
		if instance, incarnation, err := decodeMeta(b); err == nil && !bytes.Equal(appendMeta(nil, instance, incarnation), b) {
			t.Fatal("meta does not encode to what it was read from")
		}
	})
}
