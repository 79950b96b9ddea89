package adamant

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamantdb/adamant/mesh"
	"github.com/adamantdb/adamant/partition"
)

type notedFor struct {
	id uint32
	n  partition.Note
}

func readNotes(body []byte) (out []notedFor, err error) {
	err = eachNote(body, func(id uint32, n partition.Note) { out = append(out, notedFor{id, n}) })
	return out, err
}

func TestNotesRoundTrip(t *testing.T) {
	for _, want := range [][]notedFor{
		{{0, partition.Note{}}},
		{{1, partition.Note{Term: 2, Index: 3, IndexTerm: 1}}},
		{{math.MaxUint32, partition.Note{Term: math.MaxUint64, Index: math.MaxUint64, IndexTerm: math.MaxUint64}}, {7, partition.Note{Term: 1, Index: 128, IndexTerm: 1}}, {7, partition.Note{Term: 2}}},
	} {
		var b []byte
		for _, n := range want {
			b = appendNote(b, n.id, n.n)
		}
		if b[0] != callNotes {
			t.Fatalf("the first byte is %d", b[0])
		}
		got, err := readNotes(b[1:])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
		if _, err := readNotes(b[1 : len(b)-1]); err == nil {
			t.Errorf("%+v was read without its last byte", want)
		}
	}
	if got, err := readNotes(nil); err != nil || got != nil {
		t.Errorf("nothing became %+v, %v", got, err)
	}
}

func TestGarbageIsNoNote(t *testing.T) {
	for name, body := range map[string][]byte{
		"truncated":           {1, 2, 3},
		"partition too large": {0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 1},
		"varint too long":     append(bytes.Repeat([]byte{0xff}, 10), 1, 1, 1),
		"no end":              {0x80},
	} {
		if got, err := readNotes(body); err == nil || len(got) > 0 {
			t.Errorf("%s: read as %+v, %v", name, got, err)
		}
	}
}

func FuzzEachNote(f *testing.F) {
	f.Add(appendNote(appendNote(nil, 3, partition.Note{Term: 1, Index: 2, IndexTerm: 1}), 4, partition.Note{})[1:])
	f.Add([]byte{})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := readNotes(body)
		if len(got) > len(body)/4 {
			t.Fatalf("%d notes in %d bytes", len(got), len(body))
		}
		if err != nil || len(got) == 0 {
			return
		}
		var b []byte
		for _, n := range got {
			b = appendNote(b, n.id, n.n)
		}
		if again, err := readNotes(b[1:]); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

// leaders says who leads each partition, an error as long as one is not served by its preferred host, if it has one.
func (c *testCluster) leaders(prefer bool) (map[uint32]Location, error) {
	out := map[uint32]Location{}
	for name, h := range c.live() {
		for _, p := range h.Status().Partitions {
			if p.Serving && p.Role == RoleLeader {
				out[p.ID] = Location{Partition: p.ID, Leader: name, Epoch: p.Term}
			}
		}
	}
	for _, p := range c.config.Partitions {
		switch l, ok := out[p.ID]; {
		case !ok:
			return nil, fmt.Errorf("partition %d is not served", p.ID)
		case prefer && p.Prefer != "" && l.Leader != p.Prefer:
			return nil, fmt.Errorf("partition %d is served by %s, not by %s", p.ID, l.Leader, p.Prefer)
		}
	}
	return out, nil
}

// frameCount counts what hosts send: requests, and the answers to those of others.
type frameCount struct {
	mu  sync.Mutex
	out map[string]int
}

func (c *frameCount) add(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[from]++
	c.out[to]++
}

func (c *frameCount) sent() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.out)
}

// countedNet is a host's network of which each request is counted.
type countedNet struct {
	mesh.Network
	count *frameCount
}

func (n countedNet) Start(to mesh.Target, r mesh.Request) *mesh.Pending {
	n.count.add(n.Self().Host, to.Host)
	return n.Network.Start(to, r)
}

func (n countedNet) Call(ctx context.Context, to mesh.Target, r mesh.Request) ([]byte, error) {
	n.count.add(n.Self().Host, to.Host)
	return n.Network.Call(ctx, to, r)
}

// TestQuietHostsExchangeBeatsOnly: what hosts say to each other while nobody writes does not grow with the number of
// partitions, and no leadership changes; once a host dies its partitions are served by others long before Raft by itself
// would miss it.
func TestQuietHostsExchangeBeatsOnly(t *testing.T) { synctest.Test(t, testQuietHostsExchangeBeatsOnly) }

func testQuietHostsExchangeBeatsOnly(t *testing.T) {
	const heartbeat = 400 * time.Millisecond
	count := &frameCount{out: map[string]int{}}
	c := newSimCluster(t, 3, 48, 3, func(o *Options) {
		o.Timing.Heartbeat, o.Timing.AntiEntropy = heartbeat, time.Hour
		connect := o.Network
		o.Network = func(id mesh.Identity) mesh.Network { return countedNet{connect(id), count} }
	})
	c.ready()
	var before map[uint32]Location
	c.wait("the preferred leaders", func() (err error) { before, err = c.leaders(true); return err })
	c.healthy()
	// A window of ten heartbeats. Two peers, to each of them three beats and as many answers in a heartbeat, and a report, its
	// answer and others' now and then: less than one frame for each partition.
	const beats = 10
	from := count.sent()
	time.Sleep(beats * heartbeat)
	for name, now := range count.sent() {
		if n := float64(now-from[name]) / beats; n > 30 || n < 6 {
			t.Errorf("%s sent %.1f frames in a heartbeat", name, n)
		} else {
			t.Logf("%s sent %.1f frames in a heartbeat", name, n)
		}
	}
	after, err := c.leaders(true)
	if err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("leaderships moved in a quiet cluster: %v\n%+v\n%+v", err, before, after)
	}
	var victim string
	for _, l := range before {
		victim = l.Leader
	}
	began := time.Now()
	c.kill(victim)
	c.wait("others to serve", func() error { _, err := c.leaders(false); return err })
	took := time.Since(began)
	if took > 8*heartbeat { // Raft's own timers would take 10 to 20
		t.Errorf("it took %s to replace a dead host", took)
	}
	t.Logf("%s after %s died all partitions were served", took, victim)
}

func TestRousedMembersAreListedOnce(t *testing.T) {
	var r roused
	a, b := &member{id: 1}, &member{id: 2}
	r.add(a)
	r.add(b)
	r.add(a)
	list := r.join(nil)
	r.add(b) // it turned awake between two looks: it is watched already
	if list = r.join(list); len(list) != 2 || list[0] != a || list[1] != b || !a.watched || !b.watched {
		t.Fatalf("%v", list)
	}
	b.watched = false // and asleep
	r.add(b)
	if list = r.join(list[:1]); len(list) != 2 || list[1] != b {
		t.Fatalf("roused again: %v", list)
	}
}

// A member that a step found settled is left out until something happens that may change that.
func TestSettledMembersRestUntilThereIsNews(t *testing.T) {
	m := &member{}
	m.rest.Store(7 + 1)
	for _, c := range []struct {
		look    stewardLook
		unrests uint64
		want    bool
	}{{lookUnsettled, 7, false}, {lookUnsettled, 8, true}, {lookAll, 7, true}, {lookRestless, 8, false}} {
		if got := c.look.at(m, c.unrests); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	m.rest.Store(0) // never found settled
	if !lookUnsettled.at(m, 0) {
		t.Error("a member is not looked at")
	}
}
