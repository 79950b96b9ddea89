package adamant

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/adamantdb/adamant/antientropy"
	"github.com/adamantdb/adamant/partition"
)

// Divergence is a contradiction between two members of a partition, or between a member and the log: both cannot come from one
// history. It is never merged; the whole partition serves stale reads only until an operator has chosen (design §10).
type Divergence struct {
	Host   string `json:"host"`           // the member that noticed
	Peer   string `json:"peer,omitempty"` // the member it contradicts; "" when that is the log
	Bucket uint8  `json:"bucket"`
	// Index is where the sums of two complete members differ; 0 when a repair or the log met the contradiction.
	Index     uint64             `json:"index,omitempty"`
	Documents []DivergedDocument `json:"documents,omitempty"` // as far as they could be named; at most 64
	Truncated bool               `json:"truncated,omitempty"` // there was no room to name all of them
	Time      time.Time          `json:"time"`                // when it was first noticed
	// Lost is set when the log of the leader, on the host Peer, lacks at Index what Host has applied: there are two histories, and no
	// document says which of them it belongs to.
	Lost *LostCommits `json:"lost,omitempty"`
}

// LostCommits is the proof that a majority of a partition's voters lost entries which had been committed, as when their disks came
// back as old copies (docs/recovery.md).
type LostCommits struct {
	Committed uint64 `json:"committed"` // the term of the entry that was committed at the index, or the highest that it can have
	Found     uint64 `json:"found"`     // the term of the leader's entry there
	Term      uint64 `json:"term"`      // in which that leader leads
	Applied   uint64 `json:"applied"`   // how far the host had applied that noticed
}

// lostFrom gives what a member found its public form.
func lostFrom(host string, c *partition.Contradiction, now time.Time) Divergence {
	return Divergence{Host: host, Peer: partition.HostOf(c.Leader), Index: c.Index, Time: now,
		Lost: &LostCommits{Committed: c.Own, Found: c.Theirs, Term: c.Office, Applied: c.Applied}}
}

func (d *Divergence) sameAs(o *Divergence) bool {
	return d.Host == o.Host && d.Peer == o.Peer && d.Bucket == o.Bucket && (d.Lost == nil) == (o.Lost == nil)
}

// DivergedDocument is one document of a divergence.
type DivergedDocument struct {
	Key    string `json:"key,omitempty"` // "space/key"; "" when only the peer has it and its name could not be learned
	Hash   string `json:"hash"`          // 16 hex digits
	Seq    int64  `json:"seq"`           // where, as far as one seq can say it; −1: not known
	Reason string `json:"reason"`
}

func (d *DivergedDocument) String() string {
	name := d.Key
	if name == "" {
		name = "the document of hash " + d.Hash
	}
	if d.Seq >= 0 {
		name = fmt.Sprintf("%s at seq %d", name, d.Seq)
	}
	return name + ": " + d.Reason
}

// String names the members and the first documents.
func (d *Divergence) String() string {
	var b strings.Builder
	if l := d.Lost; l != nil {
		return fmt.Sprintf("committed entries are lost: host %s has applied up to index %d, with an entry of term %d at index %d, where the leader of term %d on host %s has one of term %d",
			d.Host, l.Applied, l.Committed, d.Index, l.Term, d.Peer, l.Found)
	}
	if d.Peer == "" {
		fmt.Fprintf(&b, "the log contradicts what host %s stores", d.Host)
	} else {
		fmt.Fprintf(&b, "hosts %s and %s contradict each other", d.Host, d.Peer)
	}
	if d.Index > 0 {
		fmt.Fprintf(&b, " at index %d", d.Index)
	}
	fmt.Fprintf(&b, " in bucket %d", d.Bucket)
	const shown = 8
	for i := range d.Documents[:min(len(d.Documents), shown)] {
		b.WriteString("; ")
		b.WriteString(d.Documents[i].String())
	}
	if more := len(d.Documents) - shown; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	if d.Truncated {
		b.WriteString(" and others")
	}
	return b.String()
}

// divergenceFrom gives what the repair loop found its public form.
func divergenceFrom(host string, d *antientropy.Divergence, now time.Time) Divergence {
	out := Divergence{Host: host, Peer: d.Peer, Bucket: d.Bucket, Index: d.Index, Time: now}
	for _, doc := range d.Documents {
		named := DivergedDocument{Hash: fmt.Sprintf("%016x", doc.Hash), Seq: doc.Seq, Reason: doc.Reason}
		if doc.Key != (Key{}) {
			named.Key = doc.Key.String()
		}
		out.Documents = append(out.Documents, named)
	}
	return out
}

