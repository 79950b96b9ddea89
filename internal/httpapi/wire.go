package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/adamantdb/adamant"
)

// Delta is a delta in its JSON form. Redo, undo and request are JSON values where their bytes are JSON, and base64 under
// another name where they are not:
//
//	{"seqBegin": 5, "seqEnd": 5, "redo": {"n": 5}, "undo": {"n": 4}, "who": "alice", "request": {...}, "assetBytes": 0,
//	 "requiresFutureInvalidation": false, "whenToInvalidate": 0}
//	{"seqBegin": 6, "seqEnd": 6, "redoBytes": "AAEC", "undoBytes": "", "requestBytes": "AAEC"}
type Delta adamant.Delta

// UnmarshalJSON reads the form above, strictly. seqBegin and seqEnd are required.
func (d *Delta) UnmarshalJSON(data []byte) error {
	var redo, undo, request json.RawMessage
	var redoBytes, undoBytes, requestBytes []byte
	var out Delta
	seen, err := decodeObject(data, map[string]any{
		"seqBegin": &out.SeqBegin, "seqEnd": &out.SeqEnd,
		"redo": &redo, "undo": &undo, "request": &request,
		"redoBytes": &redoBytes, "undoBytes": &undoBytes, "requestBytes": &requestBytes,
		"who": &out.Who, "assetBytes": &out.AssetBytes,
		"requiresFutureInvalidation": &out.RequiresFutureInvalidation, "whenToInvalidate": &out.WhenToInvalidate,
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"seqBegin", "seqEnd"} {
		if !seen[name] {
			return fmt.Errorf("delta without %q", name)
		}
	}
	for _, f := range []struct {
		name string
		to   *[]byte
		raw  json.RawMessage
		b64  []byte
	}{{"redo", &out.Redo, redo, redoBytes}, {"undo", &out.Undo, undo, undoBytes}, {"request", &out.Request, request, requestBytes}} {
		if seen[f.name] && seen[f.name+"Bytes"] {
			return fmt.Errorf("delta with both %q and %q", f.name, f.name+"Bytes")
		}
		if *f.to = f.raw; !seen[f.name] {
			*f.to = f.b64
		}
	}
	*d = out
	return nil
}

// MarshalJSON writes the form above. The bytes of a redo, undo or request that is JSON stay as they are but for white
// space between its tokens.
func (d Delta) MarshalJSON() ([]byte, error) {
	w := struct {
		SeqBegin                   int64           `json:"seqBegin"`
		SeqEnd                     int64           `json:"seqEnd"`
		Redo                       json.RawMessage `json:"redo,omitempty"`
		RedoBytes                  []byte          `json:"redoBytes,omitempty"`
		Undo                       json.RawMessage `json:"undo,omitempty"`
		UndoBytes                  []byte          `json:"undoBytes,omitempty"`
		Who                        string          `json:"who,omitempty"`
		Request                    json.RawMessage `json:"request,omitempty"`
		RequestBytes               []byte          `json:"requestBytes,omitempty"`
		AssetBytes                 int64           `json:"assetBytes,omitempty"`
		RequiresFutureInvalidation bool            `json:"requiresFutureInvalidation,omitempty"`
		WhenToInvalidate           int64           `json:"whenToInvalidate,omitempty"`
	}{SeqBegin: d.SeqBegin, SeqEnd: d.SeqEnd, Who: d.Who, AssetBytes: d.AssetBytes,
		RequiresFutureInvalidation: d.RequiresFutureInvalidation, WhenToInvalidate: d.WhenToInvalidate}
	w.Redo, w.RedoBytes = jsonOrBytes(d.Redo)
	w.Undo, w.UndoBytes = jsonOrBytes(d.Undo)
	w.Request, w.RequestBytes = jsonOrBytes(d.Request)
	return marshal(w)
}

// jsonOrBytes returns b as the first result if it can stand in a JSON text, and as the second if it cannot.
func jsonOrBytes(b []byte) (json.RawMessage, []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	if json.Valid(b) && utf8.Valid(b) {
		return b, nil
	}
	return nil, b
}

// LogEntry is one line of a document's log.
type LogEntry struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Chain string `json:"chain"` // after the delta, 32 hex digits
	Delta Delta  `json:"delta"`

	Staleness *adamant.Staleness `json:"staleness,omitempty"`
}

