package antientropy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

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
		&pullRequest{limit: 1 << 20, compress: true, items: []pullItem{{bucket: 1, query: q.AppendBinary(nil)}, {bucket: 2, query: []byte{}}}},
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
		&equalReply{},
		&listReply{listings: someListings()},
		&listReply{},
		&pullReply{chunks: [][]byte{chunk, bytes.Repeat([]byte("abcd"), 1000)}},
		&largeReply{bytes: 5 << 20},
		&refusal{code: 662111, bucket: 9, text: "no"},
	}
}

// someListings say different things of themselves, and the last two the same.
func someListings() []*store.Listing {
	coverage := interval.Of(1, 40).Union(interval.Of(61, 99))
	rest := merkle.Bucket{Sum: merkle.Sum{A: 5, B: 6}, Count: 500}
	all := uint64(math.MaxUint64)
	rows := []store.Row{{Hash: 5, LastIndex: 70}, {Hash: 5, LastIndex: 71, Generation: 71, Leaf: 9}, {Hash: 7, LastIndex: 3, Generation: 2, Leaf: 1 << 63, Gap: true},
		{Hash: all, LastIndex: all, Generation: 1}}
	return []*store.Listing{
		{Bucket: 1, Rows: []store.Row{{Hash: 1, LastIndex: 2, Generation: 1}}, To: 9},
		{Bucket: 2, Since: 60, To: all, Rows: rows, Rest: rest, Coverage: coverage, Applied: 99, Ahead: 120},
		{Bucket: 3, Since: 60, To: all, Rest: rest, Coverage: coverage, Applied: 99, Ahead: 120},
		{Bucket: 255, Since: 60, To: all, Coverage: coverage, Applied: 99, Ahead: 120},
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
			plain, err := new(unpacker).decompress(b, 1<<20)
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

// frameHeader is what package mesh puts before each request and reply (docs/wire-format.md).
const frameHeader = 32

// TestComparisonIsSmall: what two healthy members exchange.
func TestComparisonIsSmall(t *testing.T) {
	ask := encodeRequest(&compareRequest{index: 123_456_789, root: merkle.Sum{A: 1 << 60, B: 1 << 61}})
	reply := encodeReply(&equalReply{})
	t.Logf("request %d bytes, reply %d bytes", len(ask), len(reply))
	if wire := len(ask) + len(reply) + 2*frameHeader; wire > 100 {
		t.Errorf("request %d bytes, reply %d bytes: %d with the headers of their frames", len(ask), len(reply), wire)
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
				plain, err := new(unpacker).decompress(b, 1<<20)
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
	b[0] = 1
	var v *VersionError
	if _, err := decodeRequest(b); !errors.As(err, &v) || v.Version != 1 || !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "version 1") {
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
	if _, err := new(unpacker).decompress(bomb, 1<<20); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
	_, n := binary.Uvarint(bomb[replyHeader:])
	lying := append([]byte{messageVersion, byte(kindPull), compressed}, binary.AppendUvarint(nil, 1000)...)
	lying = append(lying, bomb[replyHeader+n:]...)
	if _, err := new(unpacker).decompress(lying, 1<<20); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
	if _, err := new(unpacker).decompress(make([]byte, 101), 100); !errors.Is(err, ErrMessage) {
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
		b = checksummed(b, kindCompare)
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
		plain, err := new(unpacker).decompress(b, limit)
		if err != nil {
			return
		}
		if len(plain) > limit+replyHeader {
			t.Fatalf("%d bytes", len(plain))
		}
		plain = checksummed(plain, kindEqual)
		r, err := decodeReply(plain)
		if err != nil {
			return
		}
		if again := encodeReply(r); !bytes.Equal(again, plain) {
			t.Errorf("%x became %x", plain, again)
		}
	})
}

// checksummed lets the fuzzer get past the checksum, which is a small one in messages of one kind.
func checksummed(b []byte, small kind) []byte {
	if len(b) > smallSumLen+1 && kind(b[1]) == small {
		return appendSmallSum(bytes.Clone(b[:len(b)-smallSumLen]))
	}
	if len(b) < checksumLen {
		return b
	}
	return appendChecksum(bytes.Clone(b[:len(b)-checksumLen]))
}

// FuzzServe answers any request from documents, without harm.
func FuzzServe(f *testing.F) {
	for _, r := range someRequests() {
		f.Add(encodeRequest(r))
	}
	docs := fuzzDocuments(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = checksummed(b, kindCompare)
		reply, err := Serve(t.Context(), docs, b)
		if err != nil {
			return
		}
		bind(reply, b)
		plain, err := new(unpacker).decompress(reply, 4<<20)
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
	listing := encodeReply(&listReply{listings: []*store.Listing{l}})
	f.Add(listing, []byte{})
	var wants []store.Want
	for _, hash := range l.Hashes() {
		wants = append(wants, store.Want{Hash: hash})
	}
	c, err := source.Export(0, &store.ExportQuery{Wants: wants, Budget: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(listing, c.AppendBinary(nil))
	docs := fuzzSick(f)
	f.Fuzz(func(t *testing.T, listing, chunk []byte) {
		m := &testMember{docs: docs}
		tr := newTransfer(m, "peer", []uint8{0}, &limits{func(uint32) uint64 { return math.MaxUint64 }, maxLimit, ownRows})
		defer func() { abandonAll(tr.releaseAll()) }()
		r, err := decodeReply(checksummed(listing, kindEqual))
		list, ok := r.(*listReply)
		if err != nil || !ok || tr.takeListings(list) != nil || len(tr.items) == 0 {
			return
		}
		q := tr.pullRequest(1 << 20)
		_ = tr.takeChunks(&pullReply{chunks: [][]byte{checksummed(chunk, kindEqual)}}, len(q.items)) // an error is as good
	})
}

// callerFunc is a way to peers.
type callerFunc func(request []byte) ([]byte, error)

func (f callerFunc) Call(_ context.Context, _ string, _ uint32, request []byte) ([]byte, error) {
	return f(request)
}

// TestAnswerToAnotherQuestion: a reply counts for the request that it was made for, and for no other, however whole it is. One that
// says nothing but "equal" would otherwise let an empty member believe that it has everything.
func TestAnswerToAnotherQuestion(t *testing.T) {
	full, empty := fuzzDocuments(t), fuzzDocuments(t)
	question := func(index uint64) request {
		s, ok := empty.SummaryAt(index)
		if !ok {
			t.Fatalf("no summary at %d", index)
		}
		return &compareRequest{index: index, root: s.Root()}
	}
	first := question(full.Position().Applied)
	for _, other := range []request{&compareRequest{index: 1}, &listRequest{rows: 1, pages: []page{{to: math.MaxUint64}}}, &compareRequest{index: 3, root: merkle.Sum{A: 1}}} {
		var earlier []byte
		l := &Loop{o: Options{Timeout: time.Minute, Caller: callerFunc(func(request []byte) ([]byte, error) {
			if earlier == nil {
				b, err := Serve(t.Context(), full, request)
				earlier = bytes.Clone(b)
				return b, err
			}
			return bytes.Clone(earlier), nil
		})}}
		out, res, err := l.exchange(t.Context(), "peer", 0, first, smallLimit)
		if err != nil || out.kind() != kindEqual {
			t.Fatalf("%+v, %+v, %v", out, res, err)
		}
		if out, _, err = l.exchange(t.Context(), "peer", 0, first, smallLimit); err != nil || out.kind() != kindEqual {
			t.Errorf("the same question again: %+v, %v", out, err)
		}
		if out, res, err := l.exchange(t.Context(), "peer", 0, other, smallLimit); err == nil || res.Failure != liar {
			t.Errorf("%+v: an earlier answer was taken: %+v, %+v", other, out, res)
		}
	}
}

// TestPullEncoder: a reply that is made in place has the same bytes as one that is put together, whatever its chunks' sizes.
func TestPullEncoder(t *testing.T) {
	for _, sizes := range [][]int{{}, {0}, {1}, {127}, {128}, {16<<10 - 1}, {16 << 10}, {2<<20 - 1}, {2 << 20}, {5, 600_000, 130, 20_000, 0},
		slices.Repeat([]int{9}, 127), slices.Repeat([]int{200}, 128), slices.Repeat([]int{3}, maxItems)} {
		p, want := newPullEncoder(), &pullReply{}
		for i, size := range sizes {
			chunk := bytes.Repeat([]byte{byte(i + 1)}, size)
			want.chunks = append(want.chunks, chunk)
			at := len(p.b)
			refused := append(append(p.b, make([]byte, lengthRoom)...), "of a chunk that is not taken"...)
			p.b = refused[:at]
			p.b = append(append(p.b, make([]byte, lengthRoom)...), chunk...)[:at]
			p.take(size)
		}
		if got := p.end(); !bytes.Equal(got, encodeReply(want)) {
			t.Errorf("%d chunks, the first of %v bytes: %.40x, want %.40x", len(sizes), sizes[:min(1, len(sizes))], got, encodeReply(want))
		}
	}
}
