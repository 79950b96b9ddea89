package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a watcher of a file in a temporary directory and what it reported.
type watched struct {
	*Watcher
	t        *testing.T
	path     string
	changes  []string // "7→8"
	rejected []error
}

func watch(t *testing.T, text string, last *Cluster) *watched {
	t.Helper()
	w := &watched{t: t, path: filepath.Join(t.TempDir(), "cluster.json")}
	if text != "" {
		w.write(text)
	}
	var err error
	w.Watcher, err = NewWatcher(w.options(last))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watched) options(last *Cluster) WatchOptions {
	return WatchOptions{
		Path: w.path, Interval: time.Second, Last: last,
		OnChange: func(old, new *Cluster) {
			w.changes = append(w.changes, fmt.Sprintf("%d→%d", old.Version, new.Version))
		},
		OnReject: func(err error) { w.rejected = append(w.rejected, err) },
	}
}

func (w *watched) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// version returns the valid file with another version.
func version(n int) string {
	return strings.Replace(valid, `"version": 7`, fmt.Sprintf(`"version": %d`, n), 1)
}

// expect polls and checks the outcome: the version in force, the changes and rejections so far, and whether the file as
// it is now is in force.
func (w *watched) expect(version uint64, changes, rejections int, inForce bool) {
	w.t.Helper()
	err := w.Poll()
	s := w.Status()
	if (err == nil) != inForce || (s.Problem == "") != inForce {
		w.t.Errorf("Poll returned %v, status %+v", err, s)
	}
	if w.Current().Version != version || s.Version != version {
		w.t.Errorf("version %d in force, status %+v, want %d", w.Current().Version, s, version)
	}
	if len(w.changes) != changes || len(w.rejected) != rejections || s.Rejected != rejections {
		w.t.Errorf("changes %v, rejections %v, status %+v; want %d and %d", w.changes, w.rejected, s, changes, rejections)
	}
	if rejections > 0 && (s.LastError != w.rejected[rejections-1].Error() || s.LastErrorTime.IsZero()) {
		w.t.Errorf("the last error is %v, status %+v", w.rejected[rejections-1], s)
	}
}

func TestWatcherFollowsTheFile(t *testing.T) {
	w := watch(t, valid, nil)
	w.expect(7, 0, 0, true)
	first := w.Status()
	if first.Loaded.IsZero() || len(first.Digest) != 64 || first.Path != w.path {
		t.Errorf("status %+v", first)
	}
	w.write(version(8))
	w.expect(8, 1, 0, true)
	w.expect(8, 1, 0, true)
	w.write(version(100))
	w.expect(100, 2, 0, true)
	if fmt.Sprint(w.changes) != "[7→8 8→100]" || w.Status().Digest == first.Digest {
		t.Errorf("changes %v, status %+v", w.changes, w.Status())
	}
}

func TestWatcherKeepsTheLastGoodFile(t *testing.T) {
	for _, x := range []struct{ name, text, want string }{
		{"truncated", version(8)[:300], "file ends"},
		{"empty", "", "file ends"},
		{"garbage", "\x00\x01\x02 garbage", "expected a value"},
		{"unknown key", strings.Replace(version(8), `"insecure"`, `"secure"`, 1), "insecure"},
		{"invalid", strings.Replace(version(8), `["h2", "h3", "h4"]`, `["h2", "h3"]`, 1), "1, 3, 5 or 7"},
		{"lower version", version(6), "version 6 must be above 7"},
		{"equal version, other content", strings.Replace(valid, `"prefer": "h2"`, `"prefer": "h1"`, 1), "version 7 must be above 7"},
		{"equal version, other spacing", valid + "\n", "version 7 must be above 7"},
		{"other cluster", strings.Replace(version(8), "prod-1", "prod-2", 1), `belongs to the cluster "prod-2"`},
		{"other ranges", strings.Replace(version(8), "8000000000000000", "9000000000000000", 1), "ranges cannot be changed"},
		{"too large", version(8) + strings.Repeat("\n", MaxBytes), "larger than"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := watch(t, valid, nil)
			good := w.Current()
			w.write(x.text)
			w.expect(7, 0, 1, false)
			if w.Current() != good {
				t.Error("the cluster in force was replaced")
			}
			if !strings.Contains(w.rejected[0].Error(), x.want) {
				t.Errorf("rejected with %v", w.rejected[0])
			}
			w.expect(7, 0, 1, false) // once per distinct content
			w.write("{")
			w.expect(7, 0, 2, false)
			w.write(x.text)
			w.expect(7, 0, 2, false) // seen before
			w.write(valid)
			w.expect(7, 0, 2, true) // back to what is in force: no change, no problem
			w.write(version(9))
			w.expect(9, 1, 2, true)
		})
	}
}

