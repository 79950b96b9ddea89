package partition

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/adamantdb/adamant/store"
)

// heldWrites has the leader's disk stand still with one append under way and others behind it, and returns what comes of them.
func heldWrites(t *testing.T, g *gatedGroup, l *node, n int) (before uint64, results chan error, release func()) {
	t.Helper()
	for i := range n {
		must(t, l.create(fmt.Sprint("doc", i)))
	}
	g.wait("the log to be durable", func() bool { return !l.part.log.landing() })
	r := l.part.raft.Load()
	before = r.LastIndex()
	release = g.hold(l)
	results = make(chan error, n)
	write := func(i int) {
		go func() { _, err := l.append(fmt.Sprint("doc", i), 2, `{"x":1}`); results <- err }()
	}
	write(0)
	g.wait("the first entry", func() bool { return r.LastIndex() == before+1 && l.part.log.landing() })
	for i := 1; i < n; i++ {
		write(i)
	}
	g.wait("the others to be proposed", func() bool { return l.part.outbox.inHold() == n-1 })
	if got := r.LastIndex(); got != before+1 {
		t.Fatalf("Raft was given %d entries while the disk stood still", got-before)
	}
	return before, results, release
}

func (o *outbox) inHold() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}

// TestOutboxWaitsForTheDisk: what comes while the leader's disk works goes to Raft when it is done, all of it in one entry.
func TestOutboxWaitsForTheDisk(t *testing.T) { synctest.Test(t, testOutboxWaitsForTheDisk) }

func testOutboxWaitsForTheDisk(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	const n = 20
	before, results, release := heldWrites(t, g, l, n)
	release()
	for range n {
		must(t, <-results)
	}
	for i := range n {
		if h := l.head(fmt.Sprint("doc", i)); h != 2 {
			t.Errorf("doc%d: head %d", i, h)
		}
	}
	if got := l.part.raft.Load().LastIndex(); got != before+2 {
		t.Errorf("%d entries for %d writes", got-before, n)
	}
	if got := l.part.Status().Commands; got < 2*n {
		t.Errorf("%d commands are counted of %d", got, 2*n)
	}
}

// TestOutboxKeepsADocumentsCommandsApart: what is stored of a document says which command it is of by the index alone.
func TestOutboxKeepsADocumentsCommandsApart(t *testing.T) {
	synctest.Test(t, testOutboxKeepsADocumentsCommandsApart)
}

func testOutboxKeepsADocumentsCommandsApart(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	before, results, release := heldWrites(t, g, l, 3)
	for seq := int64(3); seq < 6; seq++ {
		waiting := l.part.outbox.inHold()
		go func() { _, err := l.append("doc1", seq, `{"x":1}`); results <- err }()
		g.wait("it to be proposed", func() bool { return l.part.outbox.inHold() == waiting+1 })
	}
	release()
	for range 6 {
		must(t, <-results)
	}
	if got := l.part.raft.Load().LastIndex(); got != before+5 {
		t.Errorf("%d entries", got-before)
	}
	view, err := l.docs.View(key("doc1"))
	must(t, err)
	defer view.Close()
	last := uint64(0)
	for e, err := range view.Entries(-1) {
		must(t, err)
		if e.Index <= last {
			t.Errorf("seq %d has the index %d, the one before %d", e.SeqEnd, e.Index, last)
		}
		last = e.Index
	}
}

// landing reports whether staged entries are on their way to the disk.
func (l *watchedLog) landing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights) > 0
}

// TestOutboxKeepsTheOrder: appends to one document build on each other before any is applied, so commands reach Raft as they
// were put, also while what was held is being handed over.
func TestOutboxKeepsTheOrder(t *testing.T) {
	applied, more := make(chan string), make(chan struct{})
	put := func(o *outbox, space string) {
		o.put(&command{Mutation: store.Mutation{Kind: store.Delete, Key: store.Key{Space: space, Key: "k"}}}, 0)
	}
	o := outbox{apply: func(entry []byte) { <-more; applied <- spaces(t, entry) }}
	go put(&o, "aaa")
	more <- struct{}{}
	got := <-applied
	put(&o, "bbb")
	put(&o, "ccc")
	o.answered(1)
	more <- struct{}{}
	put(&o, "ddd") // while the run is being handed over
	put(&o, "eee")
	got += " " + <-applied
	o.answered(1) // of two
	if n := o.inHold(); n != 2 {
		t.Errorf("%d commands wait for a run that is not answered yet", n)
	}
	o.answered(1)
	more <- struct{}{}
	if got += " " + <-applied; got != "aaa bbbccc dddeee" {
		t.Errorf("Raft was given %s", got)
	}
	o.running.Wait()
	o.answered(2)
	if o.close(); o.releasing || o.inHold() > 0 || o.unanswered > 0 {
		t.Errorf("it goes on: %+v", &o)
	}
}

