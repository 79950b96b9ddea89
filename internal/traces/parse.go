package traces

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// parser walks JSON down to its transactions, so that it is never in memory as
// a whole and an error can say which one is wrong.
type parser struct{ d *json.Decoder }

func newParser(r io.Reader) parser {
	d := json.NewDecoder(r)
	d.UseNumber()
	return parser{d}
}

// token is the next one; the end is an error.
func (p parser) token() (json.Token, error) {
	t, err := p.d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("byte %d: %w", p.d.InputOffset(), err)
	}
	return t, nil
}

func (p parser) unexpected(t json.Token, want string) error {
	return fmt.Errorf("byte %d: %s instead of %s", p.d.InputOffset(), describe(t), want)
}

func describe(t json.Token) string {
	switch t := t.(type) {
	case nil:
		return "null"
	case json.Delim:
		return t.String()
	case string:
		return "a string"
	}
	return fmt.Sprint(t)
}

func (p parser) delim(want json.Delim) error {
	t, err := p.token()
	if err == nil && t != want {
		err = p.unexpected(t, want.String())
	}
	return err
}

func (p parser) string() (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", p.unexpected(t, "a string")
	}
	return s, nil
}

// decode reads one value into v.
func (p parser) decode(v any) error {
	if err := p.d.Decode(v); err != nil {
		return fmt.Errorf("byte %d: %w", p.d.InputOffset(), err)
	}
	return nil
}

func (p parser) skip() error {
	var raw json.RawMessage
	return p.decode(&raw)
}

// object reads an object; member reads the value of each.
func (p parser) object(member func(name string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.d.More() {
		name, err := p.string()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	return p.delim('}')
}

// list reads an array; element reads each, the first is 1.
func (p parser) list(element func(n int) error) error {
	if err := p.delim('['); err != nil {
		return err
	}
	for n := 1; p.d.More(); n++ {
		if err := element(n); err != nil {
			return err
		}
	}
	return p.delim(']')
}

// end makes sure that nothing but white space is left.
func (p parser) end() error {
	_, err := p.d.Token()
	switch {
	case err == nil:
		return fmt.Errorf("byte %d: more text after the end", p.d.InputOffset())
	case errors.Is(err, io.EOF):
		return nil
	}
	return fmt.Errorf("byte %d: %w", p.d.InputOffset(), err)
}

func (p parser) txns() ([]Txn, error) {
	var txns []Txn
	err := p.list(func(n int) error {
		var t struct {
			Patches Txn `json:"patches"`
		}
		err := p.decode(&t)
		if err == nil && t.Patches == nil {
			err = errors.New("no patches")
		}
		if err != nil {
			return fmt.Errorf("transaction %d: %w", n, err)
		}
		txns = append(txns, t.Patches)
		return nil
	})
	return txns, err
}

// UnmarshalJSON reads [position,deleted,"inserted"].
func (p *Patch) UnmarshalJSON(b []byte) error {
	position, rest, ok := bytes.Cut(b, []byte{','})
	deleted, inserted, ok2 := bytes.Cut(rest, []byte{','})
	if b[0] != '[' || !ok || !ok2 {
		return fmt.Errorf("patch %.40s is not [position,deleted,\"inserted\"]", b)
	}
	inserted = bytes.TrimSpace(inserted[:len(inserted)-1]) // without the bracket
	if len(inserted) == 0 || inserted[0] != '"' || json.Unmarshal(inserted, &p.Inserted) != nil {
		return fmt.Errorf("patch %.40s does not end with one string", b)
	}
	var err error
	if p.Position, err = count(position[1:]); err != nil {
		return fmt.Errorf("patch %.40s: position: %w", b, err)
	}
	if p.Deleted, err = count(deleted); err != nil {
		return fmt.Errorf("patch %.40s: deleted: %w", b, err)
	}
	return nil
}

// count is a number of code points.
func count(b []byte) (int, error) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 31)
	if err != nil {
		return 0, errors.New("not a number of code points")
	}
	return int(n), nil
}

// change is one member of a document's "changes".
type change struct {
	number int
	txn    Txn
}

// parseChanges reads the changes of a merged document and puts them in order;
// change i is then number i+1.
func parseChanges(document []byte) ([]change, error) {
	var changes []change
	p := newParser(bytes.NewReader(document))
	err := p.object(func(name string) error {
		if name != "changes" {
			return p.skip()
		}
		return p.object(func(name string) error {
			number, err := strconv.Atoi(name)
			if err != nil || number < 1 || strconv.Itoa(number) != name {
				return fmt.Errorf("byte %d: a change called %q is not a number from 1", p.d.InputOffset(), name)
			}
			var txn Txn
			err = p.decode(&txn)
			if err == nil && txn == nil {
				err = errors.New("no patches")
			}
			if err != nil {
				return fmt.Errorf("change %d: %w", number, err)
			}
			changes = append(changes, change{number, txn})
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.number, b.number) })
	for i, c := range changes {
		if c.number < i+1 {
			return nil, fmt.Errorf("change %d is there twice", c.number)
		}
		if c.number > i+1 {
			return nil, fmt.Errorf("change %d is missing; the last one is %d", i+1, changes[len(changes)-1].number)
		}
	}
	return changes, nil
}
