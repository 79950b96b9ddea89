package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant/internal/progress"
	"github.com/adamantdb/adamant/internal/traces"
)

// ErrLost is what Run returns when something acknowledged is missing or differs.
var ErrLost = errors.New("not everything that was acknowledged was found")

// Run tells the whole story and returns nil only if everything acknowledged was found everywhere.
func Run(ctx context.Context, options Options) error {
	o, err := options.withDefaults()
	if err != nil {
		return err
	}
	scripts, err := o.scripts()
	if err != nil {
		return err
	}
	dir, keep := o.Dir, o.Dir != ""
	if !keep {
		if dir, err = os.MkdirTemp("", "adamant-demo-"); err != nil {
			return err
		}
	} else if err := emptyDir(dir); err != nil {
		return err
	}
	interrupt := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("the demo's limit of %v is over", o.Limit))
	defer cancel()
	s := &story{o: o, dir: dir, scripts: scripts, begun: time.Now()}
	err = s.tell(ctx)
	switch {
	case interrupt.Err() != nil:
		err = errors.New("interrupted")
		if !keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	case keep || err != nil:
		s.say("\nEverything the hosts wrote, and their log, is in %s\n", dir)
	default:
		err = os.RemoveAll(dir)
	}
	return err
}

// emptyDir makes the directory the demo shall keep. It refuses one with something in it.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("directory %s is not empty: the demo starts from nothing", dir)
	}
	return nil
}

// scripts are the documents to write.
func (o *Options) scripts() ([]script, error) {
	var list []script
	copies := map[string]int{} // by name: two files may have the same
	for _, path := range o.Traces {
		t, err := traces.Open(path)
		if err != nil {
			return nil, err
		}
		for range o.Copies {
			copies[t.Name]++
			list = append(list, newTyped(t, copies[t.Name]))
		}
	}
	for i := range o.Documents {
		list = append(list, newGame(i, o.Seed))
	}
	return list, nil
}

// story is one run of the demo.
type story struct {
	o       Options
	dir     string
	scripts []script
	begun   time.Time

	cluster *cluster
	client  *client
	load    *load
	report  report
}

func (s *story) say(format string, args ...any) {
	// A story that cannot be printed is still worth its exit status.
	_, _ = fmt.Fprintf(s.o.Out, format, args...)
}

