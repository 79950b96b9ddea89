package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/store"
)

// anyCommands are commands of all kinds.
func anyCommands(r *rand.Rand, n int) []command {
	var list []command
	for i := range n {
		m := store.Mutation{Kind: store.Kind(1 + r.IntN(5)), Key: key(fmt.Sprint("doc", i)), Generation: r.Uint64N(1000), HeadSeq: r.Int64(),
			BaseSeq: r.Int64(), Floor: r.Int64(), Dropped: r.IntN(2) == 0, Base: make([]byte, r.IntN(100))}
		for seq := range r.Int64N(4) {
			m.Deltas = append(m.Deltas, delta(1+seq, `{"x":1}`))
		}
		list = append(list, command{EvalTerm: 1 + r.Uint64N(2), Proposal: r.Uint64(), Mutation: m})
	}
	return list
}

// entryOf is an entry of several commands, or of one.
func entryOf(commands []command) []byte {
	var t together
	for i := range commands {
		t.add(&commands[i], 0)
	}
	return t.entry()
}

func heard(l *raft.Log) (list []string, err error) {
	err = eachComing(l, func(c store.Coming) {
		list = append(list, fmt.Sprintf("%d %s/%s %d %d", c.Kind, c.Space, c.Key, c.Generation, c.Floor))
	})
	return list, err
}

// TestEachComing: what is told of the commands of an entry is what they are once they are decoded, without those that are fenced.
func TestEachComing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		commands := anyCommands(r, 1+r.IntN(5))
		var want []string
		for _, c := range commands {
			if m := &c.Mutation; c.EvalTerm == 2 {
				want = append(want, fmt.Sprintf("%d %s %d %d", m.Kind, m.Key, m.Generation, m.Floor))
			}
		}
		l := &raft.Log{Term: 2, Data: entryOf(commands)}
		if got, err := heard(l); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
		short := *l
		short.Data = l.Data[:r.IntN(len(l.Data))]
		if _, err := heard(&short); err == nil {
			t.Fatalf("%d of %d bytes are taken for an entry", len(short.Data), len(l.Data))
		}
	}
	barrier := command{EvalTerm: 2, Barrier: true, Founding: 7}
	if got, err := heard(&raft.Log{Term: 2, Data: barrier.encode()}); err != nil || len(got) > 0 {
		t.Errorf("of a barrier: %v, %v", got, err)
	}
	l := &raft.Log{Term: 2, Data: entryOf(anyCommands(r, 20))}
	if n := testing.AllocsPerRun(100, func() { _ = eachComing(l, func(store.Coming) {}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEachComing(b *testing.B) {
	engine, err := store.OpenDocs(store.DocOptions{Dir: b.TempDir(), Cluster: "test", Host: "h", Incarnation: "1"})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	docs, err := engine.Member(0, store.FullRange())
	if err != nil {
		b.Fatal(err)
	}
	var commands []command
	for i := range 100 {
		k := key(fmt.Sprint("doc", i))
		if _, _, err := docs.Head(k); err != nil { // it is not there, and that is in memory
			b.Fatal(err)
		}
		commands = append(commands, command{EvalTerm: 2, Proposal: uint64(i), Mutation: store.Mutation{Kind: store.Append, Key: k, Deltas: []store.Delta{delta(1, `{"x":1}`)}}})
	}
	l := &raft.Log{Term: 2, Data: entryOf(commands)}
	tell := docs.ReadAhead
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := eachComing(l, tell); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(commands)), "ns/command")
}

// TestFollowerReadsAhead: a follower has in memory what it will need before it may apply an entry, and then reads nothing.
func TestFollowerReadsAhead(t *testing.T) { synctest.Test(t, testFollowerReadsAhead) }

func testFollowerReadsAhead(t *testing.T) {
	g := newGatedGroup(t)
	l := g.serving()
	must(t, l.create("a"))
	f := g.other(l)
	g.wait("the follower to apply", func() bool { return f.head("a") == 1 })
	must(t, f.docs.Flush())
	f.engine.Shed(0, func(store.Key) bool { return true })
	inMemory := func(k string) bool {
		_, _, known, err := f.docs.HeadInMemory(key(k))
		must(t, err)
		return known
	}
	if inMemory("a") || inMemory("b") {
		t.Fatal("nothing is to be read")
	}
	late := f.engine.Metrics().LateReads
	release := g.hold(f)
	_, err := l.append("a", 2, `{"x":1}`) // with the other one
	must(t, err)
	must(t, l.create("b"))
	g.wait("the follower to read", func() bool { return inMemory("a") && inMemory("b") })
	if f.head("a") != 1 {
		t.Fatal("it has applied the entry")
	}
	release()
	g.wait("the follower to apply the rest", func() bool { return f.head("a") == 2 && f.head("b") == 1 })
	if n := f.engine.Metrics().LateReads - late; n > 0 {
		t.Errorf("%d reads while it applied", n)
	}
}

// listeningDocs notes what they are told to read ahead.
type listeningDocs struct {
	Documents
	told []string
}

func (d *listeningDocs) ReadAhead(c store.Coming) { d.told = append(d.told, string(c.Key)) }

// TestTailIsReadAhead: a member that starts reads ahead for what its log holds and its documents do not.
func TestTailIsReadAhead(t *testing.T) {
	log := newMemLog()
	for i := range uint64(6) {
		e := &raft.Log{Index: i + 1, Term: 1, Type: raft.LogConfiguration}
		if i > 0 {
			c := command{EvalTerm: 1, Mutation: store.Mutation{Kind: store.Append, Key: key(fmt.Sprint("doc", i+1))}}
			e.Type, e.Data = raft.LogCommand, c.encode()
		}
		must(t, log.StoreLog(e))
	}
	docs := &listeningDocs{}
	p := &Partition{o: Options{Log: log, Documents: docs}, closing: make(chan struct{})}
	p.readTail(3)
	if want := []string{"doc4", "doc5", "doc6"}; !slices.Equal(docs.told, want) {
		t.Errorf("told %v, want %v", docs.told, want)
	}
	docs.told = nil
	p.readTail(0)
	if len(docs.told) != 5 {
		t.Errorf("told %v of all", docs.told)
	}
	close(p.closing)
	docs.told = nil
	if p.readTail(3); len(docs.told) > 0 {
		t.Errorf("told %v after it was closed", docs.told)
	}
}