// TestOutboxHoldsNoMoreThanEnough: what makes a run of its own does not wait for the one under way.
func TestOutboxHoldsNoMoreThanEnough(t *testing.T) {
	given := 0
	o := outbox{apply: func(entry []byte) { given += len(spaces(t, entry)) / 3 }}
	put := func(n int) {
		for range n {
			o.put(&command{Mutation: store.Mutation{Kind: store.Delete, Key: store.Key{Space: "sss", Key: "k"}}}, 0)
		}
		o.running.Wait()
	}
	put(enough) // of which the first goes at once
	if given != 1 || o.inHold() != enough-1 {
		t.Errorf("Raft was given %d commands, %d are held", given, o.inHold())
	}
	put(1)
	if given != enough+1 || o.inHold() != 0 {
		t.Errorf("Raft was given %d commands, %d are held", given, o.inHold())
	}
	put(1)
	o.answered(enough) // of one more
	o.running.Wait()
	if given != enough+1 {
		t.Error("a command was given before all of the runs were answered")
	}
	o.answered(1)
	o.running.Wait()
	if given != enough+2 || o.unanswered != 1 {
		t.Errorf("Raft was given %d commands, %d are not answered", given, o.unanswered)
	}
	o.close()
}

// TestOutboxLetsBarriersPass: a request that was lost is repeated along with the next entry only, and commands behind it are not it.
func TestOutboxLetsBarriersPass(t *testing.T) {
	var applied []bool
	o := outbox{apply: func(entry []byte) {
		_, barrier, err := barrierIn(entry)
		must(t, err)
		applied = append(applied, barrier)
	}}
	write := &command{Mutation: store.Mutation{Kind: store.Delete, Key: store.Key{Space: "space", Key: "k"}}}
	for _, c := range []*command{write, write, {Barrier: true, Founding: 1}} {
		o.put(c, 0)
	}
	if !slices.Equal(applied, []bool{false, true}) || o.inHold() != 1 {
		t.Errorf("Raft was given barriers %v, %d commands wait", applied, o.inHold())
	}
	o.drop()
	o.put(write, 0) // of another leadership
	if len(applied) != 3 {
		t.Error("a command waits for those of a leadership that is over")
	}
	o.close()
}

// spaces are those of the commands of an entry.
func spaces(t *testing.T, entry []byte) (all string) {
	s, err := openCommands(entry)
	must(t, err)
	for {
		var c command
		more, err := s.next(&c, new([]store.Delta))
		must(t, err)
		if !more {
			return all
		}
		all += c.Mutation.Key.Space
	}
}

// TestOutboxForgetsWithTheLeadership: what Raft was not given when a leadership ended never happens.
func TestOutboxForgetsWithTheLeadership(t *testing.T) {
	synctest.Test(t, testOutboxForgetsWithTheLeadership)
}

func testOutboxForgetsWithTheLeadership(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	const n = 5
	before, results, release := heldWrites(t, g, l, n)
	l.part.ended("the test says so")
	for range n {
		if err := <-results; !errors.As(err, new(*AmbiguousError)) {
			t.Fatalf("got %v", err)
		}
	}
	release()
	// Raft counts what it has handed over as applied; the documents have it a moment later.
	g.wait("the append that Raft was given", func() bool {
		return l.part.raft.Load().AppliedIndex() > before && !l.part.log.landing() && l.head("doc0") == 2
	})
	if n := l.part.outbox.inHold(); n != 0 {
		t.Errorf("%d commands are held", n)
	}
	for i := 1; i < n; i++ {
		if h := l.head(fmt.Sprint("doc", i)); h != 1 {
			t.Errorf("doc%d: head %d, of a leadership that is over", i, h)
		}
	}
}

// TestOutboxTakesLittleMoreThanItHolds: a large command leaves nothing behind for those that follow, and a document whose commands can
// not share entries does not take the room of those that could.
func TestOutboxTakesLittleMoreThanItHolds(t *testing.T) {
	o := outbox{apply: func([]byte) {}}
	small := command{Mutation: store.Mutation{Kind: store.Append, Key: store.Key{Space: "space", Key: "k"}}}
	large := small
	for _, size := range []int{maxTogether - 1000, 64 * maxTogether} {
		large.Mutation.Base = make([]byte, size)
		o.put(&small, 0)
		o.put(&large, 0)
		o.answered(1)
		o.running.Wait()
		taken, after := 0, uint64(0)
		const held = enough - 1
		for range held {
			after = o.put(&small, after)
		}
		for i := range o.held {
			taken += cap(o.held[i].b)
		}
		if most := 2*maxTogether + held*1024; taken > most {
			t.Errorf("after an entry of %d bytes: %d bytes for %d commands of %d", size, taken, held, small.sizeHint())
		}
		if len(o.held) != held {
			t.Errorf("%d entries are held, want one for each command of a document", len(o.held))
		}
		o.drop()
	}
}