// Info is one line of an inventory.
type Info struct {
	Space      string `json:"space"`
	Key        string `json:"key"`
	Head       int64  `json:"head"`
	Bytes      int64  `json:"bytes"`
	Entries    int64  `json:"entries"`
	LastIndex  uint64 `json:"lastIndex"`
	Generation uint64 `json:"generation"`

	Staleness *adamant.Staleness `json:"staleness,omitempty"`
}

// Document is the answer to reading a document, a head patch or a rewind.
type Document struct {
	Head      int64              `json:"head"`
	Reads     int                `json:"reads"`
	Staleness *adamant.Staleness `json:"staleness,omitempty"`
	JSON      json.RawMessage    `json:"json"`
}

// Health is the answer of /v1/health and /v1/ready.
type Health struct {
	Host        string `json:"host"`
	Incarnation string `json:"incarnation"`
	Cluster     string `json:"cluster"`
	OK          bool   `json:"ok"`
	Reason      string `json:"reason,omitempty"` // why not
}

// SafeMode is the answer of GET /v1/partitions/ID/safemode.
type SafeMode struct {
	Host        string               `json:"host"`
	Partition   uint32               `json:"partition"`
	Reason      string               `json:"reason"` // "": not in safe mode
	Divergences []adamant.Divergence `json:"divergences,omitempty"`
	Restoring   string               `json:"restoring,omitempty"` // the host whose version this member takes over
}

// clearAnswer names the hosts that follow later.
type clearAnswer struct {
	Waiting []string `json:"waiting,omitempty"`
}

// appendRequest, compactRequest, ... are the bodies of the operations of their name.
type appendRequest struct{ Deltas []Delta }

func (r *appendRequest) UnmarshalJSON(data []byte) error {
	_, err := decodeObject(data, map[string]any{"deltas": &r.Deltas})
	return err
}

// baseRequest is the body of compact, which needs history, and of replace, which must not have it.
type baseRequest struct {
	Seq        int64
	History    int
	JSON       json.RawMessage
	hasHistory bool
}

func (r *baseRequest) UnmarshalJSON(data []byte) error {
	seen, err := decodeObject(data, map[string]any{"seq": &r.Seq, "history": &r.History, "json": &r.JSON})
	if err != nil {
		return err
	}
	for _, name := range []string{"seq", "json"} {
		if !seen[name] {
			return fmt.Errorf("%q is missing", name)
		}
	}
	r.hasHistory = seen["history"]
	return nil
}

type transferRequest struct{ Host string }

func (r *transferRequest) UnmarshalJSON(data []byte) error {
	seen, err := decodeObject(data, map[string]any{"host": &r.Host})
	if err == nil && !seen["host"] {
		return errors.New(`"host" is missing`)
	}
	return err
}

type safeModeRequest struct{ Reason string }

func (r *safeModeRequest) UnmarshalJSON(data []byte) error {
	seen, err := decodeObject(data, map[string]any{"reason": &r.Reason})
	if err == nil && !seen["reason"] {
		return errors.New(`"reason" is missing; "" clears safe mode`)
	}
	return err
}

type clearRequest struct{ Keep string }

func (r *clearRequest) UnmarshalJSON(data []byte) error {
	_, err := decodeObject(data, map[string]any{"keep": &r.Keep})
	return err
}

// decodeStrict reads one JSON value and nothing after it.
func decodeStrict(data []byte, into any) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// decodeObject reads a JSON object into the places that fields names, and returns which keys it had. Unlike encoding/json
// it refuses unknown keys, keys in another case, duplicates, and null for anything but a JSON value.
func decodeObject(data []byte, fields map[string]any) (map[string]bool, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("want a JSON object"), err)
	}
	seen := make(map[string]bool, len(fields))
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // keys are strings
		into, ok := fields[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("unknown key %q", clip(name))
		case seen[name]:
			return nil, fmt.Errorf("key %q twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if _, any := into.(*json.RawMessage); !any && string(value) == "null" {
			return nil, fmt.Errorf("%q is null", name)
		}
		if err := json.Unmarshal(value, into); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	_, err := dec.Token()
	return seen, err
}

// clip keeps hostile input from filling answers and logs.
func clip(s string) string {
	const limit = 60
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// marshal is json.Marshal without escaping for HTML, so that JSON inside of it keeps its bytes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