// phase announces a part of the story.
func (s *story) phase(format string, args ...any) {
	s.say("\n[%5.1fs] %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) tell(ctx context.Context) (err error) {
	logFile, err := os.Create(filepath.Join(s.dir, "hosts.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	logger := slog.New(slog.NewTextHandler(logFile, nil))
	if s.cluster, err = newCluster(s.dir, s.o, logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cluster.close()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.survive(ctx); err != nil {
		return err
	}
	return s.judge(ctx)
}

func (s *story) start(ctx context.Context) error {
	c := s.cluster
	s.phase("Starting %d hosts: %s, 3 voters each", s.o.Hosts, quantity(s.o.Partitions, "partition"))
	f := c.config.Figures()
	s.say("         every host: %d to %d members, %d to %d preferred leaders; cluster file %s\n", f.Members.Min, f.Members.Max, f.Leaders.Min, f.Leaders.Max, c.file)
	begun := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	s.say("         every partition has a serving leader after %s\n", short(time.Since(begun)))
	return nil
}

// survive is the heart of it: load, a crash, more load, an empty replacement, its repair.
func (s *story) survive(ctx context.Context) error {
	s.client = &client{nodes: s.cluster.nodes, try: 2 * time.Second, read: time.Minute}
	s.load = newLoad(s.client, s.scripts, s.o.Writers, s.o.Batch)
	s.phase("Writing %s with %s", quantity(len(s.scripts), "document"), quantity(s.load.writers, "writer"))
	ended := make(chan error, 1)
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	go func() { ended <- s.load.run(loading) }()
	giveUp := func(cause error) error { // the writers must be gone before the hosts are
		cancel()
		return errors.Join(cause, <-ended)
	}
	w := &watch{story: s, begun: begun}

	w.until(ctx, s.o.Load, 0.3)
	victim := s.cluster.busiest(s.load.records)
	s.report.killed = time.Since(begun)
	s.phase("Killing %s without warning, the leader of most of what is being written", victim)
	if err := s.cluster.kill(victim); err != nil {
		return giveUp(err)
	}
	w.until(ctx, s.o.Load, 0.6)

	s.phase("Starting an empty replacement of %s", victim)
	started := time.Now()
	if err := s.cluster.run(victim); err != nil {
		return giveUp(err)
	}
	return s.mend(ctx, victim, started, w, ended)
}

// mend lets the load go on while the replacement is healed, and waits for both.
func (s *story) mend(ctx context.Context, victim string, started time.Time, w *watch, loaded <-chan error) error {
	bars := progress.New(s.o.Out, s.o.Terminal)
	defer bars.Close()
	out := s.o.Out
	s.o.Out = bars // lines appear above the bars
	defer func() { s.o.Out = out }()
	type outcome struct {
		repaired
		err error
	}
	healed := make(chan outcome, 1)
	healing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		r, err := s.cluster.heal(healing, victim, started, bars)
		healed <- outcome{r, err}
	}()
	w.until(ctx, s.o.Load, 1)
	s.load.end()
	w.until(ctx, s.o.Limit, 2) // replays go on to their end
	err := <-loaded
	loadTime := time.Since(w.begun)
	if err != nil {
		stop(errors.New("the load failed"))
	}
	s.say("         load ended after %s: %s deltas acknowledged\n", short(loadTime), count(int(s.load.acked.Load())))
	h := <-healed
	if err := errors.Join(err, h.err); err != nil {
		return err
	}
	s.report.repair = h.repaired
	s.report.repair.underLoad = started.Add(h.healthy).Before(w.begun.Add(loadTime))
	s.report.rate = float64(s.load.acked.Load()) / loadTime.Seconds()
	s.report.worst, s.report.worstBegan = s.load.cadence.worst()
	s.report.redirects, s.report.ambiguous, s.report.settled = s.client.redirects.Load(), s.client.ambiguous.Load(), s.client.settled.Load()
	s.say("         %s is whole after %s: healed by anti-entropy, a voter again everywhere\n", victim, short(h.healthy))
	return nil
}

// watch prints what every second of the load brought.
type watch struct {
	story *story
	begun time.Time
	next  int // first second that is not printed yet
}

// span is how many seconds the next line covers: a long load shall not fill the screen.
func (w *watch) span() int {
	if w.next < 20 {
		return 1
	}
	return 10
}

func (w *watch) line() {
	var sum second
	first, n := w.next+1, w.span()
	for range n {
		sum.add(w.story.load.cadence.at(w.next))
		w.next++
	}
	when := fmt.Sprintf("second %d", first)
	if n > 1 {
		when = fmt.Sprintf("seconds %d to %d", first, w.next)
	}
	w.story.say("         %-17s %6s writes, %7s deltas, slowest %s\n", when, count(sum.writes), count(sum.deltas), short(sum.slowest))
}

// until waits for a time, or for a share of a load that has an end.
func (w *watch) until(ctx context.Context, d time.Duration, share float64) {
	total := w.story.load.total()
	deadline := time.Now().Add(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && !w.story.load.over() {
		now := time.Now()
		acked := w.story.load.acked.Load()
		for w.begun.Add(time.Duration(w.next+w.span()) * time.Second).Before(now) {
			w.line()
		}
		if total > 0 && float64(acked) >= share*float64(total) || total == 0 && now.After(deadline) {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// judge reads everything back and prints the last page.
func (s *story) judge(ctx context.Context) error {
	s.phase("Reading every document back: from its leader, and from each member alone")
	rest, cancel := context.WithTimeout(ctx, 30*time.Second)
	s.report.verdict = s.cluster.settle(rest)
	cancel()
	v := &verifier{client: s.client, members: s.cluster.members}
	bars := progress.New(s.o.Out, s.o.Terminal)
	bar := bars.Bar("  documents read")
	total, n := int64(len(s.load.records)), make(chan struct{}, len(s.load.records))
	found := v.documents(ctx, s.load.records, func() {
		n <- struct{}{}
		bar.Set(int64(len(n)), total, "")
	})
	bar.Finish()
	bars.Close()
	s.report.add(found)
	s.report.elapsed = time.Since(s.begun)
	if err := s.report.write(s.o.Out); err != nil {
		return err
	}
	if !s.report.ok() {
		return ErrLost
	}
	return nil
}
