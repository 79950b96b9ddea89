package mesh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

var testRPCHeader = raft.RPCHeader{ProtocolVersion: 3, ID: []byte("h1@i"), Addr: []byte("h1@i")}

// testRequests uses every field of every RPC.
var testRequests = []any{
	&raft.AppendEntriesRequest{RPCHeader: testRPCHeader, Term: 5},
	&raft.AppendEntriesRequest{
		RPCHeader: testRPCHeader, Term: 1 << 60, PrevLogEntry: 9, PrevLogTerm: 8, LeaderCommitIndex: 7,
		Entries: []*raft.Log{
			{Index: 10, Term: 5, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1700000000, 123456789)},
			{Index: 11, Term: 5, Type: raft.LogNoop, AppendedAt: time.Unix(-5, 1)},
			{Index: 12, Term: 6, Type: raft.LogBarrier},
			{Index: 13, Term: 6, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a@1", Address: "a@1"}}})},
		},
	},
	&raft.RequestVoteRequest{RPCHeader: testRPCHeader, Term: 6, LastLogIndex: 5, LastLogTerm: 4, LeadershipTransfer: true},
	&raft.RequestPreVoteRequest{RPCHeader: testRPCHeader, Term: 6, LastLogIndex: 5, LastLogTerm: 4},
	&raft.TimeoutNowRequest{RPCHeader: testRPCHeader},
	&raft.InstallSnapshotRequest{
		RPCHeader: testRPCHeader, SnapshotVersion: 1, Term: 9, Leader: []byte("h1@i"), LastLogIndex: 3, LastLogTerm: 2,
		Peers: []byte("peers"), Configuration: []byte("configuration"), ConfigurationIndex: 1, Size: 6,
	},
}

var testResponses = []any{
	&raft.AppendEntriesResponse{RPCHeader: testRPCHeader, Term: 5, LastLog: 9, Success: true},
	&raft.AppendEntriesResponse{RPCHeader: testRPCHeader, Term: 5, LastLog: 9, NoRetryBackoff: true},
	&raft.RequestVoteResponse{RPCHeader: testRPCHeader, Term: 5, Peers: []byte("p"), Granted: true},
	&raft.RequestPreVoteResponse{RPCHeader: testRPCHeader, Term: 5, Granted: true},
	&raft.TimeoutNowResponse{RPCHeader: testRPCHeader},
	&raft.InstallSnapshotResponse{RPCHeader: testRPCHeader, Term: 5, Success: true},
}

