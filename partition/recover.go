package partition

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/store"
)

// Recovery of a group that has lost its majority for good, by an operator (design §10). It is planned from what each survivor
// holds (PlanRecovery) and performed by each survivor on its own, offline (Recover). Afterwards
//
//   - the group has a new founding and a configuration of survivors alone; whoever was left out is foreign to it;
//   - every survivor has the same marker, above anything that the old group is known to have written, and no log. So any of
//     them can win an election, and no index or term of the old group is ever used again;
//   - every survivor covers what it covered, all of its own log that the best log confirms, and one index which nobody else
//     covers: its token. All of the others' tokens are holes. So it takes what each other survivor holds, as anti-entropy does,
//     before it is complete, however much of the log one of them covers alone;
//   - what no survivor covers stays a hole until then, so that a document of which a survivor knows more than it covers is not
//     taken for deleted. When nothing else is missing it is given up: store.Documents.Abandon.
//
//	index  1 ───────── through ─── end of the best log ─── base   base+1 … base+n
//	       own holes stay │ hole             hole               │   tokens          ← the marker

// termJump lies between the highest term that a survivor knows and the first of the recovered group: the dead may have been
// elected since. Epochs are fencing tokens, which must not be given twice.
const termJump = 1 << 20

// MemberSurvey is what a stopped member holds of its partition.
type MemberSurvey struct {
	Partition uint32     `json:"partition"`
	ID        string     `json:"id"`                 // server id, host@incarnation
	Founding  Founding   `json:"founding"`           // zero: it has never heard of one
	Former    []Founding `json:"former,omitempty"`   // those before, each given up by a recovery
	Term      uint64     `json:"term"`               // Raft's current one
	Applied   uint64     `json:"applied"`            // in its documents, or recorded as a hole
	Ahead     uint64     `json:"ahead,omitempty"`    // highest index visible in what it pulled from others
	Holes     Spans      `json:"holes,omitempty"`    // up to Applied
	Last      uint64     `json:"last"`               // its log's last entry; the marker's when there is none
	LastTerm  uint64     `json:"lastTerm"`           //
	Marker    uint64     `json:"marker,omitempty"`   // index of its marker
	Terms     []TermSpan `json:"terms,omitempty"`    // of what it knows of the log
	Voters    []string   `json:"voters,omitempty"`   // of the newest configuration in its log
	Replicas  []string   `json:"replicas,omitempty"` //
	Documents int64      `json:"documents"`
	SafeMode  string     `json:"safeMode,omitempty"` // reason
	Diverged  bool       `json:"diverged,omitempty"` // its safe mode is that of a divergence
}

// Founding is the id of a founding; its text is 16 hex digits.
type Founding uint64

func (f Founding) String() string { return fmt.Sprintf("%016x", uint64(f)) }

// MarshalText implements encoding.TextMarshaler: JSON's numbers are not for 64 bits everywhere.
func (f Founding) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Founding) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || Founding(n).String() != string(b) {
		return fmt.Errorf("founding %q is not 16 hex digits", b)
	}
	*f = Founding(n)
	return nil
}

// Spans are index ranges, first and last, in ascending order and apart from each other.
type Spans [][2]uint64

