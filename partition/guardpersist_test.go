package partition

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestReturnedFollowerIsReachedAtOnce: a follower that was away for a while is a member of the next majority as soon as it is back, whether
// somebody wrote meanwhile or not. Raft would leave it alone for ten seconds, from when it is next needed on.
func TestReturnedFollowerIsReachedAtOnce(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"while others write": 0, "after a long rest": 10 * time.Minute} {
		for name2, cut := range map[string]func(h *hosts, l, f *node){
			"both ways":               func(h *hosts, l, f *node) { h.sever(l, f); h.sever(f, l) },
			"what the follower sends": func(h *hosts, l, f *node) { h.sever(f, l) },
		} {
			t.Run(name+", "+name2, simulated(func(t *testing.T) {
				g, h := newLiveGroup(t, 3, steady, nil)
				l := g.serving()
				must(t, l.create("a"))
				g.applied("a", 1)
				f := g.other(l)
				cut(h, l, f)
				seq := int64(1)
				for range 114 { // Raft would ask a second or so ago, and then nine seconds from now
					time.Sleep(time.Second)
					seq++
					_, err := l.append("a", seq, "{}")
					must(t, err)
				}
				time.Sleep(quiet) // nothing is under way any more
				h.heal()
				time.Sleep(quiet + 3*mostRetry/2)
				h.isolate(g, g.other(l, f))
				began := time.Now()
				_, err := l.append("a", seq+1, "{}")
				must(t, err)
				if took := time.Since(began); took > steady {
					t.Errorf("a majority with the follower that is back takes %s", took)
				}
			}))
		}
	}
}

// askedTransport is one that records requests and fails the first of them.
type askedTransport struct {
	Transport
	fail int

	mu      sync.Mutex
	appends []raft.AppendEntriesRequest
	markers [][]byte
}

var errAway = errors.New("away")

func (a *askedTransport) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.appends) + len(a.markers)
}

func (a *askedTransport) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.appends = append(a.appends, *args)
	if len(a.appends) <= a.fail {
		return errAway
	}
	*resp = raft.AppendEntriesResponse{Term: args.Term, Success: true, LastLog: args.PrevLogEntry}
	return nil
}

func (a *askedTransport) InstallSnapshot(_ raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	b, err := io.ReadAll(data)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.markers = append(a.markers, b)
	if err != nil || len(a.markers) <= a.fail {
		return errAway
	}
	*resp = raft.InstallSnapshotResponse{Term: args.Term, Success: true}
	return nil
}

// persistent is a leader's guard in front of a transport that fails some times.
func persistent(fail int, replicates func() bool) (*guard, *askedTransport) {
	a := &askedTransport{fail: fail}
	return &guard{inner: a, now: time.Now, log: &watchedLog{}, stuck: func(time.Time) bool { return false },
		replicates: func(raft.ServerID, uint64) bool { return replicates() }, stop: make(chan struct{})}, a
}

func entries(first, n uint64) (list []*raft.Log) {
	for i := range n {
		list = append(list, &raft.Log{Index: first + i, Term: 3})
	}
	return list
}

// TestWhatIsAskedMeanwhile: a request that is repeated carries no entries, and tells nothing committed but what it shows: Raft would commit
// whatever its log holds in that place. Its answer makes Raft send the entries.
func TestWhatIsAskedMeanwhile(t *testing.T) { synctest.Test(t, testWhatIsAskedMeanwhile) }

func testWhatIsAskedMeanwhile(t *testing.T) {
	g, a := persistent(20, func() bool { return true })
	req := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 10, PrevLogTerm: 2, LeaderCommitIndex: 14, Entries: entries(11, 5)}
	resp := new(raft.AppendEntriesResponse)
	began := time.Now()
	must(t, g.AppendEntries("f", "f", req, resp))
	if len(a.appends) != 21 || !resp.Success || len(req.Entries) > 0 {
		t.Fatalf("%d requests, %+v, the last with %d entries", len(a.appends), resp, len(req.Entries))
	}
	if took, most := time.Since(began), 20*mostRetry; took > most || took < most/2 {
		t.Errorf("20 attempts took %s", took)
	}
	for i, sent := range a.appends {
		if i > 0 && (len(sent.Entries) > 0 || sent.LeaderCommitIndex > sent.PrevLogEntry || sent.PrevLogEntry != 10 || sent.PrevLogTerm != 2) {
			t.Errorf("attempt %d: %+v", i, sent)
		}
	}
}

// TestWhoAnswersLateIsNotAway: Raft's own patience is for those who are there.
func TestWhoAnswersLateIsNotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := persistent(1, func() bool { return true })
		req := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 10, PrevLogTerm: 2, Entries: entries(11, 5)}
		if err := g.AppendEntries("f", "f", req, new(raft.AppendEntriesResponse)); !errors.Is(err, errAway) || len(a.appends) != 2 {
			t.Errorf("%v after %d requests", err, len(a.appends))
		}
	})
}

