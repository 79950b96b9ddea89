package adamant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A conformance case is a script against one document. Lines are "operation arguments => result"; those below "--" change
// nothing, or nothing that is not so already, and must give the same results after a restart, after a change of the
// leader, and on a member that anti-entropy rebuilt. There the whole script is also run anew, on a document of its own.
//
// The delta of the seqs a to b has the redo {"v":b,"kb":b} and the undo {"v":a-1,"kb":null}.
var conformance = []namedScript{
	{"create takes any seq range", `
		create 5-7 => ok
		--
		get => {"k7":7,"v":7} head 7
		patch 4 => {"k7":7,"v":7}
		patch 0 => {"k7":7,"v":7}
		rewind 4 => {"k7":null,"v":4}
		rewind 7 => {}
		create 5-7 => exists
		create 1 => exists`},
	{"append of the next seq", `
		create 1 => ok
		append 2 => head 2
		append 3,4,5 => head 5
		--
		get => {"k1":1,"k2":2,"k3":3,"k4":4,"k5":5,"v":5} head 5
		log => 1 2 3 4 5`},
	{"append of a duplicate is acknowledged again", `
		create 1 => ok
		append 2,3 => head 3
		--
		append 2,3 => head 3
		append 3 => head 3
		append 2 => head 3
		log => 1 2 3`},
	{"append of other bytes at a stored seq", `
		create 1 => ok
		append 2,3 => head 3
		--
		appendother 3 => mismatch 3
		append 2-3 => mismatch 3
		get => {"k1":1,"k2":2,"k3":3,"v":3} head 3`},
	{"append that is half a duplicate", `
		create 1 => ok
		append 2 => head 2
		--
		append 2,3 => mismatch 2`},
	{"append of a gap", `
		create 1 => ok
		--
		append 3 => mismatch 1
		append 1-2 => mismatch 1
		append 0 => mismatch 1`},
	{"append of [n+1, n+3]", `
		create 1 => ok
		append 2-4 => head 4
		--
		get => {"k1":1,"k4":4,"v":4} head 4
		patch 1 => {"k4":4,"v":4}
		patch 2 => {"k4":4,"v":4}
		patch 3 => {"k4":4,"v":4}
		patch 4 => {}
		patch 5 => future 787507
		rewind 1 => {"k4":null,"v":1}
		append 3 => mismatch 4`},
	{"append of what does not fit together", `
		create 1 => ok
		--
		append => invalid
		append 2,4 => invalid
		append 2,2 => invalid
		append 3-2 => invalid
		get => {"k1":1,"v":1} head 1`},
	{"nothing there", `
		--
		get => notfound
		patch 0 => notfound
		rewind 0 => notfound
		append 1 => notfound
		compact 1 1 => notfound
		compact 1 0 => history
		replace 1 => notfound
		delete => ok
		log => notfound`},
	{"compaction above the head", `
		create 1 => ok
		append 2 => head 2
		--
		compact 3 1 => future 729311
		compact 2 0 => history
		compact 2 -1 => history
		get => {"k1":1,"k2":2,"v":2} head 2`},
	{"compaction older than the present base changes nothing", `
		create 1 => ok
		append 2,3,4,5 => head 5
		compact 4 2 => ok
		compact 3 1 => ok
		--
		get => {"base":4,"k5":5,"v":5} head 5
		log => 3 4 5
		patch 2 => {"k3":3,"k4":4,"k5":5,"v":5}
		patch 1 => horizon 787507
		rewind 1 => horizon 791602
		compact 2 1 => ok`},
	{"compaction again at the same seq may trim more", `
		create 1 => ok
		append 2,3,4,5 => head 5
		compact 5 3 => ok
		compact 5 1 => ok
		compact 5 100 => ok
		--
		get => {"base":5} head 5
		log => 5`},
	{"compaction, then more deltas", `
		create 1 => ok
		append 2,3 => head 3
		compact 3 1 => ok
		append 4 => head 4
		--
		get => {"base":3,"k4":4,"v":4} head 4
		patch 3 => {"k4":4,"v":4}
		rewind 3 => {"k4":null,"v":3}
		rewind 2 => {"k3":null,"k4":null,"v":2}
		append 4 => head 4
		append 2 => mismatch 4`},
	{"compaction inside of a delta's range", `
		create 1 => ok
		append 2-4 => head 4
		compact 3 1 => ok
		--
		get => {"base":3,"k4":4,"v":4} head 4
		log => 1 4`},
	{"replace to a lower seq", `
		create 1 => ok
		append 2,3,4 => head 4
		replace 2 => ok
		--
		get => {"base":2} head 2
		patch 2 => {}
		patch 1 => horizon 787507
		patch 3 => future 787507
		rewind 2 => {}
		rewind 1 => horizon 791602
		rewind 3 => future 791602
		append 4 => mismatch 2
		log => `},
	{"replace, then append", `
		create 1 => ok
		replace 9 => ok
		append 10 => head 10
		--
		get => {"base":9,"k10":10,"v":10} head 10
		rewind 9 => {"k10":null,"v":9}`},
	{"create after delete", `
		create 1 => ok
		append 2,3 => head 3
		delete => ok
		get => notfound
		append 4 => notfound
		create 1 => ok
		--
		get => {"k1":1,"v":1} head 1
		log => 1
		append 3 => mismatch 1`},
	{"delete stays deleted", `
		create 1 => ok
		append 2 => head 2
		compact 2 1 => ok
		delete => ok
		delete => ok
		--
		get => notfound
		delete => ok
		log => notfound`},
	{"close and read again", `
		create 1 => ok
		append 2 => head 2
		close => ok
		--
		get => {"k1":1,"k2":2,"v":2} head 2
		close => ok
		get => {"k1":1,"k2":2,"v":2} head 2
		append 2 => head 2`},
	{"nulls stay in merged patches and remove from documents", `
		createraw 1 {"a":{"x":1,"y":2},"b":3} {"a":null,"b":null} => ok
		appendraw 2 {"a":{"x":null}} {"a":{"x":1}} => head 2
		appendraw 3 {"b":null,"c":{"d":null,"e":5}} {"b":3,"c":null} => head 3
		--
		get => {"a":{"y":2},"c":{"e":5}} head 3
		patch 1 => {"a":{"x":null},"b":null,"c":{"d":null,"e":5}}
		rewind 1 => {"a":{"x":1},"b":3,"c":null}`},
	{"bytes that are not JSON", `
		createraw 1 hello world => ok
		appendraw 2 {"a":1} {"a":null} => head 2
		--
		get => notjson
		patch 0 => notjson
		patch 1 => {"a":1}
		log => 1 2`},
}