// TermSpan says that the entries First to Last, as far as they are known, are of Term.
type TermSpan struct {
	Term  uint64 `json:"term"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

func spansOf(s interval.Set) Spans {
	var out Spans
	for _, r := range s {
		out = append(out, [2]uint64{r.First, r.Last})
	}
	return out
}

// Set returns the indexes as a set; ranges upside down are left out.
func (s Spans) Set() interval.Set {
	var out interval.Set
	for _, r := range s {
		out = out.Union(interval.Of(r[0], r[1]))
	}
	return out
}

func (s Spans) String() string {
	if len(s) == 0 {
		return "none"
	}
	return s.Set().String()
}

// Survey reads what a member holds while no Partition is open on it. It changes nothing.
func Survey(id uint32, self raft.ServerID, log store.LogGroup, docs Documents) (MemberSurvey, error) {
	s := MemberSurvey{Partition: id, ID: string(self)}
	fail := func(err error) (MemberSurvey, error) {
		return s, fmt.Errorf("survey of partition %d: %w", id, err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return fail(err)
	}
	m, marked, err := log.Marker()
	if err != nil {
		return fail(err)
	}
	if s.Term, err = currentTerm(log); err != nil {
		return fail(err)
	}
	status := docs.Status()
	holes := status.Holes
	s.Applied, s.Ahead, s.Documents = status.Applied, status.Ahead, status.Documents
	s.Last, s.Marker = max(last, m.Index), m.Index
	if covered := docs.Coverage().Max(); covered > s.Last {
		return fail(fmt.Errorf("%w: documents hold index %d, log and marker end at %d", ErrLogLost, covered, s.Last))
	}
	var history payload
	if marked {
		if history, err = decodePayload(m.Payload); err != nil {
			return fail(err)
		}
		s.LastTerm = m.Term
		s.list(raft.DecodeConfiguration(m.Configuration))
		holes = store.Skip(holes, s.Applied, m.Index) // as opening it would
		s.Applied = max(s.Applied, m.Index)
	}
	s.Holes = spansOf(holes)
	s.Founding = Founding(history.founding)
	for _, f := range history.former {
		s.Former = append(s.Former, Founding(f))
	}
	return s, s.readLog(log, last, m.Index, history.terms)
}

func currentTerm(log store.LogGroup) (uint64, error) {
	term, err := log.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" {
		return 0, fmt.Errorf("read the term: %w", err)
	}
	return term, nil
}

// readLog notes the terms of what the log holds, its newest configuration, and its founding unless a marker told it.
func (s *MemberSurvey) readLog(log store.LogGroup, last, marker uint64, known terms) error {
	first, err := log.FirstIndex()
	if err != nil {
		return fmt.Errorf("survey of partition %d: %w", s.Partition, err)
	}
	for i := first; i > 0 && i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return fmt.Errorf("survey of partition %d: entry %d: %w", s.Partition, i, err)
		}
		known = known.note(l.Index, l.Term)
		s.LastTerm = l.Term
		switch {
		case l.Type == raft.LogConfiguration && i > marker:
			s.list(raft.DecodeConfiguration(l.Data))
		case l.Type == raft.LogCommand && s.Founding == 0:
			c, ok, err := barrierIn(l.Data)
			if err != nil {
				return fmt.Errorf("survey of partition %d: entry %d: %w", s.Partition, i, err)
			}
			if ok && c.founds(l.Term) {
				s.Founding = Founding(c.Founding)
			}
		}
	}
	for _, r := range known {
		s.Terms = append(s.Terms, TermSpan(r))
	}
	return nil
}

func (s *MemberSurvey) list(c raft.Configuration) {
	s.Voters, s.Replicas = nil, nil
	for _, server := range c.Servers {
		if server.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, string(server.ID))
		} else {
			s.Replicas = append(s.Replicas, string(server.ID))
		}
	}
}

func (s *MemberSurvey) terms() terms {
	t := make(terms, 0, len(s.Terms))
	for _, r := range s.Terms {
		t = append(t, termRange(r))
	}
	return t
}

// Covers is what the member holds the effect of, once it has applied its log up to through.
func (s *MemberSurvey) covers(through uint64) interval.Set {
	return store.Coverage(through, s.Holes.Set(), nil)
}

// Recovery is what becomes of one partition.
type Recovery struct {
	Partition uint32     `json:"partition"`
	Founding  Founding   `json:"founding"` // the new one
	Former    []Founding `json:"former"`   // the last of them is given up
	Term      uint64     `json:"term"`     // no survivor may be below it
	Base      uint64     `json:"base"`     // the highest index that anybody is known to have used
	Voters    []string   `json:"voters"`
	Replicas  []string   `json:"replicas,omitempty"`
	Members   []Survivor `json:"members"` // in the order of their tokens
	// Lost is covered by no survivor: it is given up once they have all that others cover.
	Lost Spans `json:"lost,omitempty"`
	// Uncertain is in the best survivor's log, and nobody here knows whether it was committed. It is kept.
	Uncertain Spans `json:"uncertain,omitempty"`
}

// Survivor is a member that takes part.
type Survivor struct {
	ID       string `json:"id"`
	Through  uint64 `json:"through"`  // it applies its log up to here
	Last     uint64 `json:"last"`     // end of its log when it was surveyed
	LastTerm uint64 `json:"lastTerm"` //
	Marker   uint64 `json:"marker"`   // its marker then
	Covers   Spans  `json:"covers"`   // once it has applied its log
}

// PlanRecovery chooses what the survivors of one partition become; known is the highest index, and knownTerm the highest term,
// that anybody is known to have reached, the dead included. All surveys have to be of one founding.
//
// The best log is that of the highest (term, index) at its end: of all entries that were committed, it has every one that
// any survivor's log has. Therefore entries of the others that it does not confirm were never committed, and go.
func PlanRecovery(surveys []MemberSurvey, known, knownTerm uint64, founding uint64) (Recovery, error) {
	surveys = slices.Clone(surveys)
	slices.SortFunc(surveys, func(a, b MemberSurvey) int { return strings.Compare(a.ID, b.ID) })
	best, err := BestLog(surveys)
	if err != nil {
		return Recovery{}, err
	}
	for i := range surveys {
		if at, yes := surveys[i].contradicts(best); yes {
			return Recovery{}, fmt.Errorf("members %s and %s of partition %d have two histories, which part at index %d or before: leave one of them out, and give it up",
				surveys[i].ID, best.ID, best.Partition, at)
		}
	}
	r := Recovery{Partition: best.Partition, Founding: Founding(founding | 1), Base: max(known, best.Last), Term: knownTerm}
	r.Former = append(slices.Clone(best.Former), best.Founding)
	if n := len(r.Former); n > maxFormer {
		r.Former = r.Former[n-maxFormer:]
	}
	if slices.Contains(r.Former, r.Founding) {
		return Recovery{}, errors.New("the new founding was in use before")
	}
	var covered interval.Set
	committed := uint64(0)
	for i := range surveys {
		s := &surveys[i]
		own := s.terms()
		through := max(s.Applied, harvestPoint(best.terms(), best.Last, s.Last, s.Applied, own.at))
		if s == best {
			through = max(s.Applied, s.Last)
		}
		covers := s.covers(through)
		covered = covered.Union(covers)
		committed = max(committed, s.Applied)
		r.Base = max(r.Base, s.Ahead, through)
		r.Term = max(r.Term, s.Term, s.LastTerm)
		r.Members = append(r.Members, Survivor{ID: s.ID, Through: through, Last: s.Last, LastTerm: s.LastTerm, Marker: s.Marker, Covers: spansOf(covers)})
		if slices.Contains(best.Replicas, s.ID) {
			r.Replicas = append(r.Replicas, s.ID)
		} else {
			r.Voters = append(r.Voters, s.ID)
		}
	}
	if len(r.Voters) == 0 {
		r.Voters, r.Replicas = r.Replicas, nil
	}
	r.Term += termJump
	r.Lost = spansOf(interval.Of(1, r.Base).Minus(covered))
	r.Uncertain = spansOf(interval.Of(max(committed, min(known, best.Last))+1, best.Last))
	return r, nil
}

// BestLog returns the member whose log ends with the highest (term, index).
func BestLog(surveys []MemberSurvey) (best *MemberSurvey, err error) {
	for i := range surveys {
		s := &surveys[i]
		switch {
		case s.Founding == 0 || s.Last == 0:
			return nil, fmt.Errorf("member %s of partition %d holds nothing that says which founding it belongs to", s.ID, s.Partition)
		case s.Founding != surveys[0].Founding || s.Partition != surveys[0].Partition:
			return nil, fmt.Errorf("member %s is of partition %d, founding %s; %s is of %d, %s", s.ID, s.Partition, s.Founding,
				surveys[0].ID, surveys[0].Partition, surveys[0].Founding)
		case i > 0 && s.ID == surveys[i-1].ID:
			return nil, fmt.Errorf("member %s of partition %d was surveyed twice", s.ID, s.Partition)
		}
		if best == nil || s.LastTerm > best.LastTerm || s.LastTerm == best.LastTerm && s.Last > best.Last {
			best = s
		}
	}
	if best == nil {
		return nil, errors.New("nobody survives")
	}
	return best, nil
}

// Find returns a member of the plan and its token; false when it takes no part.
func (r *Recovery) find(self raft.ServerID) (s *Survivor, token uint64, ok bool) {
	for i := range r.Members {
		if r.Members[i].ID == string(self) {
			return &r.Members[i], r.Base + 1 + uint64(i), true
		}
	}
	return nil, 0, false
}

// marker is what every survivor starts from.
func (r *Recovery) marker() store.Marker {
	var c raft.Configuration
	for _, id := range r.Voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	for _, id := range r.Replicas {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	p := payload{founding: uint64(r.Founding)}
	for _, f := range r.Former {
		p.former = append(p.former, uint64(f))
	}
	index := r.Base + uint64(len(r.Members))
	return store.Marker{Index: index, Term: r.Term, Configuration: raft.EncodeConfiguration(c), ConfigurationIndex: index, Payload: p.encode()}
}

// Check refuses a plan that can not have come from PlanRecovery.
func (r *Recovery) Check() error {
	switch {
	case r.Founding == 0 || len(r.Former) == 0 || len(r.Former) > maxFormer || slices.Contains(r.Former, r.Founding) || slices.Contains(r.Former, 0):
		return fmt.Errorf("plan of partition %d: founding %s after %v", r.Partition, r.Founding, r.Former)
	case len(r.Members) == 0 || len(r.Voters) == 0 || len(r.Voters)+len(r.Replicas) != len(r.Members):
		return fmt.Errorf("plan of partition %d: %d members, %d voters and %d replicas", r.Partition, len(r.Members), len(r.Voters), len(r.Replicas))
	case r.Base > 1<<62 || r.Term > 1<<62:
		return fmt.Errorf("plan of partition %d: base %d, term %d", r.Partition, r.Base, r.Term)
	}
	for i := range r.Members {
		s := &r.Members[i]
		if i > 0 && r.Members[i-1].ID >= s.ID || slices.Contains(r.Voters, s.ID) == slices.Contains(r.Replicas, s.ID) {
			return fmt.Errorf("plan of partition %d: member %q", r.Partition, s.ID)
		}
		if s.Through > r.Base || s.LastTerm >= r.Term {
			return fmt.Errorf("plan of partition %d: member %s ends at index %d, term %d", r.Partition, s.ID, s.Last, s.LastTerm)
		}
	}
	return nil
}

// Recovered reports whether a member has carried out its part already.
func (r *Recovery) Recovered(log store.LogGroup) (bool, error) {
	m, ok, err := log.Marker()
	if err != nil || !ok || m.Index < r.Base {
		return false, err
	}
	p, err := decodePayload(m.Payload)
	return err == nil && p.founding == uint64(r.Founding), err
}

// Matches refuses a member that is not what was surveyed any more. It holds before a member's part was begun only.
func (r *Recovery) Matches(self raft.ServerID, log store.LogGroup, docs Documents) error {
	s, _, ok := r.find(self)
	if !ok {
		return fmt.Errorf("plan of partition %d: %s takes no part", r.Partition, self)
	}
	now, err := Survey(r.Partition, self, log, docs)
	if err != nil {
		return err
	}
	given := r.Former[len(r.Former)-1]
	if now.Founding != given || now.Last != s.Last || now.LastTerm != s.LastTerm || now.Marker != s.Marker || now.Applied > s.Through ||
		!now.covers(s.Through).Covers(s.Covers.Set()) || now.Term >= r.Term || now.Ahead > r.Base {
		return fmt.Errorf("partition %d: %s has changed since it was surveyed: survey and plan again", r.Partition, self)
	}
	return nil
}

// Recover carries out a member's part of a plan, and what is left of it after a crash. No Partition may be open on the member, and
// none may be opened before Recover has returned nil: whoever calls it sees to that durably. remember is called before the last
// step, for what must not be forgotten: what the plan gives up.
func (r *Recovery) Recover(self raft.ServerID, log store.LogGroup, docs Documents, remember func() error) error {
	s, token, ok := r.find(self)
	if !ok {
		return fmt.Errorf("plan of partition %d: %s takes no part", r.Partition, self)
	}
	if done, err := r.Recovered(log); err != nil || done {
		return err
	}
	marker := r.marker()
	for _, step := range []func() error{
		func() error { return r.applyLog(s, log, docs) },
		func() error { return holeUpTo(docs, token-1) },
		func() error { return stageThrough(docs, token) },
		func() error { return holeUpTo(docs, marker.Index) },
		docs.Sync,
		remember,
		func() error { return raiseTerm(log, r.Term) },
		func() error { return log.SaveMarker(marker, false) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("recovery of partition %d: %w", r.Partition, err)
		}
	}
	return nil
}

// applyLog brings into the documents what this member's own log holds and the best log confirms.
func (r *Recovery) applyLog(s *Survivor, log store.LogGroup, docs Documents) error {
	if err := docs.Flush(); err != nil {
		return err
	}
	if err := holeUpTo(docs, s.Marker); err != nil {
		return err
	}
	f := &stateMachine{docs: docs, onConfig: func(raft.Configuration) {}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.replay(s.Through, log); err != nil {
		return err
	}
	return docs.Flush()
}

// holeUpTo records as a hole what is not applied yet, up to an index.
func holeUpTo(docs Documents, index uint64) error {
	if applied := docs.Applied(); applied < index {
		return docs.RecordHole(applied+1, index)
	}
	return nil
}

// stageThrough lets the documents cover the next index, at which nothing was written.
func stageThrough(docs Documents, index uint64) error {
	if docs.Applied() >= index {
		return nil
	}
	if err := docs.Stage(nil, index); err != nil {
		return err
	}
	return docs.Flush()
}

func raiseTerm(log store.LogGroup, term uint64) error {
	now, err := currentTerm(log)
	if err != nil || now >= term {
		return err
	}
	return log.SetUint64([]byte("CurrentTerm"), term)
}
