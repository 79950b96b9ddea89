package store

import "fmt"

// Kind says what a mutation does.
type Kind uint8

// The kinds of mutations. Zero is none, so that a forgotten kind is an error.
const (
	Create Kind = iota + 1
	Append
	Compact
	Replace
	Delete
)

// Valid reports whether the kind is one of the constants.
func (k Kind) Valid() bool { return k >= Create && k <= Delete }

func (k Kind) String() string {
	switch k {
	case Create:
		return "create"
	case Append:
		return "append"
	case Compact:
		return "compact"
	case Replace:
		return "replace"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Mutation is a blind command as the state machine hands it over: a leader has decided, and every member writes exactly
// this. Documents.Apply never answers back with "no such document".
type Mutation struct {
	Kind        Kind
	Key         Key
	Index, Term uint64 // of the log entry
	Generation  uint64 // of the document it applies to; ignored for Create and Replace, which start generation Index

	Deltas  []Delta // Create: the first one; Append: one or more, contiguous
	Prior   Chain   // Append: before the first delta; zero means unknown, see Entry.Chain
	Chain   Chain   // after the command, for every kind but Delete
	HeadSeq int64   // after the command, for every kind but Delete

	BaseSeq int64  // Compact, Replace: what Base is the state at
	Base    []byte // Compact, Replace
	Floor   int64  // Compact: deltas with SeqEnd ≤ Floor are dropped; Replace: = BaseSeq
	Dropped bool   // Compact, Replace: something at or below Floor was dropped, now or earlier
}

// Validate finds mutations that no leader can have proposed. It guards the engine against its caller's mistakes, not
// against the state: whether a mutation takes effect depends on what the member already knows.
func (m *Mutation) Validate() error {
	if err := m.Key.Validate(); err != nil {
		return err
	}
	if m.Index == 0 {
		return m.invalid("no index")
	}
	switch m.Kind {
	case Create, Append:
		if len(m.Deltas) == 0 {
			return m.invalid("no deltas")
		}
		if m.Kind == Append && (m.Generation == 0 || m.Generation >= m.Index) {
			return m.invalid(fmt.Sprintf("generation %d at index %d", m.Generation, m.Index))
		}
	case Compact:
		if m.Generation == 0 || m.Generation >= m.Index {
			return m.invalid(fmt.Sprintf("generation %d at index %d", m.Generation, m.Index))
		}
		if m.BaseSeq < 0 || m.BaseSeq > m.HeadSeq || m.HeadSeq > MaxSeq || m.Floor < -1 || m.Floor > m.HeadSeq {
			return m.invalid(fmt.Sprintf("base at %d, floor %d, head %d", m.BaseSeq, m.Floor, m.HeadSeq))
		}
	case Replace:
		if m.BaseSeq < 0 || m.BaseSeq > MaxSeq || m.HeadSeq != m.BaseSeq || m.Floor != m.BaseSeq {
			return m.invalid(fmt.Sprintf("base at %d, floor %d, head %d", m.BaseSeq, m.Floor, m.HeadSeq))
		}
	case Delete:
		return nil
	default:
		return m.invalid("unknown kind")
	}
	return m.validateDeltas()
}

func (m *Mutation) validateDeltas() error {
	for i := range m.Deltas {
		d := &m.Deltas[i]
		if err := d.Validate(); err != nil {
			return m.invalid(err.Error())
		}
		if i > 0 && d.SeqBegin != m.Deltas[i-1].SeqEnd+1 {
			return m.invalid(fmt.Sprintf("delta %d begins at %d after %d", i, d.SeqBegin, m.Deltas[i-1].SeqEnd))
		}
	}
	if n := len(m.Deltas); n > 0 && m.Deltas[n-1].SeqEnd != m.HeadSeq {
		return m.invalid(fmt.Sprintf("last delta ends at %d, head is %d", m.Deltas[n-1].SeqEnd, m.HeadSeq))
	}
	return nil
}

func (m *Mutation) invalid(reason string) error {
	return &InvalidError{Key: m.Key, Reason: fmt.Sprintf("%s at index %d: %s", m.Kind, m.Index, reason)}
}
