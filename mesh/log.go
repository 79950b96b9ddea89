package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// throttledLog keeps what peers do from flooding the log: each message may come
// a few times per interval, the rest is counted and reported with the next.
type throttledLog struct {
	to *slog.Logger

	mu   sync.Mutex // guards seen
	seen map[string]*seenMessage
}

type seenMessage struct {
	since      time.Time
	count      int
	suppressed int
}

const (
	logInterval = 10 * time.Second
	logBurst    = 5
	logMessages = 256 // distinct messages kept track of
)

func newThrottledLog(to *slog.Logger) *throttledLog {
	return &throttledLog{to: to, seen: make(map[string]*seenMessage)}
}

func (l *throttledLog) warn(msg string, args ...any)  { l.log(slog.LevelWarn, msg, args...) }
func (l *throttledLog) info(msg string, args ...any)  { l.log(slog.LevelInfo, msg, args...) }
func (l *throttledLog) error(msg string, args ...any) { l.log(slog.LevelError, msg, args...) }

func (l *throttledLog) log(level slog.Level, msg string, args ...any) {
	if !l.to.Enabled(context.Background(), level) {
		return
	}
	suppressed, ok := l.allow(msg)
	if !ok {
		return
	}
	if suppressed > 0 {
		args = append(args[:len(args):len(args)], "suppressed", suppressed)
	}
	l.to.Log(context.Background(), level, msg, args...)
}

// allow says whether msg may be logged now, and how many were not since it was.
func (l *throttledLog) allow(msg string) (suppressed int, ok bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[msg]
	if s == nil {
		if len(l.seen) >= logMessages {
			clear(l.seen)
		}
		s = &seenMessage{since: now}
		l.seen[msg] = s
	}
	if now.Sub(s.since) >= logInterval {
		s.since, s.count = now, 0
	}
	if s.count >= logBurst {
		s.suppressed++
		return 0, false
	}
	s.count++
	suppressed, s.suppressed = s.suppressed, 0
	return suppressed, true
}

// gossipLog takes memberlist's log lines, "[LEVEL] memberlist: text".
type gossipLog struct{ to *throttledLog }

func (g gossipLog) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	level := slog.LevelInfo
	for tag, l := range map[string]slog.Level{"[DEBUG]": slog.LevelDebug, "[INFO]": slog.LevelDebug, "[WARN]": slog.LevelInfo, "[ERR]": slog.LevelWarn} {
		if rest, ok := bytes.CutPrefix(text, []byte(tag)); ok {
			text, level = bytes.TrimSpace(rest), l
			break
		}
	}
	// One budget per level, whatever the text says.
	g.to.log(level, "gossip", "text", string(text))
	return len(line), nil
}
