package antientropy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
	"github.com/adamantdb/adamant/store"
)

func someRequests() []request {
	q := store.ExportQuery{Wants: []store.Want{{Hash: 7}}, Budget: 100}
	return []request{
		&compareRequest{index: 1 << 40, root: merkle.Sum{A: 1, B: 2}},
		&listRequest{rows: 100, pages: []page{{bucket: 3, since: 17, to: 1<<64 - 1}, {bucket: 255, from: 9, to: 9}}},
		&listRequest{},
		&pullRequest{limit: 1 << 20, items: []pullItem{{bucket: 1, query: q.AppendBinary(nil)}, {bucket: 2, query: []byte{}}}},
	}
}

func someReplies() []reply {
	coverage := interval.Of(1, 40).Union(interval.Of(61, 99))
	r := &compareReply{outcome: otherRoot, index: 90, coverage: coverage, ahead: 95}
	r.sums[3] = merkle.Bucket{Sum: merkle.Sum{A: 3, B: 4}, Count: 5}
	chunk := (&store.Chunk{Bucket: 5, Done: true, Coverage: coverage, Applied: 99}).AppendBinary(nil)
	return []reply{
		r,
		&compareReply{outcome: sameRoot, index: 90, coverage: interval.Of(1, 99)},
		&compareReply{outcome: elsewhere, index: 80, root: merkle.Sum{A: 9, B: 8}},
		&compareReply{outcome: unavailable, index: 80, coverage: coverage, ahead: 1 << 50},
		&listReply{listings: [][]byte{(&store.Listing{Bucket: 1, Rows: []store.Row{{Hash: 1, LastIndex: 2, Generation: 1}}, To: 9}).AppendBinary(nil)}},
		&pullReply{chunks: [][]byte{chunk, bytes.Repeat([]byte("abcd"), 1000)}},
		&largeReply{bytes: 5 << 20},
		&refusal{code: 662111, bucket: 9, text: "no"},
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	for _, r := range someRequests() {
		got, err := decodeRequest(encodeRequest(r))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	}
	e := newEncoder()
	for _, r := range someReplies() {
		for _, b := range [][]byte{encodeReply(r), compress(e, encodeReply(r))} {
			plain, err := decompress(b, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeReply(plain)
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("%+v became %+v, %v", r, got, err)
			}
		}
	}
}

// TestComparisonIsSmall: what two healthy members exchange.
func TestComparisonIsSmall(t *testing.T) {
	ask := encodeRequest(&compareRequest{index: 123_456_789, root: merkle.Sum{A: 1 << 60, B: 1 << 61}})
	reply := encodeReply(&compareReply{outcome: sameRoot, index: 123_456_789, coverage: interval.Of(1, 123_456_800)})
	t.Logf("request %d bytes, reply %d bytes", len(ask), len(reply))
	if len(ask) > 40 || len(reply) > 40 {
		t.Errorf("request %d bytes, reply %d bytes", len(ask), len(reply))
	}
}

// TestEveryBitCounts: no message survives a change of any of its bits.
func TestEveryBitCounts(t *testing.T) {
	for _, r := range someRequests() {
		for _, b := range flipped(encodeRequest(r)) {
			if got, err := decodeRequest(b); err == nil {
				t.Fatalf("%+v accepted for %+v", got, r)
			}
		}
	}
	e := newEncoder()
	for _, r := range someReplies() {
		for _, whole := range [][]byte{encodeReply(r), compress(e, encodeReply(r))} {
			for _, b := range flipped(whole) {
				plain, err := decompress(b, 1<<20)
				if err != nil {
					continue
				}
				if got, err := decodeReply(plain); err == nil && !reflect.DeepEqual(got, r) {
					t.Fatalf("%+v accepted for %+v", got, r)
				}
			}
		}
	}
}

func flipped(b []byte) [][]byte {
	var list [][]byte
	for i := range min(len(b), 400) {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			list = append(list, c)
		}
		list = append(list, bytes.Clone(b[:i]))
	}
	return append(list, append(bytes.Clone(b), 0))
}

func TestUnknownVersionIsRefused(t *testing.T) {
	b := encodeRequest(&compareRequest{index: 1})
	b[0] = 2
	var v *VersionError
	if _, err := decodeRequest(b); !errors.As(err, &v) || v.Version != 2 || !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("%v", err)
	}
	b = encodeReply(&largeReply{bytes: 1})
	b[0] = 9
	if _, err := decodeReply(b); !errors.As(err, &v) || v.Version != 9 {
		t.Errorf("%v", err)
	}
}

