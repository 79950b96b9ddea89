package adamant

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

func forwardSamples() []forwarded {
	key := testKey(1)
	deltas := []Delta{{SeqBegin: 1, SeqEnd: 3, Redo: []byte(`{"a":1}`), Undo: []byte{0, 255}, Who: "w", Request: []byte("r"), AssetBytes: 5, RequiresFutureInvalidation: true, WhenToInvalidate: -1},
		{SeqBegin: 4, SeqEnd: 4, Redo: []byte{}, Undo: []byte{}, Request: []byte{}}}
	return []forwarded{
		{kind: opCreate, patience: time.Second, write: partition.Operation{Kind: store.Create, Key: key, Deltas: deltas[:1]}},
		{kind: opAppend, write: partition.Operation{Kind: store.Append, Key: key, Deltas: deltas, Epoch: 1<<64 - 1}},
		{kind: opAppend, write: partition.Operation{Kind: store.Append, Key: key}}, // the leader refuses it
		{kind: opCompact, patience: forwardTimeout, write: partition.Operation{Kind: store.Compact, Key: key, Seq: -1, JSON: []byte("{}"), History: -7, Epoch: 3}},
		{kind: opReplace, write: partition.Operation{Kind: store.Replace, Key: key, Seq: 1 << 62, JSON: []byte("null")}},
		{kind: opDelete, write: partition.Operation{Kind: store.Delete, Key: key}},
		{kind: opGet, read: query{kind: opGet, key: key, level: ReadQuorum}},
		{kind: opHeadPatch, read: query{kind: opHeadPatch, key: key, seq: -5, level: ReadStale}},
		{kind: opRewind, read: query{kind: opRewind, key: key, seq: 9}},
	}
}

func replySamples() []forwardReply {
	key := testKey(1)
	list := []forwardReply{{head: -1}, {head: 1 << 62}, {document: &Document{JSON: []byte(`{"x":1}`), Head: 7, Reads: 3}},
		{document: &Document{JSON: []byte{}, Staleness: &Staleness{Index: 9, Age: AgeUnknown, Complete: true}}}}
	for _, err := range []error{&ExistsError{Key: key}, &SeqMismatchError{Key: key, Head: 4}, &NotFoundError{Key: key}, &FutureError{Key: key, Op: store.OpRewind, Seq: 5, Head: 4}, &HorizonError{Key: key, Op: store.OpHeadPatch, Seq: 1, Horizon: 2},
		&HistoryError{Key: key, History: -1}, &TooLargeError{Key: key, What: "delta", Size: 9, Limit: 8}, &InvalidError{Key: key, Reason: "empty"}, &NotJSONError{Key: key, Seq: 3},
		&NotLeaderError{1, "h2", "a:1", "b:2", 7}, &AmbiguousError{Partition: 1, Key: key, Reason: "lost"}, &UnavailableError{Partition: 1, Reason: "moving"},
		&EpochError{1, 9}, &SafeModeError{1, "divergence"}} {
		list = append(list, forwardReply{err: err})
	}
	return list
}

// TestForwardCodec: operations, documents and typed errors are on the other side what they were; causes are not sent, and what
// has no type is unavailability.
func TestForwardCodec(t *testing.T) {
	for _, f := range forwardSamples() {
		back, err := decodeForwarded(f.append(nil))
		if err != nil || back.kind != f.kind || back.key() != f.key() || back.read != f.read || !bytes.Equal(back.append(nil), f.append(nil)) {
			t.Errorf("%+v became %+v, %v", f, back, err)
		}
	}
	kinds := 0
	for _, r := range replySamples() {
		if r.err != nil {
			kinds++
		}
		back, err := decodeForwardReply(r.append(nil))
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v became %+v, %v", r, back, err)
		}
	}
	if kinds != forwardErrors || newForwardError(forwardErrors) == nil || newForwardError(forwardErrors+1) != nil {
		t.Errorf("%d errors were tried, of %d", kinds, forwardErrors)
	}
	for _, tc := range []struct{ err, want error }{
		{errors.Join(errors.New("a"), fmt.Errorf("b: %w", &UnavailableError{Partition: 1}), &AmbiguousError{Partition: 2}), &AmbiguousError{Partition: 2}},
		{errors.Join(&NotFoundError{Key: testKey(2)}, nil), &NotFoundError{Key: testKey(2)}},
		{fmt.Errorf("wrapped: %w", &NotFoundError{Key: testKey(2)}), &NotFoundError{Key: testKey(2)}},
		{&AmbiguousError{Key: testKey(2), Reason: "r", Err: errors.New("cause")}, &AmbiguousError{Key: testKey(2), Reason: "r"}},
		{&UnavailableError{Partition: 2, Reason: "r", Err: &partition.NotServingError{}}, &UnavailableError{Partition: 2, Reason: "r"}},
		{errors.New("out of the blue"), &UnavailableError{Reason: "out of the blue"}},
	} {
		if back, err := decodeForwardReply(forwardReply{err: tc.err}.append(nil)); err != nil || !reflect.DeepEqual(back.err, tc.want) {
			t.Errorf("%v became %#v, %v", tc.err, back.err, err)
		}
	}
}

// FuzzDecodeForwarded: no payload panics, none allocates much more than it is long, and what is understood is encoded as it was
// understood.
func FuzzDecodeForwarded(f *testing.F) {
	for _, s := range forwardSamples() {
		f.Add(s.append(nil))
	}
	f.Add([]byte{forwardVersion, 2, 0, 0, 0, 3, 'a', 'b', 'c', 1, 'k', 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeForwarded(b)
		if err != nil {
			if !errors.Is(err, errForward) {
				t.Fatalf("%v", err)
			}
			return
		}
		if v.key().Validate() != nil || v.patience > forwardTimeout || len(v.write.Deltas) > len(b) {
			t.Fatalf("%+v", v)
		}
		if again, err := decodeForwarded(v.append(nil)); err != nil || !bytes.Equal(again.append(nil), v.append(nil)) {
			t.Fatalf("%+v became %+v, %v", v, again, err)
		}
	})
}

func FuzzDecodeForwardReply(f *testing.F) {
	for _, s := range replySamples() {
		f.Add(s.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeForwardReply(b)
		if err != nil {
			if !errors.Is(err, errForward) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again, err := decodeForwardReply(v.append(nil)); err != nil || !bytes.Equal(again.append(nil), v.append(nil)) {
			t.Fatalf("%+v became %+v, %v", v, again, err)
		}
	})
}
