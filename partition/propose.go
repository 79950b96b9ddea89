package partition

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// proposal is one command on its way. done is closed after err is set, under the partition's mu.
type proposal struct {
	key  store.Key
	done chan struct{}
	err  error
}

// pending is what the proposals in flight make of a document. Appends build on each other; any other operation on the
// document waits until it is settled, because its effect depends on an index that is not known yet.
type pending struct {
	head      store.Head
	exclusive bool // a create, replace, compact or delete is in flight, or waits for the appends in flight
	count     int
	settled   chan struct{} // closed when count reaches 0
}

// Do evaluates an operation, proposes it, and returns the head seq after it once it is applied here, which is after a
// majority holds it durably. Errors: *NotServingError (nothing proposed), the typed errors of package store, the context's
// (nothing proposed), and *AmbiguousError (unknown outcome).
func (p *Partition) Do(ctx context.Context, op Operation) (head int64, err error) {
	if err := op.Key.Validate(); err != nil {
		return 0, err
	}
	var seen *sighting
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if seen == nil && p.raft.Load().State() == raft.Leader { // a head that is not in memory is read here, not while others wait for the partition
			if _, _, err := p.o.Documents.Head(op.Key); err != nil {
				return 0, err
			}
		}
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-p.closing:
			return 0, ErrClosed
		}
		a, err := p.propose(&op, seen)
		if a.proposal == nil {
			<-p.slots // nothing in flight
		}
		switch {
		case errors.Is(err, errLook):
			if seen, err = p.look(&op); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case a.wait != nil:
			seen = nil
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

// attempt is what became of an operation: proposed, to be tried again once what is in flight is settled, or (without
// either) in effect already.
type attempt struct {
	head     int64 // after the operation
	proposal *proposal
	wait     <-chan struct{}
}

// sighting is an evaluation that had to look at stored entries. It was made without the partition's lock, because it may
// read the disk, and holds as long as the document's head is still the one it was made for.
type sighting struct {
	head    store.Head
	verdict verdict
	err     error
}

// propose evaluates op against the head, pending writes included, and queues the command. What op has to wait for is in
// flight: an answer must not rest on writes that may yet be lost. Errors: errLook when stored entries have to be looked at.
func (p *Partition) propose(op *Operation, seen *sighting) (attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.standing(time.Now())
	if r := s.serving(); r != Serves {
		return attempt{}, p.notServing(r)
	}
	l := p.lead
	pd := l.pending[op.Key]
	if pd != nil && (pd.exclusive || op.Kind != store.Append) {
		pd.exclusive = true // appends that come later wait too, or this operation might wait for ever
		return attempt{wait: pd.settled}, nil
	}
	doc, err := p.document(op.Key, pd)
	if err != nil {
		return attempt{}, err
	}
	var v verdict
	if seen != nil && pd == nil && doc != nil && doc.head == seen.head {
		v, err = seen.verdict, seen.err
	} else {
		v, err = evaluate(op, doc, p.o.Limits)
	}
	if pd != nil && (err != nil || v.mutation == nil) {
		return attempt{wait: pd.settled}, nil
	}
	if err != nil || v.mutation == nil {
		return attempt{head: v.head}, err
	}
	return attempt{head: v.head, proposal: p.enqueue(l, pd, doc, op, v)}, nil
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
	s.verdict, s.err = evaluate(op, &document{head: view.Head, view: view}, p.o.Limits)
	return s, nil
}

// document is what op builds upon, without sight of its entries; nil when it does not exist.
func (p *Partition) document(key store.Key, pd *pending) (*document, error) {
	if pd != nil {
		return &document{head: pd.head, view: blind{}}, nil
	}
	head, ok, err := p.o.Documents.Head(key)
	if err != nil || !ok {
		return nil, err
	}
	return &document{head: head, view: blind{}}, nil
}

// errLook: an evaluation under the partition's lock needs stored entries.
var errLook = errors.New("stored entries have to be looked at")

// blind is the view of a document under the partition's lock.
type blind struct{}

func (blind) EntryAt(int64) (store.Entry, bool, error) { return store.Entry{}, false, errLook }
func (blind) NewestEnds(int64, int) ([]int64, error)   { return nil, errLook }

// enqueue numbers the command and queues it. The caller holds mu and a slot.
func (p *Partition) enqueue(l *leadership, pd *pending, doc *document, op *Operation, v verdict) *proposal {
	if pd == nil {
		pd = &pending{settled: make(chan struct{})}
		if doc != nil {
			pd.head = doc.head
		}
		l.pending[op.Key] = pd
	}
	pd.count++
	if op.Kind == store.Append {
		pd.head.HeadSeq, pd.head.Chain = v.mutation.HeadSeq, v.mutation.Chain
		for i := range op.Deltas {
			pd.head.Bytes += int64(op.Deltas[i].Size())
		}
		pd.head.Entries += int64(len(op.Deltas))
	} else {
		pd.exclusive = true
	}
	pr := &proposal{key: op.Key, done: make(chan struct{})}
	p.proposals++
	number := p.proposals
	l.waiting[number] = pr
	p.hand(&command{EvalTerm: l.term, Proposal: number, Mutation: *v.mutation})
	return pr
}

// complete is told by the state machine what became of commands: it wakes their proposers.
func (p *Partition) complete(outcomes []outcome) {
	p.awake.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lead
	if l == nil {
		return
	}
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
		if pd := l.pending[pr.key]; pd != nil {
			if pd.count--; pd.count == 0 {
				delete(l.pending, pr.key)
				close(pd.settled)
			}
		}
		var err error
		if o.fenced {
			err = p.notServing(NotLeader) // dropped by every member: it took no effect
		}
		p.finish(pr, err)
	}
	if l.drained != nil && len(l.waiting) == 0 {
		close(l.drained)
		l.drained = nil
	}
}

// finish answers a proposer and frees its slot. The caller holds mu.
func (p *Partition) finish(pr *proposal, err error) {
	pr.err = err
	close(pr.done)
	<-p.slots
}
