package partition

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// FuzzSeed: the marker of a leader's answer, as it came from the network, is refused or one that Raft can read. A member that had
// stored another would panic whenever it is opened.
func FuzzSeed(f *testing.F) {
	good := markerAt(30, 3, terms{{Term: 2, First: 1, Last: 30}}, raft.Server{ID: "h1@1", Address: "h1@1"})
	bad := good
	bad.Configuration = []byte{0xff}
	for _, m := range []store.Marker{good, bad, {}} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m store.Marker
		if json.Unmarshal(b, &m) != nil {
			return
		}
		log := newMemLog()
		if Seed(log, m) != nil {
			if _, ok, _ := log.Marker(); ok {
				t.Fatal("a refused marker was stored")
			}
			return
		}
		if meta := snapshotMeta(m); meta.Index != m.Index {
			t.Fatalf("%+v", meta)
		}
	})
}

// FuzzOffer: the marks that offers and votes carry in the sender's address.
func FuzzOffer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 7})
	f.Add(append([]byte("h1@1"), offeredMark...))
	f.Fuzz(func(t *testing.T, addr []byte) {
		if _, ok := offerTerm(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{Addr: addr}}); ok != (len(addr) == 8) {
			t.Fatalf("an offer of %d bytes: %v", len(addr), ok)
		}
		req := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{Addr: addr}}
		if takeMark(req) && !bytes.Equal(append(bytes.Clone(req.Addr), offeredMark...), addr) {
			t.Fatalf("%q became %q", addr, req.Addr)
		}
	})
}

// TestSeedRefusesWhatRaftCannotRead: so does a member that finds such a marker in its log.
func TestSeedRefusesWhatRaftCannotRead(t *testing.T) {
	m := markerAt(30, 3, terms{{Term: 2, First: 1, Last: 30}})
	m.Configuration = []byte{0xff}
	nd := newNode(t, "h1@1")
	if err := Seed(nd.log, m); err == nil {
		t.Fatal("it was seeded")
	}
	if err := nd.log.SaveMarker(m, false); err != nil {
		t.Fatal(err)
	}
	if p, err := Open(Options{Self: nd.id, Log: nd.log, Documents: nd.docs, Transport: nd.trans}); err == nil {
		p.Close()
		t.Fatal("it was opened")
	}
}
