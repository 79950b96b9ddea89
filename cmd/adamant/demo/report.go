package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// report is the last page of the story.
type report struct {
	verdict
	repair     repaired
	worst      time.Duration // longest that a write waited for its acknowledgement
	worstBegan time.Duration // after the start of the load
	killed     time.Duration // after the start of the load
	rate       float64       // deltas acknowledged per second of the load
	redirects  int64
	ambiguous  int64
	settled    int64
	elapsed    time.Duration
}

// ok reports whether everything acknowledged was found, everywhere.
func (r *report) ok() bool { return r.lost == 0 && len(r.problems) == 0 }

// write prints the table, and what is wrong.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-30s %s\n", name, fmt.Sprintf(format, args...))
	}
	p := &r.repair
	fmt.Fprintln(&b)
	row("documents", "%s", count(r.documents))
	row("acknowledged writes", "%s (%s deltas, %s/s)", count(r.writes), count(r.deltas), count(int(r.rate)))
	row("lost", "%s", count(r.lost))
	row("longest write unavailability", "%s (of a write begun %s)", short(r.worst), relative(r.worstBegan-r.killed))
	row("outcomes unknown at first", "%d, %d of them settled by the answer to a retry; redirects %d", r.ambiguous, r.settled, r.redirects)
	row("bytes repaired", "%s (%s deltas of %s documents; %s on the wire)", size(p.bytes), count(int(p.entries)), count(int(p.documents)), size(p.wire))
	row("repair MB/s", "%s (in %s)", rate(p.bytes, p.pulling), short(p.pulling))
	when := "after the load"
	if p.underLoad {
		when = "under load"
	}
	row("time to healthy", "%s (%s)", short(p.healthy), when)
	row("sent by Raft meanwhile", "%s of markers, %s of new commands", size(p.snapshots), size(p.commands))
	row("copies read and compared", "%s, and %s summary roots", count(r.copies), count(r.roots))
	row("whole demo", "%s", short(r.elapsed))
	if len(r.problems) > 0 {
		fmt.Fprintf(&b, "\n%s\n", quantity(len(r.problems), "problem"))
		for _, p := range r.problems[:min(len(r.problems), maxProblems)] {
			fmt.Fprintf(&b, "  %s\n", p)
		}
		if n := len(r.problems) - maxProblems; n > 0 {
			fmt.Fprintf(&b, "  and %s more\n", count(n))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// relative says when something was, relative to the kill.
func relative(d time.Duration) string {
	if d < 0 {
		return short(-d) + " before the kill"
	}
	return short(d) + " after the kill"
}

// size is a number of bytes for people, in powers of ten.
func size(n uint64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if f < 1000 {
			break
		}
		f, unit = f/1000, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// rate is bytes per second for people.
func rate(n uint64, d time.Duration) string {
	if d <= 0 {
		return "0.0 MB/s"
	}
	return fmt.Sprintf("%.1f MB/s", float64(n)/1e6/d.Seconds())
}

// short is a duration for people.
func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// count is a number with thousands set apart.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func quantity(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}
