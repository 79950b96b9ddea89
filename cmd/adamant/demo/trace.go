package demo

import (
	"fmt"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/traces"
)

// typed is the script of a recorded editing history: one delta per transaction.
type typed struct {
	trace *traces.Trace
	name  adamant.Key
	done  int // transactions returned so far
}

// traceSpace is the space of all replayed traces.
const traceSpace = "traces"

func newTyped(trace *traces.Trace, copy int) *typed {
	return &typed{trace: trace, name: adamant.Key{Space: traceSpace, Key: fmt.Sprintf("%s-%d", keyed(trace.Name), copy)}}
}

// keyed replaces what a key cannot hold, as a file's name can.
func keyed(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			b[i] = '_'
		}
	}
	return string(b[:min(len(b), 400)])
}

func (t *typed) key() adamant.Key { return t.name }

func (t *typed) length() int { return len(t.trace.Txns) }

func (t *typed) again() script { return &typed{trace: t.trace, name: t.name} }

func (t *typed) next(max int) []adamant.Delta {
	n := min(max, len(t.trace.Txns)-t.done)
	deltas := make([]adamant.Delta, 0, n)
	for range n {
		t.done++
		redo, undo := t.trace.Delta(t.done)
		deltas = append(deltas, adamant.Delta{SeqBegin: int64(t.done), SeqEnd: int64(t.done), Redo: redo, Undo: undo, Who: "author"})
	}
	return deltas
}

// check replays the document's changes. The whole trace must give the recorded text, byte for byte.
func (t *typed) check(document []byte) error {
	text, err := t.trace.Replay(document)
	if err != nil {
		return err
	}
	if t.done == len(t.trace.Txns) && text != t.trace.End {
		return fmt.Errorf("the text has %d bytes and differs from the recorded one of %d bytes", len(text), len(t.trace.End))
	}
	return nil
}