func mustAppend(t testing.TB, command any, data []byte) []byte {
	b, err := appendRequest(nil, command, data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameTimes makes equal times comparable field by field.
func sameTimes(command any) {
	if r, ok := command.(*raft.AppendEntriesRequest); ok {
		for _, e := range r.Entries {
			if !e.AppendedAt.IsZero() {
				e.AppendedAt = e.AppendedAt.UTC()
			}
		}
	}
}

func TestRaftRequestRoundTrip(t *testing.T) {
	for _, want := range testRequests {
		var snapshot []byte
		if _, ok := want.(*raft.InstallSnapshotRequest); ok {
			snapshot = []byte("marker")
		}
		b := mustAppend(t, want, snapshot)
		got, data, err := decodeRequest(b)
		if err != nil || !bytes.Equal(data, snapshot) {
			t.Fatalf("%T: %v", want, err)
		}
		sameTimes(got)
		sameTimes(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%T: got %+v, want %+v", want, got, want)
		}
		for n := range b {
			if _, _, err := decodeRequest(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%T cut off after %d of %d bytes: %v", want, n, len(b), err)
			}
		}
		if _, _, err := decodeRequest(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte too many: %v", want, err)
		}
	}
}

func TestRaftResponseRoundTrip(t *testing.T) {
	for _, want := range testResponses {
		b, err := appendResponse(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		if err := decodeResponse(b, got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: got %+v, want %+v: %v", want, got, want, err)
		}
		for n := range b {
			if err := decodeResponse(b[:n], got); !errors.Is(err, ErrMalformed) {
				t.Errorf("%T cut off after %d bytes: %v", want, n, err)
			}
		}
		b[0] ^= 7
		if err := decodeResponse(b, got); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T as the answer to another RPC: %v", want, err)
		}
	}
	if _, err := appendResponse(nil, nil); err == nil {
		t.Error("no response was encoded")
	}
}

// All of hashicorp/raft's fields are carried: a new one in a later version of
// it must not be lost in silence.
func TestRaftStructsAreComplete(t *testing.T) {
	for typ, fields := range map[reflect.Type]int{
		reflect.TypeFor[raft.RPCHeader](): 3, reflect.TypeFor[raft.Log](): 6,
		reflect.TypeFor[raft.AppendEntriesRequest](): 7, reflect.TypeFor[raft.AppendEntriesResponse](): 5,
		reflect.TypeFor[raft.RequestVoteRequest](): 6, reflect.TypeFor[raft.RequestVoteResponse](): 4,
		reflect.TypeFor[raft.RequestPreVoteRequest](): 4, reflect.TypeFor[raft.RequestPreVoteResponse](): 3,
		reflect.TypeFor[raft.InstallSnapshotRequest](): 10, reflect.TypeFor[raft.InstallSnapshotResponse](): 3,
		reflect.TypeFor[raft.TimeoutNowRequest](): 1, reflect.TypeFor[raft.TimeoutNowResponse](): 1,
	} {
		if typ.NumField() != fields {
			t.Errorf("%s has %d fields, the codec knows %d", typ, typ.NumField(), fields)
		}
	}
}

func TestRaftEntriesRoundTripAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blob := rapid.SliceOfN(rapid.Byte(), 0, 50)
		want := &raft.AppendEntriesRequest{RPCHeader: testRPCHeader, Term: rapid.Uint64().Draw(t, "term"), PrevLogEntry: rapid.Uint64().Draw(t, "prev")}
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			e := &raft.Log{
				Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
				Type: raft.LogType(rapid.Uint8().Draw(t, "type")), Data: blob.Draw(t, "data"), Extensions: blob.Draw(t, "ext"),
			}
			if len(e.Data) == 0 {
				e.Data = nil
			}
			if len(e.Extensions) == 0 {
				e.Extensions = nil
			}
			if rapid.Bool().Draw(t, "timed") {
				e.AppendedAt = time.Unix(rapid.Int64Range(-1e12, 1e12).Draw(t, "sec"), rapid.Int64Range(0, 1e9-1).Draw(t, "nsec"))
			}
			want.Entries = append(want.Entries, e)
		}
		b, err := appendRequest(nil, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := decodeRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		sameTimes(got)
		sameTimes(want)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// A count of entries that cannot be there is refused before anything is
// allocated for them.
func TestRaftEntryCountIsNotAllocated(t *testing.T) {
	b := mustAppend(t, &raft.AppendEntriesRequest{RPCHeader: testRPCHeader}, nil)
	b = binary.AppendUvarint(b[:len(b)-1], maxEntries)
	b = append(b, make([]byte, 4*maxEntries)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := decodeRequest(b); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
		t.Fatalf("%d bytes allocated", grown)
	}
	many := mustAppend(t, &raft.AppendEntriesRequest{RPCHeader: testRPCHeader}, nil)
	many = append(binary.AppendUvarint(many[:len(many)-1], maxEntries+1), make([]byte, minEntryBytes*(maxEntries+1))...)
	if _, _, err := decodeRequest(many); !errors.Is(err, ErrMalformed) {
		t.Fatalf("too many entries: %v", err)
	}
	most := mustAppend(t, &raft.AppendEntriesRequest{RPCHeader: testRPCHeader}, nil)
	most = append(binary.AppendUvarint(most[:len(most)-1], maxEntries), make([]byte, minEntryBytes*maxEntries)...)
	if _, _, err := decodeRequest(most); err != nil {
		t.Fatalf("as many as there may be: %v", err)
	}
}

func FuzzRaftRequest(f *testing.F) {
	for _, r := range testRequests {
		f.Add(mustAppend(f, r, []byte("marker")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		command, data, err := decodeRequest(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		_ = checkRequest(Identity{Host: "h1", Incarnation: "i"}, command)
		// What was decoded encodes, and decodes to the same again.
		again := mustAppend(t, command, data)
		second, data2, err := decodeRequest(again)
		if err != nil || !bytes.Equal(data, data2) {
			t.Fatal(err)
		}
		sameTimes(command)
		sameTimes(second)
		if !reflect.DeepEqual(command, second) {
			t.Fatalf("%+v became %+v", command, second)
		}
	})
}

func FuzzRaftResponse(f *testing.F) {
	for _, r := range testResponses {
		b, _ := appendResponse(nil, r)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range testResponses {
			got := reflect.New(reflect.TypeOf(r).Elem()).Interface()
			if err := decodeResponse(b, got); err != nil {
				continue
			}
			again, err := appendResponse(nil, got)
			if err != nil {
				t.Fatal(err)
			}
			second := reflect.New(reflect.TypeOf(r).Elem()).Interface()
			if err := decodeResponse(again, second); err != nil || !reflect.DeepEqual(got, second) {
				t.Fatalf("%+v became %+v: %v", got, second, err)
			}
		}
	})
}
