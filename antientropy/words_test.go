package antientropy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/adamantdb/adamant/internal/interval"
)

// words are the key=value words of a line of a story.
type words struct {
	m    map[string]string
	call uint64 // as read by result
	err  error
}

// parseWords splits at spaces outside of brackets.
func parseWords(s string) (*words, error) {
	w := &words{m: map[string]string{}}
	depth, word := 0, ""
	flush := func() {
		if word != "" {
			k, v, _ := strings.Cut(word, "=")
			w.m[k] = v
			word = ""
		}
	}
	for _, r := range s {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ' ' && depth == 0:
			flush()
			continue
		}
		word += string(r)
	}
	flush()
	if depth != 0 {
		return nil, fmt.Errorf("brackets in %q", s)
	}
	return w, nil
}

func (w *words) fail(err error) {
	if w.err == nil && err != nil {
		w.err = err
	}
}

func (w *words) end() error {
	if w.err == nil && len(w.m) > 0 {
		return fmt.Errorf("unknown words %v", slices.Sorted(maps.Keys(w.m)))
	}
	return w.err
}

func (w *words) take(k string) string {
	v := w.m[k]
	delete(w.m, k)
	return v
}

func (w *words) flag(k string) bool {
	_, ok := w.m[k]
	delete(w.m, k)
	return ok
}

func (w *words) uint64(k string, to *uint64) {
	if v := w.take(k); v != "" {
		n, err := strconv.ParseUint(v, 0, 64)
		w.fail(err)
		*to = n
	}
}

func (w *words) int(k string, to *int) {
	n := uint64(*to)
	w.uint64(k, &n)
	*to = int(n)
}

func (w *words) int64(k string, to *int64) {
	n := uint64(*to)
	w.uint64(k, &n)
	*to = int64(n)
}

func (w *words) duration(k string, to *time.Duration) {
	if v := w.take(k); v != "" {
		d, err := time.ParseDuration(v)
		w.fail(err)
		*to = d
	}
}

func (w *words) partition() uint32 {
	n := 0
	w.int("p", &n)
	return uint32(n)
}

// set reads "[1,5][9,9]".
func (w *words) set(k string) interval.Set {
	return w.parseSet(w.take(k))
}

func (w *words) parseSet(v string) interval.Set {
	var s interval.Set
	for _, r := range strings.FieldsFunc(v, func(r rune) bool { return r == '[' || r == ']' || r == ' ' }) {
		first, last, _ := strings.Cut(r, ",")
		a, err := strconv.ParseUint(first, 10, 64)
		w.fail(err)
		b, err := strconv.ParseUint(last, 10, 64)
		w.fail(err)
		s = s.Union(interval.Of(a, b))
	}
	return s
}

// buckets reads "3,7-9" or "all".
func (w *words) buckets(k string) []uint8 { return w.parseBuckets(w.take(k)) }

func (w *words) parseBuckets(v string) []uint8 {
	var list []uint8
	if v == "all" {
		v = "0-255"
	}
	for _, part := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' }) {
		first, last, found := strings.Cut(part, "-")
		if !found {
			last = first
		}
		a, err := strconv.Atoi(first)
		w.fail(err)
		b, err := strconv.Atoi(last)
		w.fail(err)
		for ; a <= b; a++ {
			list = append(list, uint8(a))
		}
	}
	return list
}

// healed reads "0-127:[1,5];200:[1,3]".
func (w *words) healed(k string) map[uint8]interval.Set {
	m := map[uint8]interval.Set{}
	for _, part := range strings.FieldsFunc(w.take(k), func(r rune) bool { return r == ';' }) {
		buckets, set, _ := strings.Cut(part, ":")
		for _, b := range w.parseBuckets(buckets) {
			m[b] = w.parseSet(set)
		}
	}
	return m
}

func (w *words) peers() []Peer {
	var list []Peer
	for _, v := range strings.FieldsFunc(w.take("peers"), func(r rune) bool { return r == ',' }) {
		name, state, _ := strings.Cut(v, ":")
		list = append(list, Peer{Host: name, Complete: state == "", Alive: state != "dead"})
	}
	return list
}

func (w *words) failure(v string) failure {
	for f := none; f <= diverged; f++ {
		if f.String() == v {
			return f
		}
	}
	w.fail(fmt.Errorf("failure %q", v))
	return none
}

func (w *words) result() result {
	r := result{Took: time.Millisecond}
	w.uint64("call", &r.Call)
	w.call = r.Call
	w.duration("took", &r.Took)
	w.int("bytes", &r.Bytes)
	if v := w.take("fail"); v != "" {
		r.Failure = w.failure(v)
	}
	return r
}

// finished reads buckets, in order, and what they are healed of.
func (w *words) finished() (list []finishedBucket) {
	for b, set := range w.healed("finished") {
		list = append(list, finishedBucket{b, set})
	}
	slices.SortFunc(list, func(a, b finishedBucket) int { return int(a.Bucket) - int(b.Bucket) })
	return list
}

func (w *words) failed() []failedBucket {
	var list []failedBucket
	for _, part := range strings.FieldsFunc(w.take("failed"), func(r rune) bool { return r == ';' }) {
		buckets, why, _ := strings.Cut(part, ":")
		for _, b := range w.parseBuckets(buckets) {
			list = append(list, failedBucket{b, w.failure(why)})
		}
	}
	return list
}

func (w *words) compared() compared {
	c := compared{result: w.result(), Unable: w.flag("unable"), Differ: w.buckets("differ"), Coverage: w.set("coverage")}
	switch v := w.take("outcome"); v {
	case "", "same":
		c.Outcome = sameRoot
	case "other":
		c.Outcome = otherRoot
	case "elsewhere":
		c.Outcome = elsewhere
	case "unavailable":
		c.Outcome = unavailable
	default:
		w.fail(fmt.Errorf("outcome %q", v))
	}
	w.uint64("index", &c.Index)
	switch v := w.take("truth"); v {
	case "", "both":
		c.Mine, c.Theirs = true, true
	case "mine":
		c.Mine = true
	case "theirs":
		c.Theirs = true
	case "none":
	default:
		w.fail(fmt.Errorf("truth %q", v))
	}
	w.int64("missing", &c.Missing)
	if v := w.take("docs"); v != "" {
		n, err := strconv.Atoi(v)
		w.fail(err)
		c.Docs = new([256]int)
		for i := range c.Docs {
			c.Docs[i] = n
		}
	}
	return c
}
