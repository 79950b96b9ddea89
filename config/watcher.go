package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultInterval is how often a watcher reads the file.
const DefaultInterval = 2 * time.Second

// WatchOptions says what a Watcher watches and whom it tells.
type WatchOptions struct {
	Path     string
	Interval time.Duration // 0: DefaultInterval
	// Last is the last good cluster known from before, if any. With it a watcher starts although the file is bad or
	// missing, and versions go on growing across restarts.
	Last *Cluster
	// OnChange is told of each new cluster in force, OnReject of each bad file, once per distinct content. They are
	// called by the goroutine that polls, one at a time; they may ask the watcher but not call Poll or Close.
	OnChange func(old, new *Cluster)
	OnReject func(error)
}

// WatchStatus says what is in force and how the file fares.
type WatchStatus struct {
	Path     string    `json:"path"`
	Version  uint64    `json:"version"`
	Loaded   time.Time `json:"loaded"`           // when the cluster in force was read
	Digest   string    `json:"digest,omitempty"` // SHA-256 of the file it came from, for comparing hosts; "" when from Last
	Rejected int       `json:"rejected"`         // distinct bad files so far
	// Problem is why the file as it is now is not in force; "" when it is.
	Problem string `json:"problem,omitempty"`
	// LastError is the latest rejection, also after the file was mended.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime,omitzero"`
}

// Watcher polls a cluster file and holds the newest good content. It judges by content alone: times and sizes lie when
// files are copied, restored or mounted. A bad file changes nothing but the status.
type Watcher struct {
	options WatchOptions

	// polling serializes Poll, its callbacks included. It is taken before mu.
	polling sync.Mutex
	// seen holds the digests of the contents already rejected, oldest first; at most maxSeen. Owned by polling.
	seen []digest

	mu       sync.Mutex // guards what follows; never held during I/O or a callback
	current  *Cluster
	digest   digest // of the file content in force; zero when it came from Last
	status   WatchStatus
	cancel   context.CancelFunc
	closed   bool
	finished chan struct{} // closed when the polling goroutine has ended; nil before Start
}

type digest = [sha256.Size]byte

// maxSeen bounds how many rejected contents are remembered; after that many others, one would be reported again.
const maxSeen = 256

// NewWatcher reads the file for the first time. Without a last good cluster the file has to be good.
func NewWatcher(options WatchOptions) (*Watcher, error) {
	if options.Interval <= 0 {
		options.Interval = DefaultInterval
	}
	w := &Watcher{options: options}
	w.status.Path = options.Path
	if options.Last != nil {
		if err := options.Last.Validate(); err != nil {
			return nil, fmt.Errorf("config: last good cluster: %w", err)
		}
		w.current = options.Last
		w.status.Version, w.status.Loaded = options.Last.Version, time.Now()
		w.Poll()
		return w, nil
	}
	data, err := readFile(options.Path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(data, options.Path)
	if err != nil {
		return nil, err
	}
	w.adopt(c, sha256.Sum256(data))
	return w, nil
}

// Current returns the cluster in force. It must not be modified.
func (w *Watcher) Current() *Cluster {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// Status returns the state of the watcher.
func (w *Watcher) Status() WatchStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Start polls until the context ends or Close is called. A watcher is started at most once.
func (w *Watcher) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.New("config: the watcher is closed")
	}
	if w.finished != nil {
		return errors.New("config: the watcher was already started")
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.finished = make(chan struct{})
	go w.run(ctx, w.finished)
	return nil
}

func (w *Watcher) run(ctx context.Context, finished chan<- struct{}) {
	defer close(finished)
	ticker := time.NewTicker(w.options.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if ctx.Err() == nil { // a tick and the end at once: the end wins
				w.Poll()
			}
		}
	}
}

// Close ends the polling and returns when no callback runs any more. It may be called more than once.
func (w *Watcher) Close() error {
	w.mu.Lock()
	w.closed = true
	cancel, finished := w.cancel, w.finished
	w.mu.Unlock()
	if finished != nil {
		cancel()
		<-finished
	}
	return nil
}

// Poll reads the file once and acts on what it finds. It returns nil when the file, as it is now, is in force, and
// otherwise why not, also when that was reported before.
func (w *Watcher) Poll() error {
	w.polling.Lock()
	defer w.polling.Unlock()
	if sum, err := digestFile(w.options.Path); err == nil && w.inForce(sum) {
		return nil // nearly always, and nothing was kept in memory
	}
	data, err := readFile(w.options.Path)
	if err != nil {
		w.unreadable(err)
		return err
	}
	sum := sha256.Sum256(data)
	if w.inForce(sum) {
		return nil
	}
	current := w.Current()
	c, err := Parse(data, w.options.Path)
	switch {
	case err != nil:
	case w.sameAsLast(c):
		w.adopt(c, sum)
		return nil
	default:
		err = current.CheckSuccessor(c)
	}
	if err != nil {
		w.reject(err, sum)
		return err
	}
	w.adopt(c, sum)
	if w.options.OnChange != nil {
		w.options.OnChange(current, c)
	}
	return nil
}

// inForce reports whether a content is in force. Then there is no problem.
func (w *Watcher) inForce(sum digest) bool {
	w.mu.Lock()
	same := w.digest == sum
	w.mu.Unlock()
	if same {
		w.setProblem(nil)
	}
	return same
}

// sameAsLast reports whether the file holds the cluster that the watcher was started with, so far unseen as a file.
func (w *Watcher) sameAsLast(c *Cluster) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.digest == digest{} && w.current.Equal(c)
}

// adopt puts a cluster in force.
func (w *Watcher) adopt(c *Cluster, sum digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current, w.digest = c, sum
	w.status.Version, w.status.Loaded, w.status.Digest = c.Version, time.Now(), hex.EncodeToString(sum[:])
	w.status.Problem = ""
}

// reject records a bad content and reports it unless it was reported before.
func (w *Watcher) reject(err error, sum digest) {
	w.setProblem(err)
	if slices.Contains(w.seen, sum) {
		return
	}
	if len(w.seen) == maxSeen {
		w.seen = slices.Delete(w.seen, 0, 1)
	}
	w.seen = append(w.seen, sum)
	w.report(err)
}

// unreadable records that there is no content to judge; it is reported once for as long as it stays the same.
func (w *Watcher) unreadable(err error) {
	w.mu.Lock()
	known := w.status.Problem == err.Error()
	w.mu.Unlock()
	w.setProblem(err)
	if !known {
		w.report(err)
	}
}

func (w *Watcher) setProblem(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Problem = ""
	if err != nil {
		w.status.Problem = err.Error()
	}
}

func (w *Watcher) report(err error) {
	w.mu.Lock()
	w.status.Rejected++
	w.status.LastError, w.status.LastErrorTime = err.Error(), time.Now()
	w.mu.Unlock()
	if w.options.OnReject != nil {
		w.options.OnReject(err)
	}
}