func TestConformance(t *testing.T) {
	gate := new(syncGate)
	c := newTestCluster(t, 4, 3, 3, func(o *Options) {
		o.FS = gate.fs()
		o.Limits = Limits{DeltaBytes: 1000, CommandBytes: 2000, DocumentBytes: 4000, InFlight: 64, TrailingLogs: 70, MarkerEvery: 20}
	})
	c.ready()
	var scripts, boundaries []*scriptCase
	for i, s := range slices.Concat(conformance, limitCases()) {
		scripts = append(scripts, parseScript(t, fmt.Sprintf("case-%d", i), s.name, s.script))
	}
	for i, s := range boundaryCases() {
		boundaries = append(boundaries, parseScript(t, fmt.Sprintf("ten-%d", i), s.name, s.script))
	}
	all := slices.Concat(scripts, boundaries)
	c.runAll("first run", all, func(s *scriptCase) []scriptLine { return s.before })
	phases := 0
	again := func(phase string) {
		t.Helper()
		phases++
		c.runAll(phase, all, func(s *scriptCase) []scriptLine { return s.after })
		var anew []*scriptCase
		for _, s := range scripts {
			next := *s
			next.key.Key = fmt.Sprintf("%s-%d", s.key.Key, phases)
			anew = append(anew, &next)
		}
		c.runAll(phase+", anew", anew, func(s *scriptCase) []scriptLine { return slices.Concat(s.before, s.after) })
		c.keyLimits(phase)
		c.overlappingAppends(phase, gate)
		if t.Failed() {
			t.FailNow()
		}
	}
	again("at first")
	c.moveLeaders()
	again("after a change of every leader")
	for _, name := range c.config.HostNames() {
		if err := c.host(name).Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range c.config.HostNames() {
		c.open(name)
	}
	c.ready()
	again("after a restart of all hosts")
	for _, name := range c.config.HostNames() {
		c.kill(name)
		c.wipe(name)
		c.open(name)
		c.healthy()
		c.leadEverything(name)
		again("led by " + name + ", rebuilt by anti-entropy")
	}
}

// runAll runs lines of every case, a few cases at a time.
func (c *testCluster) runAll(phase string, cases []*scriptCase, lines func(*scriptCase) []scriptLine) {
	c.t.Helper()
	var wg sync.WaitGroup
	work := make(chan *scriptCase)
	for range 32 {
		wg.Go(func() {
			for s := range work {
				c.runLines(s, phase, lines(s))
			}
		})
	}
	for _, s := range cases {
		work <- s
	}
	close(work)
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// moveLeaders hands every partition to another voter.
func (c *testCluster) moveLeaders() {
	c.t.Helper()
	for _, p := range c.config.Partitions {
		c.wait("a transfer", func() error {
			for name, h := range c.live() {
				for _, s := range h.Status().Partitions {
					if s.ID != p.ID || !s.Serving {
						continue
					}
					for _, v := range p.Voters {
						if v != name {
							return h.Transfer(testContext(c.t), p.ID, v)
						}
					}
				}
			}
			return errors.New("nobody serves")
		})
	}
	c.ready()
}

// leadEverything makes a host serve each partition it is a voter of.
func (c *testCluster) leadEverything(name string) {
	c.t.Helper()
	for _, p := range c.config.Partitions {
		if !p.HasVoter(name) {
			continue
		}
		c.wait("leadership of "+name, func() error {
			for other, h := range c.live() {
				for _, s := range h.Status().Partitions {
					if s.ID != p.ID || !s.Serving {
						continue
					}
					if other == name {
						return nil
					}
					if err := h.Transfer(testContext(c.t), p.ID, name); err != nil {
						return err
					}
				}
			}
			return errors.New("not yet")
		})
	}
}

type namedScript struct{ name, script string }

type scriptLine struct{ op, args, want string }

type scriptCase struct {
	name          string
	key           Key
	before, after []scriptLine
}

func parseScript(t *testing.T, id, name, script string) *scriptCase {
	s := &scriptCase{name: name, key: Key{Space: "conformance", Key: id}}
	into := &s.before
	for _, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "--" {
			into = &s.after
			continue
		}
		if line == "" {
			continue
		}
		text, want, ok := strings.Cut(line, "=>")
		if !ok {
			t.Fatalf("%s: line %q", name, line)
		}
		op, args, _ := strings.Cut(strings.TrimSpace(text), " ")
		*into = append(*into, scriptLine{op, args, strings.TrimSpace(want)})
	}
	return s
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (c *testCluster) runLines(s *scriptCase, phase string, lines []scriptLine) {
	for _, l := range lines {
		got := c.runLine(s.key, l)
		if got != l.want {
			c.t.Errorf("%s: %s: %s %s\n\tgot  %s\n\twant %s", phase, s.name, l.op, l.args, got, l.want)
			return
		}
	}
}

// runLine executes one line at the leader and returns its result as text.
func (c *testCluster) runLine(key Key, l scriptLine) string {
	var out string
	unsure := false // an attempt had an unknown outcome
	err := c.on(key, func(h *Host) (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		out, err = execute(ctx, h, key, l)
		if unsure && strings.HasPrefix(l.op, "create") && errors.As(err, new(*ExistsError)) {
			err = nil // an attempt of unknown outcome has made it
		}
		if unsure && l.op == "delete" && errors.As(err, new(*NotFoundError)) {
			err = nil // the same
		}
		unsure = unsure || errors.As(err, new(*AmbiguousError))
		return err
	})
	if err != nil {
		return errorText(err)
	}
	return out
}

func execute(ctx context.Context, h *Host, key Key, l scriptLine) (string, error) {
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	fields := strings.Fields(l.args)
	switch l.op {
	case "create":
		return "ok", h.Create(ctx, key, scriptDeltas(l.args, "")[0])
	case "append":
		head, err := h.Append(ctx, key, scriptDeltas(l.args, ""))
		return fmt.Sprintf("head %d", head), err
	case "appendother":
		head, err := h.Append(ctx, key, scriptDeltas(l.args, "other"))
		return fmt.Sprintf("head %d", head), err
	case "createraw":
		return "ok", h.Create(ctx, key, Delta{SeqBegin: number(fields[0]), SeqEnd: number(fields[0]), Redo: []byte(fields[1]), Undo: []byte(fields[2])})
	case "appendraw":
		head, err := h.Append(ctx, key, []Delta{{SeqBegin: number(fields[0]), SeqEnd: number(fields[0]), Redo: []byte(fields[1]), Undo: []byte(fields[2])}})
		return fmt.Sprintf("head %d", head), err
	case "createsized":
		return "ok", h.Create(ctx, key, sizedDelta(number(fields[0]), int(number(fields[1]))))
	case "appendsized": // the seq of the first, and the sizes
		var list []Delta
		for i, size := range fields[1:] {
			list = append(list, sizedDelta(number(fields[0])+int64(i), int(number(size))))
		}
		head, err := h.Append(ctx, key, list)
		return fmt.Sprintf("head %d", head), err
	case "compactsized":
		return "ok", h.Compact(ctx, key, number(fields[0]), make([]byte, number(fields[1])), int(number(fields[2])))
	case "replacesized":
		return "ok", h.Replace(ctx, key, number(fields[0]), make([]byte, number(fields[1])))
	case "compact":
		return "ok", h.Compact(ctx, key, number(fields[0]), []byte(`{"base":`+fields[0]+`}`), int(number(fields[1])))
	case "replace":
		return "ok", h.Replace(ctx, key, number(fields[0]), []byte(`{"base":`+fields[0]+`}`))
	case "delete":
		return "ok", h.Delete(ctx, key)
	case "close":
		h.CloseDocument(key)
		return "ok", nil
	case "get":
		d, err := h.Get(ctx, key)
		return fmt.Sprintf("%s head %d", canonical(d.JSON), d.Head), err
	case "patch":
		d, err := h.HeadPatch(ctx, key, number(fields[0]))
		return canonical(d.JSON), err
	case "rewind":
		d, err := h.Rewind(ctx, key, number(fields[0]))
		return canonical(d.JSON), err
	case "log":
		var ends []string
		for e, err := range h.Log(ctx, key) {
			if err != nil {
				return "", err
			}
			ends = append(ends, fmt.Sprint(e.Delta.SeqEnd))
		}
		return strings.Join(ends, " "), nil
	}
	panic("unknown operation " + l.op)
}

func scriptDeltas(args, mark string) []Delta {
	var list []Delta
	for _, r := range strings.FieldsFunc(args, func(r rune) bool { return r == ',' || r == ' ' }) {
		from, to, ok := strings.Cut(r, "-")
		if !ok {
			to = from
		}
		a, _ := strconv.ParseInt(from, 10, 64)
		b, _ := strconv.ParseInt(to, 10, 64)
		list = append(list, Delta{SeqBegin: a, SeqEnd: b, Redo: fmt.Appendf(nil, `{"v":%d,"k%d":%d}`, b, b, b), Undo: fmt.Appendf(nil, `{"v":%d,"k%d":null}`, a-1, b), Who: mark})
	}
	return list
}

func canonical(b []byte) string {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return string(b)
	}
	return marshal(v)
}

func errorText(err error) string {
	var mismatch *SeqMismatchError
	switch {
	case errors.As(err, &mismatch):
		return fmt.Sprintf("mismatch %d", mismatch.Head)
	case errors.As(err, new(*ExistsError)):
		return "exists"
	case errors.As(err, new(*NotFoundError)):
		return "notfound"
	case errors.As(err, new(*InvalidError)):
		return "invalid"
	case errors.As(err, new(*HistoryError)):
		return "history"
	case errors.As(err, new(*HorizonError)):
		return fmt.Sprint("horizon ", Code(err))
	case errors.As(err, new(*FutureError)):
		return fmt.Sprint("future ", Code(err))
	case errors.As(err, new(*TooLargeError)):
		return "toolarge"
	case errors.As(err, new(*KeyError)):
		return "key"
	case errors.As(err, new(*NotJSONError)):
		return "notjson"
	}
	return err.Error()
}
