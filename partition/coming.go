package partition

import (
	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// eachComing tells of the commands of an entry that will change documents once it is applied: as little of them as is needed to read
// ahead what that takes. It allocates nothing, and what it tells is true during the call only.
func eachComing(l *raft.Log, tell func(store.Coming)) error {
	entry, err := openCommands(l.Data)
	if err != nil {
		return err
	}
	var c store.Coming
	for entry.left > 0 {
		kind, err := entry.start()
		if err != nil {
			return err
		}
		if evalTerm := entry.r.coming(kind, &c); entry.r.err != nil {
			return entry.r.err
		} else if kind != kindBarrier && evalTerm == l.Term { // else it is fenced
			tell(c)
		}
	}
	return entry.r.end()
}

// coming reads what follows the kind of a command like reader.command, and keeps less.
func (r *reader) coming(kind byte, c *store.Coming) (evalTerm uint64) {
	evalTerm, _ = r.uvarint(), r.uvarint()
	if kind == kindBarrier {
		r.uvarint()
		return evalTerm
	}
	c.Kind = store.Kind(kind)
	c.Space, c.Key = r.bytes(), r.bytes()
	c.Generation = r.uvarint()
	r.varint()
	r.take(len(store.Chain{}) + len(store.Chain{}) + 1)
	r.varint()
	c.Floor = r.varint()
	r.bytes()
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		r.bytes()
	}
	return evalTerm
}

// readTail tells of the commands that the log holds and the documents do not, when a member starts: Raft will have them applied
// as soon as it hears that they are committed. Entries that are gone by then are nobody's any more.
func (p *Partition) readTail(applied uint64) {
	last, err := p.o.Log.LastIndex()
	for i := applied + 1; i <= last && err == nil; i++ {
		select {
		case <-p.closing:
			return
		default:
		}
		var l raft.Log
		if err = p.o.Log.GetLog(i, &l); err == nil && l.Type == raft.LogCommand {
			err = eachComing(&l, p.o.Documents.ReadAhead)
		}
	}
}
