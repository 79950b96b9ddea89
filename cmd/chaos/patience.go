//go:build unix

package main

import (
	"context"
	"sync/atomic"
	"time"
)

// undisturbed counts the time in which this machine let a process run that wanted to. Patience with the cluster is measured
// by it: where others use up the processors, hosts do not hear each other in time, and nobody is to blame.
type undisturbed struct{ counted atomic.Int64 }

// A tick that comes so much late was disturbed. The longest patience is so many times what is asked for.
const (
	patienceTick = 50 * time.Millisecond
	patienceSlip = 20 * time.Millisecond
	patienceMost = 6
)

// run counts until the context ends.
func (u *undisturbed) run(ctx context.Context) {
	for last := time.Now(); ctx.Err() == nil; {
		pause(ctx, patienceTick)
		now := time.Now()
		if d := now.Sub(last); d < patienceTick+patienceSlip {
			u.counted.Add(int64(d))
		}
		last = now
	}
}

// patience is a context that ends after so much undisturbed time.
func (u *undisturbed) patience(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(parent, patienceMost*d)
	from := u.counted.Load()
	go func() { // ends with the context
		for ctx.Err() == nil {
			if time.Duration(u.counted.Load()-from) >= d {
				cancel()
			}
			pause(ctx, patienceTick)
		}
	}()
	return ctx, cancel
}

// afterwards is a context that ends so much undisturbed time after another one has ended.
func (u *undisturbed) afterwards(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		patience, done := u.patience(later, d)
		defer done()
		<-patience.Done()
		cancel()
	})
	return later, func() { stop(); cancel() }
}
