package partition

import (
	"context"
	"errors"

	"github.com/adamantdb/adamant/store"
)

// proposal is one command on its way. done is closed after err is set, under the partition's mu.
type proposal struct {
	key   store.Key
	pd    *pending // of key
	bytes int64    // taken of the budgets
	done  chan struct{}
	err   error
}

// pending is what the proposals in flight make of a document. Appends build on each other; any other operation on the
// document waits until it is settled, because its effect depends on an index that is not known yet.
type pending struct {
	head      store.Head
	exclusive bool // a create, replace, compact or delete is in flight, or waits for the appends in flight
	opaque    bool // one is in flight: head does not tell its effect
	count     int
	entry     uint64        // in which the outbox gathers the newest of them; 0: in none
	settled   chan struct{} // closed when count reaches 0; nil while nobody waits
}

// wait returns what is closed when everything in flight is settled. The caller holds mu.
func (pd *pending) wait() <-chan struct{} {
	if pd.settled == nil {
		pd.settled = make(chan struct{})
	}
	return pd.settled
}

// settle tells who waits that nothing is in flight any more. Either mu is held, or nobody can find pd.
func (pd *pending) settle() {
	if pd.settled != nil {
		close(pd.settled)
	}
}

// Do evaluates an operation, proposes it, and returns the head seq after it once it is applied here, which is after a
// majority holds it durably. Errors: *NotServingError (nothing proposed), the typed errors of package store, the context's
// (nothing proposed), and *AmbiguousError (unknown outcome).
func (p *Partition) Do(ctx context.Context, op Operation) (head int64, err error) {
	if err := op.Key.Validate(); err != nil {
		return 0, err
	}
	var seen sight
	for {
		a, err := p.tryOnce(ctx, &op, &seen)
		switch {
		case errors.Is(err, errRead):
			if _, _, err := p.o.Documents.Head(op.Key); err != nil {
				return 0, err
			}
			seen.read = true
		case errors.Is(err, errLook):
			if seen.entries, err = p.look(&op); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case a.short > 0:
			switch err := p.room(ctx, a.short, a.over); {
			case err == nil:
				seen.room = a.short
			case !errors.Is(err, errOfficeEnded): // else it is looked up who serves
				return 0, err
			}
		case a.wait != nil:
			seen = sight{}
			select {
			case <-a.wait:
			case <-ctx.Done():
				return 0, ctx.Err() // nothing was proposed
			}
		case a.proposal == nil:
			p.alreadyThere.Add(1)
			return a.head, nil
		default:
			select {
			case <-a.proposal.done:
				return a.head, a.proposal.err
			case <-ctx.Done():
				return 0, &AmbiguousError{Partition: p.o.ID, Key: op.Key, Reason: "the caller stopped waiting", Err: ctx.Err()}
			}
		}
	}
}

// tryOnce proposes when there is a slot. What it holds in vain, it gives back: without a proposal nothing is in flight.
func (p *Partition) tryOnce(ctx context.Context, op *Operation, seen *sight) (attempt, error) {
	room := seen.room
	err := ctx.Err()
	if err == nil {
		err = p.slot(ctx)
	}
	if err != nil {
		p.vacate(room)
		return attempt{}, err
	}
	a, err := p.propose(op, *seen)
	if a.proposal == nil {
		<-p.slots
		p.vacate(room)
	}
	seen.room = 0
	return a, err
}

// slot waits until there is room for another proposal in flight, and takes it.
func (p *Partition) slot(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrClosed
	}
}

// attempt is what became of an operation: proposed, to be tried again once what is in flight is settled or there is room for the
// command, or (without any of these) in effect already.
type attempt struct {
	head     int64 // after the operation
	proposal *proposal
	wait     <-chan struct{}
	short    int64           // bytes of the command, for which there was no room
	over     <-chan struct{} // with short: closed when the leadership that was to propose it has ended
}

// sighting is an evaluation that had to look at stored entries. It was made without the partition's lock, because it may
// read the disk, and holds as long as the document's head is still the one it was made for.
type sighting struct {
	head    store.Head
	verdict verdict
	work    worksheet
	err     error
}

// sight is what was looked at, and taken, for an operation before the partition's lock was taken.
type sight struct {
	room    int64     // bytes taken of the budgets; 0: none yet
	read    bool      // the document's head, which should be in memory by now; if it is not, that is not waited for again
	entries *sighting // nil: none
}