// TestMarkersAreSentUntilTheyArrive, whole each time.
func TestMarkersAreSentUntilTheyArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := persistent(3, func() bool { return true })
		must(t, g.InstallSnapshot("f", "f", &raft.InstallSnapshotRequest{Term: 3}, new(raft.InstallSnapshotResponse), bytes.NewReader([]byte("marker"))))
		if len(a.markers) != 4 || string(a.markers[3]) != "marker" {
			t.Errorf("%q", a.markers)
		}
		long := make([]byte, maxMarkerBytes+1)
		if err := g.InstallSnapshot("f", "f", &raft.InstallSnapshotRequest{Term: 3}, nil, bytes.NewReader(long)); err == nil || len(a.markers) != 4 {
			t.Errorf("a marker of %d bytes: %v", len(long), err)
		}
	})
}

// TestNobodyIsAskedForNothing: attempts end when Raft has no use for an answer, with a leader that is muted, and with the member.
func TestNobodyIsAskedForNothing(t *testing.T) {
	for name, end := range map[string]func(g *guard, leads *atomic.Bool){
		"the leadership": func(_ *guard, leads *atomic.Bool) { leads.Store(false) },
		"muted":          func(g *guard, _ *atomic.Bool) { g.mute(3) },
		"failed":         func(g *guard, _ *atomic.Bool) { g.dead.Store(true) },
		"closed":         func(g *guard, _ *atomic.Bool) { close(g.stop) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var leads atomic.Bool
				leads.Store(true)
				g, a := persistent(1<<30, leads.Load)
				done := make(chan error, 2)
				go func() {
					done <- g.AppendEntries("f", "f", &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 10, PrevLogTerm: 2}, new(raft.AppendEntriesResponse))
				}()
				go func() {
					done <- g.InstallSnapshot("f", "f", &raft.InstallSnapshotRequest{Term: 3}, new(raft.InstallSnapshotResponse), bytes.NewReader(nil))
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				end(g, &leads)
				before := a.count()
				for range 2 {
					if err := <-done; !errors.Is(err, errAway) {
						t.Error(err)
					}
				}
				if after := a.count(); after > before {
					t.Errorf("%d more requests", after-before)
				}
			})
		})
	}
}

// persisting is how many goroutines of this process ask a follower again and again.
func persisting() int {
	b := make([]byte, 4<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "partition.(*guard).persist(")
}

// TestAttemptsEndWithTheOffice: members do not ask those who were removed, nor in the name of a leader that is none any more.
func TestAttemptsEndWithTheOffice(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, g *group, l, f *node){
		"removed": func(t *testing.T, _ *group, l, f *node) {
			must(t, l.part.raft.Load().RemoveServer(f.id, 0, time.Second).Error())
		},
		"deposed": func(t *testing.T, g *group, l, f *node) {
			g.isolate(l)
			must(t, g.other(l, f).part.Close())
			must(t, f.part.Close())
		},
	} {
		t.Run(name, simulated(func(t *testing.T) {
			g := newGroup(t, 3, nil)
			l := g.serving()
			must(t, l.create("a"))
			f := g.other(l)
			g.isolate(f)
			must(t, l.create("b"))
			g.wait("attempts", func() bool { return persisting() > 0 })
			end(t, g, l, f)
			time.Sleep(5 * time.Second)
			if n := persisting(); n > 0 {
				t.Errorf("%d goroutines go on", n)
			}
		}))
	}
}

// cuttingTransport sends no more than two entries at once, and none of them once it has sent as many requests as it may.
type cuttingTransport struct {
	Transport
	may map[raft.ServerID]*atomic.Int32
}

func (c *cuttingTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if len(args.Entries) > 0 {
		if c.may[id].Add(-1) < 0 {
			return errAway
		}
		args.Entries = args.Entries[:min(2, len(args.Entries))]
	}
	return c.Transport.AppendEntries(id, to, args, resp)
}

func (c *cuttingTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// TestWhatIsNotSentIsNotStored: entries that a transport leaves for the next request are not counted as those that the follower has, or a
// leader commits what nobody else holds.
func TestWhatIsNotSentIsNotStored(t *testing.T) {
	simulated(func(t *testing.T) {
		may := map[raft.ServerID]*atomic.Int32{}
		g, _ := newLiveGroup(t, 3, steady, func(o *Options) {
			may[o.Self] = new(atomic.Int32)
			may[o.Self].Store(1 << 30)
			o.Transport = &cuttingTransport{o.Transport, may}
		})
		l := g.serving()
		must(t, l.create("a"))
		g.applied("a", 1)
		f := g.other(l)
		before, err := f.log.LastIndex()
		must(t, err)
		for _, left := range may {
			left.Store(0)
		}
		const entries = 10
		r, term := l.part.raft.Load(), l.part.raft.Load().CurrentTerm()
		for range entries {
			l.part.another(term)
		}
		g.wait("the entries at the leader", func() bool { return r.LastIndex() == before+entries })
		may[f.id].Store(1)
		g.wait("two of them at a follower", func() bool { last, err := f.log.LastIndex(); return err == nil && last == before+2 })
		g.wait("what both have", func() bool { return r.CommitIndex() >= before+2 })
		synctest.Wait()
		if c := r.CommitIndex(); c != before+2 {
			t.Errorf("committed up to %d, though nobody else has more than %d", c, before+2)
		}
		if match, ok := l.part.guard.match(f.id, term); !ok || match != before+2 {
			t.Errorf("the follower counts as one with all up to %d (%v), and has %d", match, ok, before+2)
		}
		for _, left := range may {
			left.Store(1 << 30)
		}
		g.wait("all of them", func() bool { return r.CommitIndex() >= before+entries })
	})(t)
}