// Bounds of what is kept of one partition's divergence, and taken from another host.
const (
	mostDivergences       = 64
	mostDivergedDocuments = 64  // of one divergence
	mostDivergedInAll     = 512 // of all of them
	mostDivergedText      = 256 // bytes of a host's name or a reason
)

// quarantine is what the members of a partition tell each other about its divergence. The higher epoch wins everywhere, so
// members that were away catch up, whoever tells them.
//
//	epoch 0      1 ──reports are added──▸ 1      2               3
//	  fine ──▸ diverged                      ──▸ ended [keep h] ──▸ diverged again …
//
// Only an operator ends it. With Keep every other member discards its version of what the reports name before it takes the end
// over. Nothing is discarded that might be the last of its kind: the kept host itself makes the end, while it is complete; the
// others take it over only from a host that holds the kept version whole; of two ends that were made apart, neither counts; and a
// member whose reports the choice was not about begins anew in place of following it.
type quarantine struct {
	Epoch   uint64       `json:"epoch"` // odd: safe mode
	Keep    string       `json:"keep,omitempty"`
	Reports []Divergence `json:"reports,omitempty"`

	// Restore is this member's own: it has discarded its version, or is about to, and heals from this host, or from others
	// that have.
	Restore string `json:"restore,omitempty"`
}

func (q *quarantine) on() bool { return q.Epoch%2 == 1 }

// flags is what reports say of how many quarantines there were.
func (q *quarantine) flags() (f reportFlags) {
	if q.Epoch > 0 {
		f = flagDiverged
	}
	if q.Epoch&2 != 0 {
		f |= flagDivergedOdd
	}
	return f
}

// with adds a divergence, which begins a quarantine unless one is under way. news is false when nothing of it is new.
func (q quarantine) with(d Divergence) (next quarantine, news bool) {
	if !q.on() {
		q = quarantine{Epoch: q.Epoch + 1, Restore: q.Restore}
	}
	q.Reports = slices.Clone(q.Reports)
	return q.noting(d)
}

// noting adds a divergence to the reports, of which there is a copy. Who finds no room for it finds what differs again later, except for
// the proof of two histories: that takes the place of another.
func (q quarantine) noting(d Divergence) (next quarantine, news bool) {
	i := slices.IndexFunc(q.Reports, func(r Divergence) bool { return r.sameAs(&d) })
	if i < 0 {
		if len(q.Reports) == mostDivergences {
			last := len(q.Reports) - 1
			for ; d.Lost != nil && last >= 0 && q.Reports[last].Lost != nil; last-- {
			}
			if d.Lost == nil || last < 0 {
				return q, false
			}
			q.Reports = slices.Delete(q.Reports, last, last+1)
		}
		documents := d.Documents
		d.Documents = nil
		q.Reports = append(q.Reports, d)
		q.name(len(q.Reports)-1, documents)
		return q, true
	}
	if news = d.Time.Before(q.Reports[i].Time); news {
		q.Reports[i].Time = d.Time
	}
	news = news || d.Truncated && !q.Reports[i].Truncated
	q.Reports[i].Truncated = q.Reports[i].Truncated || d.Truncated
	return q, q.name(i, d.Documents) || news
}

// name adds documents to a report, as far as there is room. A report that lacks some says so: an operator's choice must not
// pass for one about those that are named only.
func (q *quarantine) name(i int, documents []DivergedDocument) (news bool) {
	r := &q.Reports[i]
	r.Documents = slices.Clone(r.Documents)
	all := 0
	for k := range q.Reports {
		all += len(q.Reports[k].Documents)
	}
	for _, d := range documents {
		known := slices.ContainsFunc(r.Documents, func(k DivergedDocument) bool { return k.Hash == d.Hash && k.Key == d.Key })
		switch {
		case known:
		case len(r.Documents) < mostDivergedDocuments && all < mostDivergedInAll:
			r.Documents, all, news = append(r.Documents, d), all+1, true
		case !r.Truncated:
			r.Truncated, news = true, true
		}
	}
	return news
}

// merge takes in another member's state. changed is false when it says nothing new.
func (q quarantine) merge(theirs quarantine) (next quarantine, changed bool) {
	switch {
	case theirs.Epoch > q.Epoch:
		return q.follow(theirs), true
	case theirs.Epoch < q.Epoch || !q.on() && q.Keep == theirs.Keep && q.Keep != "":
		return q, false
	case !q.on() && q.Keep != theirs.Keep: // two operators chose, and each may have been followed by some
		q.Epoch, q.Keep, changed = q.Epoch+1, "", true
	}
	q.Reports = slices.Clone(q.Reports)
	for _, r := range theirs.Reports {
		var news bool
		q, news = q.noting(r)
		changed = changed || news
	}
	return q, changed
}