// propose evaluates op against the head, pending writes included, and queues the command. What op has to wait for is in
// flight: an answer must not rest on writes that may yet be lost. Errors: errRead and errLook when the document's head, or its stored
// entries, have to be looked at first.
func (p *Partition) propose(op *Operation, seen sight) (attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.standing(p.o.Clock())
	if r := s.serving(); r != Serves {
		return attempt{}, p.notServing(r)
	}
	l := p.lead
	if op.Epoch != 0 && op.Epoch != l.term {
		refused := p.notServing(OtherEpoch)
		refused.Epoch = l.term
		return attempt{}, refused
	}
	pd := l.pending[op.Key]
	if pd != nil && (pd.exclusive || op.Kind != store.Append) {
		pd.exclusive = true // appends that come later wait too, or this operation might wait for ever
		return attempt{wait: pd.wait()}, nil
	}
	doc := &document{}
	there, err := p.document(op.Key, pd, seen.read, doc)
	if !p.o.Documents.Complete() { // a scrub takes away what is damaged: nothing follows from what is not here any more
		return attempt{}, p.notServing(Incomplete)
	}
	if err != nil {
		return attempt{}, err
	}
	if !there {
		doc = nil
	}
	w := &l.work
	var v verdict
	if s := seen.entries; s != nil && pd == nil && there && doc.head == s.head {
		v, w, err = s.verdict, &s.work, s.err
	} else {
		v, err = evaluate(op, doc, p.o.Limits, w)
	}
	if pd != nil && (err != nil || !v.changes) {
		return attempt{wait: pd.wait()}, nil
	}
	if err != nil || !v.changes {
		return attempt{head: v.head}, err
	}
	room := seen.room
	if room == 0 { // only now: who is refused needs none, nor who has nothing to do
		room = int64(sizeHint(&w.mutation))
		if !p.tryRoom(room) {
			l.work.clear() // what was looked at stays, for the next attempt
			return attempt{short: room, over: l.over}, nil
		}
	}
	pr := p.enqueue(l, pd, doc, op, w)
	pr.bytes = room
	w.clear()
	return attempt{head: v.head, proposal: pr}, nil
}

// look evaluates op with sight of the document's entries. The caller does not hold mu.
func (p *Partition) look(op *Operation) (*sighting, error) {
	view, err := p.o.Documents.View(op.Key)
	if errors.As(err, new(*store.NotFoundError)) {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer view.Close()
	s := &sighting{head: view.Head}
	s.verdict, s.err = evaluate(op, &document{head: view.Head, view: view}, p.o.Limits, &s.work)
	return s, nil
}

// document fills in what op builds upon, without sight of its entries, and reports whether it exists. What is not in memory is read
// only if read says that this was tried without the lock before; else the error is errRead.
func (p *Partition) document(key store.Key, pd *pending, read bool, d *document) (bool, error) {
	d.view = blind{}
	if pd != nil {
		d.head = pd.head
		return true, nil
	}
	head, ok, known, err := p.o.Documents.HeadInMemory(key)
	if err == nil && !known {
		if !read {
			return false, errRead
		}
		head, ok, err = p.o.Documents.Head(key)
	}
	d.head = head
	return ok && err == nil, err
}

// errRead and errLook: an evaluation under the partition's lock needs a head that is not in memory, or stored entries.
var (
	errRead = errors.New("the document's head has to be read")
	errLook = errors.New("stored entries have to be looked at")
)

// blind is the view of a document under the partition's lock.
type blind struct{}

func (blind) EntryAt(int64) (store.Entry, bool, error) { return store.Entry{}, false, errLook }
func (blind) NewestEnds(int64, int) ([]int64, error)   { return nil, errLook }

// enqueue numbers the command and queues it. The caller holds mu, a slot, and room in the budgets.
func (p *Partition) enqueue(l *leadership, pd *pending, doc *document, op *Operation, w *worksheet) *proposal {
	var pr *proposal
	if pd == nil {
		first := &struct { // in one piece: mostly there is no other proposal
			proposal
			pending
		}{}
		pr, pd = &first.proposal, &first.pending
		if doc != nil {
			pd.head = doc.head
		}
		l.pending[op.Key] = pd
	} else {
		pr = &proposal{}
	}
	pd.count++
	if op.Kind == store.Append {
		pd.head.HeadSeq, pd.head.Chain = w.mutation.HeadSeq, w.mutation.Chain
		for i := range op.Deltas {
			pd.head.Bytes += int64(op.Deltas[i].Size())
		}
		pd.head.Entries += int64(len(op.Deltas))
	} else {
		pd.exclusive, pd.opaque = true, true
	}
	*pr = proposal{key: op.Key, pd: pd, done: make(chan struct{})}
	p.proposals++
	number := p.proposals
	l.waiting[number] = pr
	pd.entry = p.hand(&command{EvalTerm: l.term, Proposal: number, Mutation: w.mutation}, pd.entry)
	return pr
}

// complete is told by the state machine what became of commands: it wakes their proposers.
func (p *Partition) complete(outcomes []outcome) {
	p.awake.wake()
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lead
	if l == nil {
		return
	}
	answered := 0
	for _, o := range outcomes {
		if o.evalTerm != l.term {
			continue
		}
		if o.barrier {
			l.barriers = max(0, l.barriers-1) // pushed ones are not counted
			if !o.fenced {
				l.barrier = true
				p.wake()
			}
			continue
		}
		pr := l.waiting[o.proposal]
		if pr == nil {
			continue
		}
		delete(l.waiting, o.proposal)
		answered++
		if pr.pd.count--; pr.pd.count == 0 {
			delete(l.pending, pr.key)
			pr.pd.settle()
		}
		var err error
		if o.fenced {
			err = p.notServing(NotLeader) // dropped by every member: it took no effect
		}
		p.finish(pr, err)
	}
	p.outbox.answered(answered)
	if l.drained != nil && len(l.waiting) == 0 {
		close(l.drained)
		l.drained = nil
	}
}

// finish answers a proposer and frees its slot and its room. The caller holds mu.
func (p *Partition) finish(pr *proposal, err error) {
	pr.err = err
	close(pr.done)
	<-p.slots
	p.vacate(pr.bytes)
}
