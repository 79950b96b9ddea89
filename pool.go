package adamant

import "sync"

const (
	hostWorkers = 8    // calls of other hosts served at once
	hostQueue   = 1024 // calls waiting; more are refused

	repairWorkers = 4   // repair requests served at once
	repairQueue   = 256 // repair requests waiting; askers have at most two in flight for each peer
)

// pool runs the calls of other hosts that may touch disks: a bounded number at once, a bounded number waiting.
type pool struct {
	work chan func()
	stop chan struct{}
	wg   sync.WaitGroup
}

func newPool(workers, queue int) *pool {
	p := &pool{work: make(chan func(), queue), stop: make(chan struct{})}
	for range workers {
		p.wg.Go(func() {
			for {
				select {
				case f := <-p.work:
					f()
				case <-p.stop:
					return
				}
			}
		})
	}
	return p
}

// run queues f, or calls refused when the queue is full or the pool closed.
func (p *pool) run(f, refused func()) {
	select {
	case <-p.stop:
		refused()
		return
	default:
	}
	select {
	case p.work <- f:
	default:
		refused()
	}
}

// close waits for the calls being served; those waiting are dropped with their links.
func (p *pool) close() {
	close(p.stop)
	p.wg.Wait()
}