func TestWatcherRemembersBoundedly(t *testing.T) {
	w := watch(t, valid, nil)
	for i := range maxSeen + 1 {
		w.write(fmt.Sprintf("garbage %d", i))
		w.Poll()
	}
	if len(w.seen) != maxSeen || len(w.rejected) != maxSeen+1 {
		t.Errorf("%d remembered, %d rejected", len(w.seen), len(w.rejected))
	}
	w.write("garbage 1") // still remembered
	w.Poll()
	if len(w.rejected) != maxSeen+1 {
		t.Error("a remembered content was reported again")
	}
}

func TestWatcherSurvivesUnreadableFile(t *testing.T) {
	w := watch(t, valid, nil)
	remove := func() {
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	w.expect(7, 0, 1, false)
	if !errors.Is(w.rejected[0], fs.ErrNotExist) {
		t.Errorf("rejected with %v", w.rejected[0])
	}
	w.expect(7, 0, 1, false)
	if err := os.Mkdir(w.path, 0o700); err != nil {
		t.Fatal(err)
	}
	w.expect(7, 0, 2, false)
	if !strings.Contains(w.rejected[1].Error(), "not a regular file") {
		t.Errorf("rejected with %v", w.rejected[1])
	}
	remove()
	w.write(valid)
	w.expect(7, 0, 2, true)
	remove() // missing once more, after it was back
	w.expect(7, 0, 3, false)
	w.write(version(8))
	w.expect(8, 1, 3, true)
}

// Content decides: a change that leaves time and size as they were is noticed, a touched file is not a change.
func TestWatcherJudgesContentNotTime(t *testing.T) {
	w := watch(t, valid, nil)
	info, err := os.Stat(w.path)
	if err != nil {
		t.Fatal(err)
	}
	stamp := func(at time.Time) {
		if err := os.Chtimes(w.path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	w.write(version(8))
	stamp(info.ModTime())
	if again, err := os.Stat(w.path); err != nil || !again.ModTime().Equal(info.ModTime()) || again.Size() != info.Size() {
		t.Fatalf("the test's files differ in time or size: %v", err)
	}
	w.expect(8, 1, 0, true)
	stamp(time.Now().Add(time.Hour))
	w.expect(8, 1, 0, true)
}

func TestWatcherStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.json")
	if _, err := NewWatcher(WatchOptions{Path: path}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var invalid *InvalidError
	if _, err := NewWatcher(WatchOptions{Path: path}); !errors.As(err, &invalid) {
		t.Errorf("a bad file: %v", err)
	}
	if _, err := NewWatcher(WatchOptions{Path: path, Last: &Cluster{}}); !errors.As(err, &invalid) {
		t.Errorf("a bad last cluster: %v", err)
	}
}

func TestWatcherWithLastGoodCluster(t *testing.T) {
	last := mustParse(t, version(8))
	t.Run("same file", func(t *testing.T) {
		w := watch(t, version(8), last)
		w.expect(8, 0, 0, true)
		if w.Status().Digest == "" {
			t.Error("no digest although the file was read")
		}
	})
	t.Run("newer file", func(t *testing.T) {
		w := watch(t, version(9), last)
		w.expect(9, 1, 0, true)
	})
	t.Run("older file", func(t *testing.T) {
		w := watch(t, valid, last)
		w.expect(8, 0, 1, false)
	})
	t.Run("same version, other content", func(t *testing.T) {
		w := watch(t, strings.Replace(version(8), `"prefer": "h2"`, `"prefer": "h1"`, 1), last)
		w.expect(8, 0, 1, false)
	})
	t.Run("bad file", func(t *testing.T) {
		w := watch(t, "{", last)
		w.expect(8, 0, 1, false)
		w.write(version(8))
		w.expect(8, 0, 1, true)
	})
	t.Run("missing file", func(t *testing.T) {
		w := watch(t, "", last)
		w.expect(8, 0, 1, false)
		w.write(version(9))
		w.expect(9, 1, 1, true)
	})
}

// Started, it polls at its interval until it is closed or its context ends; synctest fails when a goroutine is left.
func TestWatcherPolls(t *testing.T) {
	for _, end := range []string{"close", "context"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, valid, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if err := w.Start(ctx); err != nil {
					t.Fatal(err)
				}
				if w.Start(ctx) == nil {
					t.Error("started twice")
				}
				w.write(version(8))
				time.Sleep(999 * time.Millisecond)
				synctest.Wait()
				if w.Current().Version != 7 {
					t.Error("polled before its time")
				}
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				if w.Current().Version != 8 {
					t.Error("did not poll in time")
				}
				if end == "context" {
					cancel()
					synctest.Wait()
				} else if err := w.Close(); err != nil {
					t.Error(err)
				}
				w.write(version(9))
				time.Sleep(time.Minute)
				synctest.Wait()
				if w.Current().Version != 8 {
					t.Error("polled after its end")
				}
				for range 2 {
					if err := w.Close(); err != nil {
						t.Errorf("closing again: %v", err)
					}
				}
				if w.Start(ctx) == nil {
					t.Error("started after Close")
				}
			})
		})
	}
}

