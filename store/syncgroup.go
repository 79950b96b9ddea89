package store

import "sync"

// syncGroup lets concurrent callers share one fsync. A caller may only be served by an fsync that starts after its call,
// so at most one runs and one is being waited for:
//
//	running ├────────┤
//	next          a  b  c ├────────┤   a, b and c called while the first ran; the second serves all three
type syncGroup struct {
	mu      sync.Mutex
	running bool
	next    *syncCall // set while running, when somebody waits for the following one
	count   uint64
}

type syncCall struct {
	done chan struct{}
	err  error
}

// do returns after an fsync that started after do was called. When the engine fails meanwhile, do returns its failure
// even if the fsync never comes back.
func (g *syncGroup) do(failed <-chan struct{}, failure func() error, fsync func() error) error {
	g.mu.Lock()
	if g.running {
		if g.next == nil {
			g.next = &syncCall{done: make(chan struct{})}
		}
		call := g.next
		g.mu.Unlock()
		select {
		case <-call.done:
			return call.err
		case <-failed:
			return failure()
		}
	}
	g.running = true
	g.mu.Unlock()
	err := g.run(fsync)

	// Serve those who came meanwhile, in a goroutine: this caller has its answer. The goroutine ends when nobody waits.
	g.mu.Lock()
	if g.next == nil {
		g.running = false
		g.mu.Unlock()
		return err
	}
	g.mu.Unlock()
	go g.serve(fsync)
	return err
}

func (g *syncGroup) serve(fsync func() error) {
	for {
		g.mu.Lock()
		call := g.next
		g.next = nil
		if call == nil {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		call.err = g.run(fsync)
		close(call.done)
	}
}

// total is the number of fsyncs so far.
func (g *syncGroup) total() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

func (g *syncGroup) run(fsync func() error) error {
	err := fsync()
	g.mu.Lock()
	g.count++
	g.mu.Unlock()
	return err
}
