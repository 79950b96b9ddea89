package adamant

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// The call that forwards an operation to a leader, and its answer (docs/wire-format.md). Decoded byte slices alias the payload.

const forwardVersion = 1

// forwardKinds are the operations' numbers on the wire; 0 is none.
var forwardKinds = [...]operation{1: opCreate, 2: opAppend, 3: opGet, 4: opHeadPatch, 5: opRewind, 6: opCompact, 7: opReplace, 8: opDelete}

// reads reports whether an operation has no effects.
func (o operation) reads() bool { return o == opGet || o == opHeadPatch || o == opRewind }

// forwarded is an operation on its way: a write, or a read.
type forwarded struct {
	kind     operation
	patience time.Duration // what is left of the caller's
	write    partition.Operation
	read     query
}

func (f *forwarded) key() Key {
	if f.kind.reads() {
		return f.read.key
	}
	return f.write.Key
}

// append encodes: version u8 | operation u8 | consistency u8 | patience µs, epoch uvarint | space, key strings | body.
// Bodies: get and delete none; head patch and rewind: seq varint; create and append: count uvarint, deltas; replace: seq
// varint, base to the end; compact: seq, history varint, base to the end.
func (f *forwarded) append(b []byte) []byte {
	kind, level := byte(0), byte(0)
	for i, k := range forwardKinds {
		if i > 0 && k == f.kind {
			kind = byte(i)
		}
	}
	if f.kind.reads() {
		level = byte(f.read.level)
	}
	key := f.key()
	b = append(b, forwardVersion, kind, level)
	b = binary.AppendUvarint(b, uint64(max(f.patience, 0).Microseconds()))
	b = binary.AppendUvarint(b, f.write.Epoch)
	b = appendString(appendString(b, key.Space), key.Key)
	op := &f.write
	switch f.kind {
	case opHeadPatch, opRewind:
		b = binary.AppendVarint(b, f.read.seq)
	case opCreate, opAppend:
		b = binary.AppendUvarint(b, uint64(len(op.Deltas)))
		for i := range op.Deltas {
			b = op.Deltas[i].AppendBinary(b)
		}
	case opReplace:
		b = append(binary.AppendVarint(b, op.Seq), op.JSON...)
	case opCompact:
		b = binary.AppendVarint(b, op.Seq)
		b = append(binary.AppendVarint(b, int64(op.History)), op.JSON...)
	}
	return b
}

// errForward is wrapped by errors about bytes that are no operation and no answer.
var errForward = errors.New("malformed forwarded operation")

func decodeForwarded(b []byte) (forwarded, error) {
	var f forwarded
	d := decoder{b: b}
	version, kind, level := d.byte(), d.byte(), d.byte()
	micros, epoch := d.uvarint(), d.uvarint()
	key := Key{Space: d.string(), Key: d.string()}
	switch {
	case d.err != nil:
		return f, fmt.Errorf("%w: %w", errForward, d.err)
	case version != forwardVersion:
		return f, fmt.Errorf("%w: version %d", errForward, version)
	case kind == 0 || int(kind) >= len(forwardKinds) || level > byte(ReadStale):
		return f, fmt.Errorf("%w: operation %d, consistency %d", errForward, kind, level)
	}
	if err := key.Validate(); err != nil {
		return f, fmt.Errorf("%w: %w", errForward, err)
	}
	f.kind, f.patience = forwardKinds[kind], time.Duration(min(micros, uint64(forwardTimeout.Microseconds())))*time.Microsecond
	if f.kind.reads() {
		f.read = query{kind: f.kind, key: key, level: Consistency(level)}
	} else {
		f.write = partition.Operation{Kind: storedKinds[f.kind], Key: key, Epoch: epoch}
	}
	if err := f.body(&d); err != nil {
		return forwarded{}, fmt.Errorf("%w: %w", errForward, err)
	}
	return f, nil
}

// storedKinds are the writes' kinds in the store.
var storedKinds = map[operation]store.Kind{opCreate: store.Create, opAppend: store.Append, opCompact: store.Compact, opReplace: store.Replace, opDelete: store.Delete}

