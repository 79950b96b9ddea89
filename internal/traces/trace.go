package traces

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MaxBytes is the most JSON a trace file may hold once decompressed.
const MaxBytes = 64 << 20

// Trace is one editing history. Read-only after Open.
type Trace struct {
	Name  string // of the file, without its extensions
	Start string // the text before the first transaction
	End   string // the text after the last one
	Txns  []Txn
}

// Txn is the patches of one transaction, in order.
type Txn []Patch

// Patch deletes and then inserts at one place. Numbers are code points.
type Patch struct {
	Position, Deleted int
	Inserted          string
}

// Open reads the trace of a file and checks that it leads to its own end.
// Errors name the file and what is wrong with it.
func Open(path string) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err) // names the file already
	}
	defer func() { _ = f.Close() }() // only read
	t, err := read(f, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", path, err)
	}
	t.Name = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".json")
	return t, nil
}

// read decompresses, parses and checks; at most limit bytes of JSON.
func read(r io.Reader, limit int64) (*Trace, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("not gzipped: %w", err)
	}
	t, err := parse(&limited{z, limit, limit})
	if err != nil {
		return nil, err
	}
	end, err := t.replayAll()
	if err != nil {
		return nil, err
	}
	if end != t.End {
		return nil, fmt.Errorf("its transactions give a text of %d bytes that is not its endContent of %d bytes", len(end), len(t.End))
	}
	return t, nil
}

// limited fails, rather than ends, when there is more than the limit.
type limited struct {
	r           io.Reader
	left, limit int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("more than %d bytes of JSON", l.limit)
	}
	return n, err
}

// parse reads the JSON of a trace, to the end.
func parse(r io.Reader) (*Trace, error) {
	t := &Trace{}
	p := newParser(r)
	seen := map[string]bool{}
	err := p.object(func(name string) (err error) {
		seen[name] = true
		switch name {
		case "startContent":
			t.Start, err = p.string()
		case "endContent":
			t.End, err = p.string()
		case "txns":
			t.Txns, err = p.txns()
		default:
			err = p.skip()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	for _, name := range []string{"startContent", "endContent", "txns"} {
		if !seen[name] {
			return nil, fmt.Errorf("no %q: not an editing trace of one author", name)
		}
	}
	return t, nil
}

// Delta is transaction n as a delta's redo and undo, 1 ≤ n ≤ len(t.Txns).
func (t *Trace) Delta(n int) (redo, undo []byte) {
	head := strconv.AppendInt([]byte(`{"changes":{"`), int64(n), 10)
	undo = append(bytes.Clone(head), `":null}}`...)

	var b bytes.Buffer
	b.Write(head)
	b.WriteString(`":[`)
	text := json.NewEncoder(&b)
	text.SetEscapeHTML(false) // as it was typed, and shorter
	for i, p := range t.Txns[n-1] {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "[%d,%d,", p.Position, p.Deleted)
		_ = text.Encode(p.Inserted) // a string into memory: cannot fail
		b.Truncate(b.Len() - 1)     // the encoder ends with a new line
		b.WriteByte(']')
	}
	b.WriteString("]}}")
	return b.Bytes(), undo
}

// Replay applies the changes of a merged document, in numeric order, to the
// trace's start. The document may stop early, but a change missing before its
// last one is an error.
func (t *Trace) Replay(document []byte) (string, error) {
	changes, err := parseChanges(document)
	if err != nil {
		return "", fmt.Errorf("replay: %w", err)
	}
	text := newBuffer(t.Start)
	for i, c := range changes {
		if err := text.apply(c.txn); err != nil {
			return "", fmt.Errorf("replay: change %d: %w", i+1, err)
		}
	}
	return text.String(), nil
}

func (t *Trace) replayAll() (string, error) {
	text := newBuffer(t.Start)
	for i, txn := range t.Txns {
		if err := text.apply(txn); err != nil {
			return "", fmt.Errorf("transaction %d: %w", i+1, err)
		}
	}
	return text.String(), nil
}
