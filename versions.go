package adamant

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/store"
)

// Comparison is how the members of a partition hold one document, side by side: for an operator who has to choose between them.
type Comparison struct {
	Partition uint32    `json:"partition"`
	Document  string    `json:"document"` // "space/key"
	Versions  []Version `json:"versions"` // by host name
	// Differ is false when all members that answered hold the same.
	Differ bool `json:"differ"`
	// FirstSeq is the lowest seq at which kept deltas differ, −1 when none was found: then bases or heads do, or the search ended
	// at Searched.
	FirstSeq int64 `json:"firstSeq"`
	// Searched is the seq up to which deltas were compared, from where every member keeps them.
	Searched int64 `json:"searched"`
}

// Version is one member's version of a document.
type Version struct {
	Host     string `json:"host"`
	Error    string `json:"error,omitempty"` // why the rest is not known
	Applied  uint64 `json:"applied"`
	Complete bool   `json:"complete"`
	Exists   bool   `json:"exists"`

	Generation uint64 `json:"generation,omitempty"`
	LastIndex  uint64 `json:"lastIndex,omitempty"`
	Head       int64  `json:"head"`
	Chain      string `json:"chain,omitempty"` // after the newest delta
	Floor      int64  `json:"floor"`           // deltas up to it are not kept
	Base       string `json:"base,omitempty"`  // hash of the snapshot's bytes, 16 hex digits; "" without one
	BaseSeq    int64  `json:"baseSeq,omitempty"`
	BaseIndex  uint64 `json:"baseIndex,omitempty"`
	Entries    int64  `json:"entries"`
	Bytes      int64  `json:"bytes"`

	// Delta is the one that holds FirstSeq; nil when this member has none there.
	Delta *VersionDelta `json:"delta,omitempty"`
}

// VersionDelta is a delta for people: its texts are cut to 4 KiB, and what is not text is in hexadecimal.
type VersionDelta struct {
	SeqBegin int64  `json:"seqBegin"`
	SeqEnd   int64  `json:"seqEnd"`
	Index    uint64 `json:"index"`
	Term     uint64 `json:"term"`
	Chain    string `json:"chain"`
	Who      string `json:"who,omitempty"`
	Redo     string `json:"redo"`
	Undo     string `json:"undo"`
	Cut      bool   `json:"cut,omitempty"`
}

const (
	showMarks = 2048 // deltas in one answer
	showPages = 256  // answers of one member
	showText  = 4 << 10
)

// showRequest asks a member for its version of a document: its head and base, and a summary of the deltas that end after a seq,
// or the one of them that comes first.
type showRequest struct {
	Document string `json:"document"`
	After    int64  `json:"after"`
	Whole    bool   `json:"whole"`
}

type showReply struct {
	Version Version    `json:"version"`
	Marks   []showMark `json:"marks,omitempty"`
	More    bool       `json:"more,omitempty"`
}

// showMark is enough of a delta to tell whether two are the same.
type showMark struct {
	Begin int64  `json:"b"`
	End   int64  `json:"e"`
	Chain string `json:"c,omitempty"` // "" when this member could not know it
	Sum   string `json:"s"`           // of its bytes
}

func (m *showMark) same(o *showMark) bool {
	return m.Begin == o.Begin && m.End == o.End && m.Sum == o.Sum && (m.Chain == o.Chain || m.Chain == "" || o.Chain == "")
}

// Compare asks every member of a partition for its version of a document, as it is now, in safe mode or not. Members that do not
// answer are listed with the reason. Errors: *InvalidError (not a member here, a document of another partition), *KeyError.
func (h *Host) Compare(ctx context.Context, id uint32, key Key) (Comparison, error) {
	if err := h.usable(); err != nil {
		return Comparison{}, err
	}
	m, err := h.isolated(id)
	if err != nil {
		return Comparison{}, err
	}
	if err := key.Validate(); err != nil {
		return Comparison{}, err
	}
	if owner := h.partitionOf(key); owner != id {
		return Comparison{}, &InvalidError{Key: key, Reason: fmt.Sprintf("it belongs to partition %d, not %d", owner, id)}
	}
	c := Comparison{Partition: id, Document: key.String(), FirstSeq: -1}
	readers := h.readers(m, key)
	each(readers, func(r *versionReader) { r.read(ctx, showRequest{After: math.MaxInt64}) })
	c.search(ctx, readers)
	for _, r := range readers {
		c.Versions = append(c.Versions, r.version)
	}
	return c, ctx.Err()
}

// readers are the members that hold a document, this one too, by host name.
func (h *Host) readers(m *member, key Key) []*versionReader {
	list := []*versionReader{{h: h, m: m, key: key, host: h.name}}
	for _, host := range h.partners(m) {
		list = append(list, &versionReader{h: h, m: m, key: key, host: host})
	}
	for i := 1; i < len(list) && list[i].host < list[i-1].host; i++ {
		list[i-1], list[i] = list[i], list[i-1]
	}
	return list
}

// versionReader reads one member's version, page by page.
type versionReader struct {
	h       *Host
	m       *member
	key     Key
	host    string
	version Version

	marks []showMark // read and not compared yet
	next  int64      // pages go on after this seq
	pages int
	end   bool // nothing more is to be read
}

// each reads from all members at once.
func each(readers []*versionReader, do func(*versionReader)) {
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() { do(r) })
	}
	wg.Wait()
}

func (r *versionReader) read(ctx context.Context, req showRequest) showReply {
	req.Document = r.key.String()
	var reply showReply
	var err error
	if r.host == r.h.name {
		reply, err = r.h.shown(r.m.id, req)
	} else {
		err = r.h.callHost(ctx, r.host, callShow, r.m.id, req, &reply)
	}
	switch delta := r.version.Delta; {
	case err != nil:
		r.version.Error, r.end = err.Error(), true
	default:
		r.version = reply.Version
		if r.version.Host = r.host; r.version.Delta == nil {
			r.version.Delta = delta
		}
	}
	return reply
}

