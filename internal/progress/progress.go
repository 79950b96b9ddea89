package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// pause is the least time between two plain lines of one bar that are not its last.
const pause = time.Second

// IsTerminal reports whether w is one.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Group is a set of bars over one output. Safe for concurrent use.
type Group struct {
	out  io.Writer
	bars *mpb.Progress // nil: plain lines
	now  func() time.Time

	mu sync.Mutex // guards out when plain
}

// New returns a group that draws bars if terminal is true, and writes lines otherwise. Close it.
func New(w io.Writer, terminal bool) *Group {
	g := &Group{out: w, now: time.Now}
	if terminal {
		g.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(48), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return g
}

// Write writes text above the bars. It should end with a line feed.
func (g *Group) Write(b []byte) (int, error) {
	if g.bars != nil {
		return g.bars.Write(b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(b)
}

// Close waits for the last drawing. Bars that are not finished stay as they are.
func (g *Group) Close() {
	if g.bars != nil {
		g.bars.Shutdown()
	}
}

// Bar is one line of progress. Safe for concurrent use.
type Bar struct {
	group *Group
	name  string

	mu          sync.Mutex
	done, total int64
	note        string
	finished    bool
	shown       string    // plain: the newest line written
	shownAt     time.Time // plain: when

	bar *mpb.Bar // nil: plain lines
}

// Bar adds a bar; its total may become known later.
func (g *Group) Bar(name string) *Bar {
	b := &Bar{group: g, name: name}
	if g.bars != nil {
		b.bar = g.bars.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
			mpb.PrependDecorators(decor.Name(name, decor.WC{W: 22, C: decor.DindentRight})),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Any(func(decor.Statistics) string { return "  " + b.text() })))
	}
	return b
}

// Set says how far it is, in whatever unit, and something worth knowing about it. Done may exceed total and may shrink.
func (b *Bar) Set(done, total int64, note string) {
	b.mu.Lock()
	b.done, b.total, b.note = done, total, note
	finished := b.finished
	b.mu.Unlock()
	if finished {
		return
	}
	if b.bar != nil {
		b.bar.SetTotal(max(total, done, 1), false) // the bar started with 0, so that reaching a total does not complete it
		b.bar.SetCurrent(done)
		return
	}
	b.line(false)
}

// Finish draws the bar a last time; later calls change nothing.
func (b *Bar) Finish() {
	b.mu.Lock()
	if b.finished {
		b.mu.Unlock()
		return
	}
	b.finished = true
	done := b.done
	b.mu.Unlock()
	if b.bar != nil {
		b.bar.SetCurrent(done)
		b.bar.Abort(false)
		b.bar.Wait()
		return
	}
	b.line(true)
}

func (b *Bar) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.textLocked()
}

func (b *Bar) textLocked() string {
	s := fmt.Sprintf("%d/%d", b.done, b.total)
	if b.note != "" {
		s += "  " + b.note
	}
	return s
}

// line writes a plain line when there is news, not too often.
func (b *Bar) line(last bool) {
	b.mu.Lock()
	percent := int64(0)
	if b.total > 0 {
		percent = min(100, b.done*100/b.total)
	}
	line := fmt.Sprintf("%-22s %3d%%  %s", b.name, percent, b.textLocked())
	now := b.group.now()
	if line == b.shown || !last && now.Sub(b.shownAt) < pause {
		b.mu.Unlock()
		return
	}
	b.shown, b.shownAt = line, now
	b.mu.Unlock()
	// Progress that cannot be written is no reason to stop the work.
	_, _ = fmt.Fprintln(b.group, line)
}
