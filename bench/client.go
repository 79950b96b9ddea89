package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/lincheck"
)

// clients are writers that live apart from all hosts and outlive any of them: one for each partition. Each knows the hosts
// of its partition as an application would, from the cluster file, and follows the leader.
type clients struct {
	lines map[string]line
	list  []*client

	base       context.Context // of everything that is asked
	giveUp     context.CancelFunc
	begun      time.Time
	unanswered sync.WaitGroup // attempts, those that were given up included

	mu      sync.Mutex
	loss    chan struct{} // writers wait until it is closed; nil: they do not
	gone    string        // the host that was taken away, "" so far
	back    string        // the host that was taken away and is back since backAt
	backAt  time.Time
	unknown map[string]map[adamant.Key]bool // see unsure
}

// client writes one document, one delta after the other. Only its own goroutine uses it, but for what mu guards.
type client struct {
	all       *clients
	key       adamant.Key
	partition uint32
	voters    []string
	host      string // leads the document, as far as is known
	asked     int    // counts the times another host was asked who leads
	size      int
	text      []byte
	undo      []byte
	seen      observed

	mu    sync.Mutex
	head  int64     // newest seq that was acknowledged
	last  string    // the host that acknowledged it
	at    time.Time // when it did
	cut   cut
	tries uint64 // attempts that were refused or ambiguous
}

// cut is what a client saw of the loss of a host.
type cut struct {
	led           bool // the host led its partition: it acknowledged the last write before
	before, after time.Time
}

// over says whether the client writes again, if it ever stopped.
func (c cut) over() bool { return !c.led || !c.after.IsZero() }

func (c cut) gap() time.Duration { return c.after.Sub(c.before) }

// newClients makes one for each partition.
func newClients(f *fleet, lines map[string]line, seed uint64) *clients {
	all := &clients{lines: lines, begun: time.Now()}
	all.base, all.giveUp = context.WithCancel(context.Background())
	rng := rand.New(rand.NewPCG(seed, 0))
	for i, n := range onePerPartition(f.cluster, 1) {
		p := f.cluster.Partitions[i]
		c := &client{all: all, key: documentKey(n), partition: p.ID, voters: p.Voters, host: p.Voters[0], size: f.settings.Size, undo: []byte(payloadUndo)}
		for range c.size {
			c.text = append(c.text, payloadLetters[rng.IntN(len(payloadLetters))])
		}
		all.list = append(all.list, c)
	}
	return all
}

// delta is the one that ends at a seq, the same whenever it is asked for. It holds its seq, so that no two are alike.
func (c *client) delta(seq int64) adamant.Delta {
	redo := make([]byte, 0, c.size)
	redo = append(redo, payloadHead...)
	redo = strconv.AppendInt(redo, seq, 10)
	redo = append(redo, ' ')
	if fill := c.size - len(redo) - len(payloadTail) - len(payloadUndo); fill > 0 {
		from := int(seq * int64(fill) % int64(len(c.text)-fill))
		redo = append(redo, c.text[from:from+fill]...)
	}
	return adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: append(redo, payloadTail...), Undo: c.undo}
}

// create makes the documents.
func (all *clients) create(ctx context.Context) error {
	return each(all.list, func(_ int, c *client) error { return c.write(ctx, askCreate) })
}

// run lets every client write until the context ends, and waits for what is in flight then: it is not abandoned, because it
// may be acknowledged. Think is what each of them waits after a write. The first that fails stops the others.
func (all *clients) run(until context.Context, stop func(), think time.Duration) error {
	return each(all.list, func(_ int, c *client) error {
		for c.due(until) {
			if err := c.write(context.WithoutCancel(until), askAppend); err != nil {
				stop()
				return err
			}
			if think > 0 && pause(until, think) != nil {
				break
			}
		}
		return nil
	})
}

