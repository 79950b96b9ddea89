package partition

import (
	"context"
	"time"

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
	exclusive bool // a create, replace, compact or delete is in flight
	count     int
	settled   chan struct{} // closed when count reaches 0
}

// Do evaluates an operation, proposes it, and returns the head seq after it once it is applied here, which is after a
// majority holds it durably. Errors: *NotServingError (nothing proposed), the typed errors of package store, and
// *AmbiguousError (unknown outcome).
func (p *Partition) Do(ctx context.Context, op Operation) (head int64, err error) {
	if err := op.Key.Validate(); err != nil {
		return 0, err
	}
	for {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-p.closing:
			return 0, ErrClosed
		}
		v, pr, wait, err := p.propose(&op)
		if pr == nil {
			<-p.slots // nothing in flight
		}
		switch {
		case err != nil:
			return 0, err
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
				return 0, ctx.Err() // nothing was proposed
			}
		case pr == nil:
			p.alreadyThere.Add(1)
			return v.head, nil
		default:
			select {
			case <-pr.done:
				return v.head, pr.err
			case <-ctx.Done():
				return 0, &AmbiguousError{Partition: p.o.ID, Key: op.Key, Reason: "the caller stopped waiting", Err: ctx.Err()}
			}
		}
	}
}

// propose evaluates op against the head, pending writes included, and queues the command. It returns a channel instead
// when op has to wait for what is in flight: an answer must not rest on writes that may yet be lost.
func (p *Partition) propose(op *Operation) (verdict, *proposal, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.standing(time.Now())
	if r := s.serving(); r != Serves {
		return verdict{}, nil, nil, p.notServing(r)
	}
	l := p.lead
	pd := l.pending[op.Key]
	if pd != nil && (pd.exclusive || op.Kind != store.Append) {
		return verdict{}, nil, pd.settled, nil
	}
	doc, err := p.document(op.Key, pd)
	if err != nil {
		return verdict{}, nil, nil, err
	}
	v, err := evaluate(op, doc, p.o.Limits)
	if doc != nil {
		doc.view.(*lazyView).close()
	}
	if pd != nil && (err != nil || v.mutation == nil) {
		return verdict{}, nil, pd.settled, nil
	}
	if err != nil || v.mutation == nil {
		return v, nil, nil, err
	}
	return v, p.enqueue(l, pd, doc, op, v), nil, nil
}

// document is what op builds upon; nil when it does not exist.
func (p *Partition) document(key store.Key, pd *pending) (*document, error) {
	if pd != nil {
		return &document{head: pd.head, view: &lazyView{docs: p.o.Documents, key: key}}, nil
	}
	head, ok, err := p.o.Documents.Head(key)
	if err != nil || !ok {
		return nil, err
	}
	return &document{head: head, view: &lazyView{docs: p.o.Documents, key: key}}, nil
}

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
	c := command{EvalTerm: l.term, Proposal: number, Mutation: *v.mutation}
	l.queue <- c.encode()
	return pr
}

// complete is told by the state machine what became of commands: it wakes their proposers.
func (p *Partition) complete(outcomes []outcome) {
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

// lazyView opens a view of a document when evaluation first looks at an entry; most operations never do.
type lazyView struct {
	docs Documents
	key  store.Key
	view *store.View
}

func (v *lazyView) open() (*store.View, error) {
	if v.view == nil {
		view, err := v.docs.View(v.key)
		if err != nil {
			return nil, err
		}
		v.view = view
	}
	return v.view, nil
}

func (v *lazyView) close() {
	if v.view != nil {
		v.view.Close()
	}
}

// EntryAt implements entryView.
func (v *lazyView) EntryAt(seqEnd int64) (store.Entry, bool, error) {
	view, err := v.open()
	if err != nil {
		return store.Entry{}, false, err
	}
	return view.EntryAt(seqEnd)
}

// NewestEnds implements entryView.
func (v *lazyView) NewestEnds(seq int64, n int) ([]int64, error) {
	view, err := v.open()
	if err != nil {
		return nil, err
	}
	return view.NewestEnds(seq, n)
}
