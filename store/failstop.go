package store

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
)

// failStop makes an engine stop at its first failed write or fsync and stay stopped. A failed fsync may have marked
// pages clean that never reached the disk, so a retry that succeeds proves nothing.
//
// Pebble reports such failures in two ways: it panics, or it calls Logger.Fatalf and relies upon that not returning.
// Within recovered both become an error for the caller; in Pebble's own goroutines Fatalf blocks its caller for ever, which
// keeps it from going on as if nothing had happened, and leaves ending the process to OnFatal.
type failStop struct {
	engine  string // "documents" or "log"
	logger  *slog.Logger
	onFatal func(error) // called once, when armed; may be nil
	armed   atomic.Bool // set once the engine is open: until then the caller of Open gets the error

	failure atomic.Pointer[EngineFailedError]
	failed  chan struct{} // closed after failure is set
}

func newFailStop(engine string, logger *slog.Logger, onFatal func(error)) *failStop {
	return &failStop{engine: engine, logger: logger, onFatal: onFatal, failed: make(chan struct{})}
}

// check returns the failure, if there was one.
func (f *failStop) check() error {
	if e := f.failure.Load(); e != nil {
		return e
	}
	return nil
}

// fail records the first failure, tells OnFatal, and returns the failure that counts.
func (f *failStop) fail(err error) *EngineFailedError {
	e := &EngineFailedError{Engine: f.engine, Err: err}
	if !f.failure.CompareAndSwap(nil, e) {
		return f.failure.Load()
	}
	close(f.failed)
	f.logger.Error("storage engine failed; it stays stopped until the process restarts", "engine", f.engine, "err", err)
	if f.onFatal != nil && f.armed.Load() {
		f.onFatal(e)
	}
	return e
}

// fatalPanic carries a Fatalf out of Pebble to guard.
type fatalPanic struct{ failure *EngineFailedError }

// guard runs a write. Its error, if any, is the engine's failure: Pebble has no write errors that a caller may survive.
func (f *failStop) guard(write func() error) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := f.recovered(write); err != nil {
		return f.fail(err)
	}
	return f.check() // what Pebble takes for done may not be (walFS)
}

// recovered runs op and turns Pebble's ways of giving up into an error.
func (f *failStop) recovered(op func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatalPanic:
			err = p.failure.Err
		case runtime.Error: // a mistake of ours or Pebble's, not of the disk: hide nothing
			panic(p)
		case error:
			err = p
		default:
			err = fmt.Errorf("%v", p)
		}
	}()
	return op()
}

// Infof, Errorf and Fatalf make failStop a pebble.Logger.
func (f *failStop) Infof(format string, args ...any) {
	f.logger.Debug(fmt.Sprintf(format, args...), "engine", f.engine)
}

// Errorf logs.
func (f *failStop) Errorf(format string, args ...any) {
	f.logger.Error(fmt.Sprintf(format, args...), "engine", f.engine)
}

// Fatalf never returns.
func (f *failStop) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args { // Pebble formats the cause with %v or %s; keep it for errors.Is
		if cause, ok := a.(error); ok {
			err = &fatalError{text: err.Error(), cause: cause}
		}
	}
	failure := f.fail(err)
	if guarded() {
		panic(fatalPanic{failure})
	}
	select {}
}

// fatalError is a message of Pebble's with the cause it mentions.
type fatalError struct {
	text  string
	cause error
}

func (e *fatalError) Error() string { return e.text }
func (e *fatalError) Unwrap() error { return e.cause }

// guarded reports whether the current goroutine is inside of failStop.recovered.
func guarded() bool {
	return calledBy(func(function string) bool { return strings.HasSuffix(function, "store.(*failStop).recovered") })
}

// calledBy reports whether a function of which `is` holds, by its full name, is among the callers.
func calledBy(is func(function string) bool) bool {
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		f, more := frames.Next()
		if is(f.Function) {
			return true
		}
		if !more {
			return false
		}
	}
}