// body decodes what follows the key, to the end.
func (f *forwarded) body(d *decoder) error {
	op := &f.write
	switch f.kind {
	case opHeadPatch, opRewind:
		f.read.seq = d.varint()
	case opCreate, opAppend:
		n := d.uvarint()
		if n > uint64(len(d.b)) || f.kind == opCreate && n != 1 {
			return fmt.Errorf("%d deltas in %d bytes", n, len(d.b))
		}
		for range n {
			delta, rest, err := store.DecodeDelta(d.b)
			if err != nil {
				return err
			}
			op.Deltas, d.b = append(op.Deltas, delta), rest
		}
	case opReplace:
		op.Seq, op.JSON = d.varint(), d.rest()
	case opCompact:
		op.Seq = d.varint()
		history := d.varint()
		if history < math.MinInt32 || history > math.MaxInt32 {
			return fmt.Errorf("history %d", history)
		}
		op.History, op.JSON = int(history), d.rest()
	}
	return d.end()
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// rest takes everything that is left.
func (d *decoder) rest() []byte {
	b := d.b
	d.b = nil
	return b
}

// forwardReply is a leader's answer: an error, a document, or the head after a write.
type forwardReply struct {
	err      error
	document *Document
	head     int64
}

// The kinds of answers.
const (
	replyHead     = 1
	replyDocument = 2
	replyError    = 3
)

// append encodes: version u8 | kind u8 | body. Head: varint. Document: head varint | reads uvarint | stale u8 [index uvarint,
// age varint, complete u8] | JSON to the end. Error: kind u8 | its fields as JSON to the end.
func (r forwardReply) append(b []byte) []byte {
	b = append(b, forwardVersion)
	switch {
	case r.err != nil:
		kind, fields := describeError(r.err)
		return append(append(b, replyError, kind), fields...)
	case r.document == nil:
		return binary.AppendVarint(append(b, replyHead), r.head)
	}
	b = binary.AppendVarint(append(b, replyDocument), r.document.Head)
	b = binary.AppendUvarint(b, uint64(r.document.Reads))
	if s := r.document.Staleness; s == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(append(b, 1), s.Index)
		b = binary.AppendVarint(b, int64(s.Age))
		b = append(b, boolByte(s.Complete))
	}
	return append(b, r.document.JSON...)
}

func boolByte(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func decodeForwardReply(b []byte) (forwardReply, error) {
	d := decoder{b: b}
	version, kind := d.byte(), d.byte()
	if d.err == nil && version != forwardVersion {
		return forwardReply{}, fmt.Errorf("%w: version %d of the answer", errForward, version)
	}
	var r forwardReply
	switch kind {
	case replyHead:
		r.head = d.varint()
	case replyDocument:
		doc := &Document{Head: d.varint(), Reads: int(min(d.uvarint(), math.MaxInt32))}
		switch stale := d.byte(); stale {
		case 0:
		case 1:
			doc.Staleness = &Staleness{Index: d.uvarint(), Age: time.Duration(d.varint()), Complete: d.byte() == 1}
		default:
			d.fail()
		}
		doc.JSON = d.rest()
		r.document = doc
	case replyError:
		what := d.byte()
		if d.err == nil {
			var err error
			if r.err, err = errorOf(what, d.rest()); err != nil {
				return forwardReply{}, fmt.Errorf("%w: %w", errForward, err)
			}
		}
	default:
		d.fail()
	}
	if err := d.end(); err != nil {
		return forwardReply{}, fmt.Errorf("%w: %w", errForward, err)
	}
	return r, nil
}

// newForwardError returns an empty error of a kind that keeps its type on the way, nil when there is none of that number.
func newForwardError(kind byte) error {
	switch kind {
	case 1:
		return &ExistsError{}
	case 2:
		return &SeqMismatchError{}
	case 3:
		return &NotFoundError{}
	case 4:
		return &FutureError{}
	case 5:
		return &HorizonError{}
	case 6:
		return &HistoryError{}
	case 7:
		return &TooLargeError{}
	case 8:
		return &InvalidError{}
	case 9:
		return &NotJSONError{}
	case 10:
		return &NotLeaderError{}
	case 11:
		return &AmbiguousError{}
	case 12:
		return &UnavailableError{}
	case 13:
		return &EpochError{}
	case 14:
		return &SafeModeError{}
	}
	return nil
}

// forwardErrors is the number of kinds of newForwardError.
const forwardErrors = 14

// describeError finds the first error in a tree that keeps its type on the way, an unknown outcome before all others. Anything
// else is unavailability, with its text: what a write may have done is said by AmbiguousError alone.
func describeError(err error) (kind byte, fields []byte) {
	var ambiguous *AmbiguousError
	if errors.As(err, &ambiguous) {
		err = ambiguous
	}
	kind, found := typedError(err)
	if found == nil {
		kind, found = typedError(&UnavailableError{Reason: err.Error()})
	}
	fields, _ = json.Marshal(withoutCause(found)) // texts and numbers always marshal
	return kind, fields
}

// typedError looks for an error of newForwardError's kinds, outermost first.
func typedError(err error) (kind byte, typed error) {
	for kind := byte(1); kind <= forwardErrors; kind++ {
		if reflect.TypeOf(err) == reflect.TypeOf(newForwardError(kind)) {
			return kind, err
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return typedError(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if kind, found := typedError(one); found != nil {
				return kind, found
			}
		}
	}
	return 0, nil
}

// withoutCause returns an error whose cause, which would not survive the way, is a text or is dropped.
func withoutCause(err error) error {
	switch e := err.(type) {
	case *AmbiguousError:
		return &AmbiguousError{Partition: e.Partition, Key: e.Key, Reason: e.Reason}
	case *UnavailableError:
		return &UnavailableError{Partition: e.Partition, Reason: e.Reason}
	case *NotJSONError:
		return &NotJSONError{Key: e.Key, Seq: e.Seq}
	}
	return err
}

// errorOf is the inverse of describeError.
func errorOf(kind byte, fields []byte) (error, error) {
	err := newForwardError(kind)
	if err == nil {
		return nil, fmt.Errorf("error %d", kind)
	}
	if failed := json.Unmarshal(fields, err); failed != nil {
		return nil, failed
	}
	return err, nil
}