// fill reads the next page when the last one is used up.
func (r *versionReader) fill(ctx context.Context) {
	if r.end || len(r.marks) > 0 {
		return
	}
	reply := r.read(ctx, showRequest{After: r.next})
	r.marks, r.pages = reply.Marks, r.pages+1
	if n := len(r.marks); n > 0 {
		r.next = max(r.next, r.marks[n-1].End)
	}
	r.end = r.end || !reply.More || r.pages == showPages || len(r.marks) == 0
}

// search finds what differs. Deltas are compared one by one from where all members keep them: a chain that was not computed anew
// after a delta was changed would not tell.
func (c *Comparison) search(ctx context.Context, readers []*versionReader) {
	var with []*versionReader
	floor := int64(-1)
	for _, r := range readers {
		if r.version.Error != "" {
			continue
		}
		if with = append(with, r); r.version.Exists {
			floor = max(floor, r.version.Floor)
		}
	}
	for i := 1; i < len(with); i++ {
		c.Differ = c.Differ || !with[i].version.alike(&with[0].version)
	}
	for _, r := range with {
		r.next, r.end = floor, !r.version.Exists
	}
	c.Searched = floor
	for len(with) > 1 && ctx.Err() == nil {
		each(with, func(r *versionReader) { r.fill(ctx) })
		first, lowest, over := -1, int64(math.MaxInt64), true
		for i, r := range with {
			if len(r.marks) == 0 {
				continue
			}
			if over = false; r.marks[0].Begin < lowest {
				first, lowest = i, r.marks[0].Begin
			}
		}
		if over {
			return
		}
		mark := with[first].marks[0]
		for _, r := range with {
			if len(r.marks) == 0 && r.pages == showPages {
				return // not read so far
			}
			if len(r.marks) == 0 || !r.marks[0].same(&mark) {
				c.Differ, c.FirstSeq = true, max(mark.Begin, floor+1)
				each(with, func(r *versionReader) { r.read(ctx, showRequest{After: c.FirstSeq - 1, Whole: true}) })
				return
			}
		}
		for _, r := range with {
			r.marks = r.marks[1:]
		}
		c.Searched = mark.End
	}
}

// alike compares what is known of two versions without their deltas.
func (v *Version) alike(o *Version) bool {
	return v.Exists == o.Exists && v.Generation == o.Generation && v.Head == o.Head && v.Chain == o.Chain && v.Base == o.Base && v.BaseSeq == o.BaseSeq
}

// shown answers how this host's member holds a document.
func (h *Host) shown(id uint32, req showRequest) (showReply, error) {
	var reply showReply
	m := h.member(id)
	if m == nil {
		return reply, fmt.Errorf("partition %d: not a member", id)
	}
	key, err := ParseKey(req.Document)
	if err != nil {
		return reply, err
	}
	status := m.docs.Status()
	v := &reply.Version
	v.Applied, v.Complete, v.Floor = max(status.Applied, m.docs.Shown()), status.Complete, -1 // the view shows what is not written yet, too
	view, err := m.docs.View(key)
	if errors.As(err, new(*NotFoundError)) {
		return reply, nil
	}
	if err != nil {
		return reply, err
	}
	defer view.Close()
	head := &view.Head
	v.Exists, v.Generation, v.LastIndex, v.Head, v.Chain, v.Floor = true, head.Generation, head.LastIndex, head.HeadSeq, head.Chain.String(), head.Floor
	v.Entries, v.Bytes = head.Entries, head.Bytes+head.BaseBytes
	if base, err := view.Base(); err != nil {
		return reply, err
	} else if head.HasBase {
		v.Base, v.BaseSeq, v.BaseIndex = fmt.Sprintf("%016x", xxhash.Sum64(base)), head.BaseSeq, head.BaseIndex
	}
	var canonical []byte
	for e, err := range view.Entries(req.After) {
		if err != nil {
			return reply, err
		}
		if req.Whole {
			if e.SeqBegin <= req.After+1 {
				v.Delta = versionDelta(&e)
			}
			break
		}
		if len(reply.Marks) == showMarks {
			reply.More = true
			break
		}
		canonical = e.AppendBinary(canonical[:0])
		mark := showMark{Begin: e.SeqBegin, End: e.SeqEnd, Sum: fmt.Sprintf("%016x", xxhash.Sum64(canonical))}
		if e.Chain != (Chain{}) {
			mark.Chain = e.Chain.String()
		}
		reply.Marks = append(reply.Marks, mark)
	}
	return reply, nil
}

func versionDelta(e *store.Entry) *VersionDelta {
	d := &VersionDelta{SeqBegin: e.SeqBegin, SeqEnd: e.SeqEnd, Index: e.Index, Term: e.Term, Chain: e.Chain.String()}
	for _, t := range []struct {
		to   *string
		from []byte
	}{{&d.Who, []byte(e.Who)}, {&d.Redo, e.Redo}, {&d.Undo, e.Undo}} {
		text, cut := showable(t.from)
		*t.to, d.Cut = text, d.Cut || cut
	}
	return d
}

// showable is the beginning of what may be text.
func showable(b []byte) (text string, cut bool) {
	if !utf8.Valid(b) {
		shown := b[:min(len(b), showText/2)]
		return hex.EncodeToString(shown), len(shown) < len(b)
	}
	n := min(len(b), showText)
	for n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	return string(b[:n]), n < len(b)
}