// TestDecompressionIsBounded: a small reply that claims, or has, more than the asker allowed.
func TestDecompressionIsBounded(t *testing.T) {
	big := encodeReply(&pullReply{chunks: [][]byte{make([]byte, 10<<20)}})
	bomb := compress(newEncoder(), big)
	if len(bomb) > 10_000 {
		t.Fatalf("%d bytes", len(bomb))
	}
	if _, err := decompress(bomb, 1<<20); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
	_, n := binary.Uvarint(bomb[replyHeader:])
	lying := append([]byte{messageVersion, byte(kindPull), compressed}, binary.AppendUvarint(nil, 1000)...)
	lying = append(lying, bomb[replyHeader+n:]...)
	if _, err := decompress(lying, 1<<20); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
	if _, err := decompress(make([]byte, 101), 100); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
}

func TestCompressionOnlyWhenItPays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 10_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	b := encodeReply(&pullReply{chunks: [][]byte{noise}})
	if got := compress(newEncoder(), b); &got[0] != &b[0] {
		t.Error("noise was compressed")
	}
	text := bytes.Repeat([]byte(`{"player":"bob","move":17}`), 400)
	b = encodeReply(&pullReply{chunks: [][]byte{text}})
	if got := compress(newEncoder(), b); len(got) > len(b)/10 {
		t.Errorf("%d of %d bytes", len(got), len(b))
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, r := range someRequests() {
		f.Add(encodeRequest(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = checksummed(b)
		r, err := decodeRequest(b)
		if err != nil {
			return
		}
		if again := encodeRequest(r); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	e := newEncoder()
	for _, r := range someReplies() {
		f.Add(encodeReply(r))
		f.Add(compress(e, encodeReply(r)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		plain, err := decompress(b, limit)
		if err != nil {
			return
		}
		if len(plain) > limit+replyHeader {
			t.Fatalf("%d bytes", len(plain))
		}
		plain = checksummed(plain)
		r, err := decodeReply(plain)
		if err != nil {
			return
		}
		if again := encodeReply(r); !bytes.Equal(again, plain) {
			t.Errorf("%x became %x", plain, again)
		}
	})
}

// checksummed lets the fuzzer get past the checksum.
func checksummed(b []byte) []byte {
	if len(b) < checksumLen {
		return b
	}
	n := len(b) - checksumLen
	return binary.BigEndian.AppendUint64(bytes.Clone(b[:n]), xxhash.Sum64(b[:n]))
}

// FuzzServe answers any request from documents, without harm.
func FuzzServe(f *testing.F) {
	for _, r := range someRequests() {
		f.Add(encodeRequest(r))
	}
	docs := fuzzDocuments(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := Serve(t.Context(), docs, checksummed(b))
		if err != nil {
			return
		}
		plain, err := decompress(reply, 4<<20)
		if err == nil {
			_, err = decodeReply(plain)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzTransfer gives a session any listing and chunk: it may refuse them, and must not break.
func FuzzTransfer(f *testing.F) {
	source := fuzzDocuments(f)
	l, err := source.List(0, store.ListQuery{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.AppendBinary(nil), []byte{})
	var wants []store.Want
	for _, hash := range l.Hashes() {
		wants = append(wants, store.Want{Hash: hash})
	}
	c, err := source.Export(0, &store.ExportQuery{Wants: wants, Budget: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.AppendBinary(nil), c.AppendBinary(nil))
	docs := fuzzSick(f)
	f.Fuzz(func(t *testing.T, listing, chunk []byte) {
		m := &testMember{docs: docs}
		tr := newTransfer(m, "peer", []uint8{0}, &limits{func(uint32) uint64 { return math.MaxUint64 }, maxLimit})
		defer tr.abandon()
		if tr.takeListings(&listReply{listings: [][]byte{checksummed(listing)}}) != nil || len(tr.items) == 0 {
			return
		}
		q := tr.pullRequest(1 << 20)
		_ = tr.takeChunks(&pullReply{chunks: [][]byte{checksummed(chunk)}}, len(q.items)) // an error is as good
	})
}
