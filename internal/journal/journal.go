// Package journal keeps lines of text on disk within a bound: what happened, for who asks afterwards. It is no log to recover
// from. Adding never blocks and never fails; a line is on disk a moment later, or lost with the process or the disk.
package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/syncdir"
)

// Options bound a journal. Zero fields get the default.
type Options struct {
	SegmentBytes int64         // after which another file is begun: 1 MB
	Segments     int           // files that are kept, the newest: 8
	Sync         time.Duration // how long a line may wait for its fsync: 1 s
	Waiting      int           // lines that may wait to be written; more are dropped, and counted: 4096
	Logger       *slog.Logger  // default: discards everything
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 1 << 20
	}
	if o.Segments <= 0 {
		o.Segments = 8
	}
	if o.Sync <= 0 {
		o.Sync = time.Second
	}
	if o.Waiting <= 0 {
		o.Waiting = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// MaxLine is the longest line in bytes; longer ones are dropped, and counted.
const MaxLine = 64 << 10

// Journal is a directory of segments: NUMBER.lines, each written by one process from beginning to end, so that a torn line can
// only be a segment's last one. It is safe for concurrent use. The goroutine that writes ends with Close.
type Journal struct {
	fs    vfs.FS
	dir   string
	o     Options
	lines chan []byte
	stop  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	dropped uint64
	failure error // nothing is written any more

	// Of the goroutine that writes.
	file   vfs.File
	number uint64
	size   int64
	dirty  bool
}

const suffix = ".lines"

// Open opens a journal, which makes its directory. Earlier segments stay readable, as far as Options keeps them.
func Open(fs vfs.FS, dir string, o Options) (*Journal, error) {
	o = o.withDefaults()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := syncdir.Sync(fs, fs.PathDir(dir)); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{fs: fs, dir: dir, o: o, lines: make(chan []byte, o.Waiting), stop: make(chan struct{}), done: make(chan struct{})}
	numbers, err := j.segments()
	if err != nil {
		return nil, err
	}
	if n := len(numbers); n > 0 {
		j.number = numbers[n-1]
	}
	go j.run()
	return j, nil
}

// Add appends a line, which must not contain a line feed.
func (j *Journal) Add(line []byte) {
	if len(line) <= MaxLine {
		select {
		case j.lines <- line:
			return
		default:
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dropped++
}

// Dropped is how many lines were not kept.
func (j *Journal) Dropped() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dropped
}

// Err is why nothing is written any more, nil while lines are.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// Close writes and syncs what was added before, and returns what kept it from that.
func (j *Journal) Close() error {
	close(j.stop)
	<-j.done
	return j.Err()
}

func (j *Journal) run() {
	defer close(j.done)
	var due <-chan time.Time
	for {
		select {
		case line := <-j.lines:
			j.attempt(func() error { return j.write(line) })
			if due == nil {
				due = time.After(j.o.Sync)
			}
		case <-due:
			due = nil
			j.attempt(j.sync)
		case <-j.stop:
			for {
				select {
				case line := <-j.lines:
					j.attempt(func() error { return j.write(line) })
				default:
					j.attempt(j.end)
					return
				}
			}
		}
	}
}

// attempt does a step unless one has failed before: the journal is not worth trying again and again on a failing disk.
func (j *Journal) attempt(step func() error) {
	if j.Err() != nil {
		return
	}
	if err := step(); err != nil {
		j.o.Logger.Error("the history is not written any more", "error", err)
		j.mu.Lock()
		j.failure = fmt.Errorf("journal: %w", err)
		j.mu.Unlock()
	}
}

func (j *Journal) write(line []byte) error {
	if j.file == nil || j.size+int64(len(line))+1 > j.o.SegmentBytes && j.size > 0 {
		if err := j.next(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(append(slices.Clip(line), '\n'))
	j.size += int64(n)
	j.dirty = true
	return err
}

// next begins another segment and removes the oldest.
func (j *Journal) next() error {
	if err := j.end(); err != nil {
		return err
	}
	j.number++
	file, err := j.fs.Create(j.path(j.number), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	j.file, j.size = file, 0
	numbers, err := j.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers[:max(0, len(numbers)-j.o.Segments)] {
		if err := j.fs.Remove(j.path(n)); err != nil {
			return err
		}
	}
	return syncdir.Sync(j.fs, j.dir)
}

func (j *Journal) sync() error {
	if j.file == nil || !j.dirty {
		return nil
	}
	j.dirty = false
	return j.file.Sync()
}

func (j *Journal) end() error {
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.sync(), j.file.Close())
	j.file = nil
	return err
}

func (j *Journal) path(n uint64) string {
	return j.fs.PathJoin(j.dir, fmt.Sprintf("%010d%s", n, suffix))
}

// segments lists the numbers of the files that are there, oldest first. What is named otherwise is left alone.
func (j *Journal) segments() ([]uint64, error) {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var numbers []uint64
	for _, name := range names {
		text, ok := strings.CutSuffix(name, suffix)
		if n, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Lines reads what is kept, oldest first, without what still waits to be written. A line that was torn by a crash is left out. A
// segment that goes meanwhile is skipped.
func (j *Journal) Lines() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		numbers, err := j.segments()
		if err != nil {
			yield(nil, err)
			return
		}
		for _, n := range numbers {
			b, err := j.read(n)
			if err != nil {
				yield(nil, err)
				return
			}
			for line := range bytes.Lines(b) {
				whole, ok := bytes.CutSuffix(line, []byte{'\n'})
				if ok && len(whole) > 0 && !yield(whole, nil) {
					return
				}
			}
		}
	}
}

// read returns a segment, nothing if it is gone.
func (j *Journal) read(n uint64) (b []byte, err error) {
	f, err := j.fs.Open(j.path(n))
	if err != nil {
		if _, stat := j.fs.Stat(j.path(n)); stat != nil {
			return nil, nil
		}
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if b, err = io.ReadAll(io.LimitReader(f, j.o.SegmentBytes+MaxLine+1)); err != nil {
		return nil, fmt.Errorf("journal: read %s: %w", j.path(n), err)
	}
	return b, nil
}
