package sim

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// timeline is what a reader of a failed run wants to see, and what was wrong with it.
type timeline struct {
	begun time.Time
	lock  sync.Mutex // guards the rest
	lines []string
	wrong []string
	most  int // lines; 0 means mostLines
}

// mostLines bounds a timeline.
const mostLines = 4000

func (l *timeline) note(format string, args ...any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if most := cmp.Or(l.most, mostLines); len(l.lines) < most {
		l.lines = append(l.lines, fmt.Sprintf("%9.3f  ", time.Since(l.begun).Seconds())+fmt.Sprintf(format, args...))
	}
}

// complain notes what must never happen.
func (l *timeline) complain(format string, args ...any) {
	l.note("WRONG: "+format, args...)
	l.lock.Lock()
	defer l.lock.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func (l *timeline) wrongs() []string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.wrong
}

func (l *timeline) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return strings.Join(l.lines, "\n")
}

// logger writes what a host warns of into the timeline, when asked for.
func (w *world) logger(m *machine) *slog.Logger {
	if !*hostLogs {
		return nil
	}
	return slog.New(slog.NewTextHandler(logWriter{w, m.name}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type logWriter struct {
	w    *world
	host string
}

func (l logWriter) Write(b []byte) (int, error) {
	l.w.note("%s: %s", l.host, strings.TrimSpace(string(b)))
	return len(b), nil
}
