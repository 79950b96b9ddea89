package adamant

import (
	"context"
	"errors"
	"sync"
)

// Close hands every leadership over to a complete member, as far as that works within the hand-over time, and stops the
// host. Until its turn comes a partition is served as ever. What was acknowledged is durable before and after. A second Close
// waits for the first and returns nil.
func (h *Host) Close() error {
	if !h.beginClose() {
		<-h.gone
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.opts.Timing.HandOver)
	h.handOver(ctx)
	cancel()
	h.refuse()
	h.keepHeard()
	return h.shutdown(h.net.Close)
}

// Kill stops the host as a crash would: nothing is handed over, its links break off. What it acknowledged is durable
// all the same. For tests and the demo.
func (h *Host) Kill() error {
	if !h.beginClose() {
		<-h.gone
		return nil
	}
	h.refuse()
	cut := h.net.Close
	if k, ok := h.net.(interface{ Kill() }); ok {
		cut = func() error { k.Kill(); return nil }
	}
	return h.shutdown(cut)
}

func (h *Host) beginClose() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.closing
	h.closing, h.draining = true, true
	return first
}

// refuse ends what the host does for its application.
func (h *Host) refuse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// shutdown stops everything, the links first: a crash is silent at once.
func (h *Host) shutdown(cut func() error) error {
	var errs []error
	if h.watcher != nil {
		errs = append(errs, h.watcher.Close())
	}
	h.stop()
	errs = append(errs, cut())
	h.loops.Wait()
	h.pool.close()
	h.repairPool.close()
	h.forwardGate.close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, m := range h.allMembers() {
		wg.Go(func() {
			err := m.stop()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	h.routeChanged()
	errs = append(errs, h.releaseEngines())
	h.aside.Wait()
	h.queue.close()
	close(h.gone)
	return errors.Join(errs...)
}

// release undoes a failed open, of which there may be no network yet.
func (h *Host) release() error {
	return h.shutdown(func() error {
		if h.net == nil {
			return nil
		}
		return h.net.Close()
	})
}

func (h *Host) releaseEngines() error {
	errs := []error{h.history.close()}
	if h.logs != nil {
		errs = append(errs, h.logs.Close())
	}
	if h.docs != nil {
		errs = append(errs, h.docs.Close())
	}
	if h.disk != nil {
		errs = append(errs, h.disk.Close())
	}
	return errors.Join(errs...)
}