// due says whether the client writes again. One that waits for the loss has nothing to do with what another host leads.
func (c *client) due(until context.Context) bool {
	if c.all.loss == nil {
		return until.Err() == nil
	}
	select {
	case <-c.all.loss:
	case <-until.Done():
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut.led && until.Err() == nil
}

// touch has every client write once, so that each knows who leads its partition.
func (all *clients) touch(ctx context.Context) error {
	return eachOf(touchAtOnce, all.list, func(c *client) error { return c.write(ctx, askAppend) })
}

const touchAtOnce = 64

// write makes the document's next delta durable, or fails after patience.
func (c *client) write(ctx context.Context, do requestKind) error {
	seq := c.acknowledged() + 1
	unsure := false
	delta, call := c.delta(seq), c.all.now()
	ask := func(r *request) { r.Do, r.Delta = do, delta }
	_, err := c.persist(ctx, ask, func(a reply) bool {
		switch a.Code {
		case codeBroken, adamant.CodeAmbiguous:
			unsure = true
		case adamant.CodeExists:
			return unsure && do == askCreate
		}
		return a.Code == 0
	})
	if err != nil {
		return err
	}
	now := time.Now()
	kind := lincheck.Append
	if do == askCreate {
		kind = lincheck.Create
	}
	c.seen.write(kind, seq, delta.Redo, call, int64(now.Sub(c.all.begun)))
	c.acknowledge(seq, now)
	return nil
}

// now is the present moment of what is observed.
func (all *clients) now() int64 { return int64(time.Since(all.begun)) }

// persist asks one host after the other until one does it.
func (c *client) persist(ctx context.Context, fill func(*request), done func(reply) bool) (reply, error) {
	begun := time.Now()
	for {
		gone := c.all.lost()
		r := request{Key: c.key, Avoid: gone}
		fill(&r)
		a := c.attempt(ctx, r)
		if done(a) {
			return a, nil
		}
		if ctx.Err() != nil {
			return a, ctx.Err()
		}
		if !passing(a.Code) || time.Since(begun) > patience {
			return a, fmt.Errorf("document %s, host %s, after %v: %s", c.key, c.host, time.Since(begun).Round(time.Millisecond), a.Text)
		}
		c.mu.Lock()
		c.tries++
		c.mu.Unlock()
		if _, known := c.all.lines[a.Leader]; known && a.Leader != gone {
			c.host = a.Leader
			continue
		}
		c.host = c.next()
		if err := pause(ctx, retryPause); err != nil {
			return a, err
		}
	}
}

// passing says whether another host, or the same one later, may do what this one refused.
func passing(code int) bool {
	return slices.Contains([]int{codeBroken, adamant.CodeNotLeader, adamant.CodeUnavailable, adamant.CodeAmbiguous, adamant.CodeClosed, adamant.CodeSafeMode}, code)
}

// next is the voter after the present host that is not known to be gone.
func (c *client) next() string {
	at := slices.Index(c.voters, c.host)
	for i := range c.voters {
		if v := c.voters[(at+1+i)%len(c.voters)]; v != c.all.lost() {
			return v
		}
	}
	return c.host
}

func (c *client) acknowledged() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// acknowledge notes that the host made a write durable.
func (c *client) acknowledge(seq int64, now time.Time) {
	gone := c.all.lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head, c.last, c.at = seq, c.host, now
	switch {
	case !c.cut.led:
	case c.host == gone: // sent before it went, or while it handed over
		c.cut.before = now
	case c.cut.after.IsZero():
		c.cut.after = now
	}
}

// lost is the host that was taken away.
func (all *clients) lost() string {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.gone
}

// lose notes that a host is about to go, and by whom its clients' last writes were acknowledged.
func (all *clients) lose(host string) {
	all.mu.Lock()
	all.gone = host
	all.mu.Unlock()
	for _, c := range all.list {
		c.mu.Lock()
		c.cut = cut{led: c.last == host, before: c.at}
		if all.loss != nil {
			c.cut.before = time.Now()
		}
		c.mu.Unlock()
	}
	if all.loss != nil {
		close(all.loss)
	}
}

// returned notes that the host that was taken away is back.
func (all *clients) returned() {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.back, all.backAt, all.gone = all.gone, time.Now(), ""
}

// writes is how many were acknowledged so far.
func (all *clients) writes() (n int64) {
	for _, c := range all.list {
		n += c.acknowledged()
	}
	return n
}

// leaders counts the partitions whose last write each host acknowledged.
func (all *clients) leaders() map[string]int {
	n := map[string]int{}
	for _, c := range all.list {
		c.mu.Lock()
		n[c.last]++
		c.mu.Unlock()
	}
	return n
}

// cuts lists what the clients saw of the loss, of the partitions that the lost host led.
func (all *clients) cuts() (led []cut, over bool) {
	over = true
	for _, c := range all.list {
		c.mu.Lock()
		if c.cut.led {
			led = append(led, c.cut)
		}
		over = over && c.cut.over()
		c.mu.Unlock()
	}
	return led, over
}

func (all *clients) close() error {
	all.giveUp()
	all.unanswered.Wait()
	return closeLines(all.lines)
}