func TestWatcherCloseWithoutStart(t *testing.T) {
	w := watch(t, valid, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Start(t.Context()) == nil {
		t.Error("started after Close")
	}
	w.expect(7, 0, 0, true) // it can still be asked
}

// Callbacks may ask the watcher, and see the new state.
func TestWatcherCallbacksMayAsk(t *testing.T) {
	w := watch(t, valid, nil)
	asked := 0
	w.Watcher.options.OnChange = func(old, new *Cluster) {
		asked++
		if w.Current() != new || w.Status().Version != new.Version || old.Version != 7 {
			t.Errorf("in OnChange: %+v", w.Status())
		}
	}
	w.Watcher.options.OnReject = func(err error) {
		asked++
		if s := w.Status(); s.Problem != err.Error() || s.Rejected != 1 {
			t.Errorf("in OnReject: %+v", s)
		}
	}
	w.write(version(8))
	w.Poll()
	w.write("{")
	w.Poll()
	if asked != 2 {
		t.Errorf("%d callbacks", asked)
	}
}

// Readers and pollers at once: the race detector watches, versions never fall.
func TestWatcherConcurrently(t *testing.T) {
	w := watch(t, valid, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			w.Poll()
		}
	}()
	var last uint64
	for v := 8; v < 60; v++ {
		temporary := w.path + ".new"
		if err := os.WriteFile(temporary, []byte(version(v)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, w.path); err != nil {
			t.Fatal(err)
		}
		now := w.Current().Version
		if now < last || w.Status().Version < now {
			t.Fatalf("version %d after %d, status %+v", now, last, w.Status())
		}
		last = now
	}
	<-done
	if err := w.Poll(); err != nil || w.Current().Version != 59 {
		t.Errorf("version %d in the end: %v", w.Current().Version, err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.json")
	if err := os.WriteFile(path, []byte(valid), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || !bytes.Equal(c.Marshal(), []byte(canonical)) {
		t.Errorf("Load: %v", err)
	}
	if _, err := Load(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
