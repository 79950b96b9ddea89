package lincheck

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what an operation does.
type Kind uint8

// The kinds. A Read finds all entries of a document, a Tail its newest ones. The last three are refusals, which say what a document
// was like when it was looked at; they change nothing.
const (
	Create Kind = iota
	Append
	Replace
	Delete
	Read
	Tail
	Mismatch // an append that was refused because the document is at Head
	Missing  // something that was refused because there is no document
	Exists   // a creation that was refused because there is one
	end      // after everything else: what has not taken effect by now never will
)

// String is the kind in lower case.
func (k Kind) String() string {
	return [...]string{"create", "append", "replace", "delete", "read", "tail", "mismatch", "missing", "exists", "end"}[k]
}

// Op is one thing a client did to a document, and what it knows of its outcome. What was refused for another reason than what the
// document is like is not among them: it must not have had any effect.
type Op struct {
	Client int
	Kind   Kind
	Seq    int64    // of the first entry; of a tail without entries, that of the next one to come
	IDs    []string // of the entries written, or read from Seq to the head
	Known  bool     // the outcome: it was done, or read. An unknown one took effect after Call, or never
	Found  bool     // of a read
	Head   int64    // of a mismatch: what it says the document's newest seq is
	Call   int64    // when it began, in any unit
	Ret    int64    // when it had ended; ignored unless Known
}

// Result is what a check comes to.
type Result = porcupine.CheckResult

// The results. Unknown means that it took too long.
const (
	Linearizable = porcupine.Ok
	Illegal      = porcupine.Illegal
	Unknown      = porcupine.Unknown
)

// Check looks for an order of one document's operations, which did not exist before them.
func Check(ops []Op, patience time.Duration) Result {
	history := make([]porcupine.Operation, 0, len(ops)+1)
	last := int64(math.MinInt64)
	for _, o := range ops {
		ret := o.Ret
		if !o.Known {
			ret = math.MaxInt64
		}
		last = max(last, o.Call, o.Ret)
		history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: ret})
	}
	history = append(history, porcupine.Operation{ClientId: -1, Input: Op{Kind: end, Known: true}, Call: last + 1, Return: last + 2})
	return porcupine.CheckOperationsTimeout(document, history, patience)
}