// follow takes over a state of a higher epoch.
func (q quarantine) follow(theirs quarantine) quarantine {
	theirs.Restore = q.Restore
	switch {
	case !q.on():
	case theirs.on():
		for _, r := range q.Reports {
			theirs, _ = theirs.with(r)
		}
	case q.undecided(&theirs):
		q.Epoch = theirs.Epoch + 1
		return q
	}
	return theirs
}

// undecided reports whether this member knows of something that an end was not about: it was noticed where nobody heard of it in time,
// or by a member that had not heard of an earlier end. What differs and goes with the choice of nobody is found again; what would be
// discarded, or healed from another history, is not.
func (q *quarantine) undecided(end *quarantine) bool {
	full := len(end.Reports) == mostDivergences // some may have found no room
	return slices.ContainsFunc(q.Reports, func(r Divergence) bool {
		if r.Lost == nil && (end.Keep == "" || full) {
			return false
		}
		return !slices.ContainsFunc(end.Reports, func(o Divergence) bool { return o.sameAs(&r) && o.Time.Equal(r.Time) })
	})
}

// lost reports whether members have two histories: no version of single documents can be kept then, and nobody heals from anybody.
func (q *quarantine) lost() bool {
	return q.on() && slices.ContainsFunc(q.Reports, func(r Divergence) bool { return r.Lost != nil })
}

// ended is the state after an operator's choice; keep may be "". It tells what the choice was about, as far as somebody has to know.
func (q quarantine) ended(keep string) quarantine {
	q.Epoch++
	q.Keep = keep
	if keep == "" {
		q.Reports = slices.DeleteFunc(slices.Clone(q.Reports), func(r Divergence) bool { return r.Lost == nil })
	}
	q.Restore = ""
	return q
}

// reason says why writes are refused, "" when they are not. A loss comes first: documents differ because of it.
func (q *quarantine) reason() string {
	if !q.on() || len(q.Reports) == 0 {
		return ""
	}
	first := max(0, slices.IndexFunc(q.Reports, func(r Divergence) bool { return r.Lost != nil }))
	s := q.Reports[first].String()
	if more := len(q.Reports) - 1; more > 0 {
		s += fmt.Sprintf("; and %s more", plural(more, "report"))
	}
	return s
}

// discards lists what a member gives up, by bucket: the documents that are named, or, when a report of the bucket names none, or
// not all of them for sure, the whole bucket.
func (q *quarantine) discards(bucketOf func(Key) uint8) map[uint8]discard {
	out := map[uint8]discard{}
	for i := range q.Reports {
		r := &q.Reports[i]
		if r.Lost != nil {
			continue
		}
		d := out[r.Bucket]
		if r.Truncated || len(r.Documents) == 0 || len(r.Documents) == mostDivergedDocuments {
			d.whole = true
		}
		for _, doc := range r.Documents {
			key, err := ParseKey(doc.Key)
			if err != nil || bucketOf(key) != r.Bucket {
				d.whole = true
				continue
			}
			if !slices.Contains(d.keys, key) {
				d.keys = append(d.keys, key)
			}
		}
		out[r.Bucket] = d
	}
	return out
}

type discard struct {
	whole bool
	keys  []Key
}

var errQuarantine = errors.New("malformed state of a divergence")

// decodeQuarantine reads what another host sent, or what was stored.
func decodeQuarantine(b []byte) (quarantine, error) {
	var q quarantine
	if err := json.Unmarshal(b, &q); err != nil {
		return quarantine{}, fmt.Errorf("%w: %w", errQuarantine, err)
	}
	return q, q.check()
}

// check bounds what another host may make this one remember.
func (q *quarantine) check() error {
	if q.Epoch > 1<<53 || len(q.Keep) > mostDivergedText || len(q.Restore) > mostDivergedText || len(q.Reports) > mostDivergences || q.on() && q.Keep != "" {
		return fmt.Errorf("%w: epoch %d, %d reports", errQuarantine, q.Epoch, len(q.Reports))
	}
	all := 0
	for i := range q.Reports {
		r := &q.Reports[i]
		all += len(r.Documents)
		if len(r.Host) > mostDivergedText || len(r.Peer) > mostDivergedText || len(r.Documents) > mostDivergedDocuments || all > mostDivergedInAll {
			return fmt.Errorf("%w: report %d", errQuarantine, i)
		}
		for k := range r.Documents {
			d := &r.Documents[k]
			if d.Key != "" {
				if _, err := ParseKey(d.Key); err != nil {
					return fmt.Errorf("%w: %w", errQuarantine, err)
				}
			}
			if len(d.Hash) > 16 || len(d.Reason) > mostDivergedText {
				return fmt.Errorf("%w: document %d of report %d", errQuarantine, k, i)
			}
		}
	}
	return nil
}
