package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/adamantdb/adamant"
)

// What a host lacks when it comes back: everything, so many documents, or a share of them ("12%").
const missingAll = "all"

// In which way it lacks documents.
const (
	kindMissing = "missing" // they were created meanwhile
	kindStale   = "stale"   // half of their deltas came meanwhile
	kindMixed   = "mixed"   // some of both
)

func repairFlags(s *settings, f *pflag.FlagSet) {
	engineFlags(s, f)
	f.Lookup("processes").Usage = "run each host in a process of its own, whose memory and death are then its alone"
	f.IntVar(&s.Documents, "docs", s.Documents, "documents, in all partitions together")
	f.IntVar(&s.Deltas, "deltas", s.Deltas, "deltas of each document")
	f.IntVar(&s.Size, "delta-size", s.Size, "bytes of a delta: redo and undo together")
	f.BoolVar(&s.Text, "text", s.Text, "write text, which repair compresses; otherwise random bytes, which it can not")
	f.StringVar(&s.Missing, "missing", s.Missing, "what the host lacks: all (its disk is empty), or so many documents, or a share of them such as 5%")
	f.Var(choice{&s.Kind, []string{kindMissing, kindStale, kindMixed}}, "kind", "how it lacks documents: missing, stale (half of their deltas), or mixed")
	f.Var(sourcesValue{s}, "sources", "other hosts, all of which hold what is missing: 1 to 7")
	f.DurationVar(&s.RoundTrip, "rtt", s.RoundTrip, "round trip between hosts, made by proxies in this process; 0 for loopback's own and no proxies")
	f.Float64Var(&s.Load, "load", s.Load, "repair once more and write meanwhile, at this share of what a closed loop reached before; 0 to leave it out")
	f.DurationVar(&s.Calibrate, "calibrate", s.Calibrate, "with --load: time to find that rate, and again to measure latencies before the repair")
	f.Int64Var(&s.Throttle, "throttle", s.Throttle, "bytes a second that repair is configured to pull at the most; 0 for no bound")
	f.BoolVar(&s.Kills, "kills", s.Kills, "repair twice more and kill the host when it has 50 % and 99 %, to see what is sent again")
	f.BoolVar(&s.Design, "design", s.Design, "measure the source design's own figures instead: a bucket, and a part of a partition")
	f.IntVar(&s.Scale, "design-scale", s.Scale, "with --design: fill one in so many of the partition's buckets; 1 makes 8.4 GB on each host")
}

// sourcesValue is the flag that sets how many hosts hold what one lacks, and with it the shape of the cluster. So many voters
// as there must be an odd number of them: the host that is repaired is one of them, or else a replica.
type sourcesValue struct{ s *settings }

func (v sourcesValue) String() string {
	if v.s == nil {
		return ""
	}
	return strconv.Itoa(v.s.Sources)
}
func (v sourcesValue) Type() string { return "int" }
func (v sourcesValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 7 {
		return fmt.Errorf("want 1 to 7")
	}
	v.s.Sources, v.s.Hosts, v.s.Voters = n, n+1, n+1-n%2
	return nil
}

func (s settings) checkMissing() error {
	n, err := s.missing()
	switch {
	case err != nil:
		return fmt.Errorf("--missing is %q: want all, a number of documents, or a share of them such as 5%%", s.Missing)
	case n < 1 || n > s.Documents:
		return fmt.Errorf("--missing is %q: that is %d of %d documents, want at least one and no more than there are", s.Missing, n, s.Documents)
	case s.partial() && s.Kind != kindMissing && s.Deltas < 2:
		return fmt.Errorf("--deltas is %d: want at least 2, half of a stale document is there", s.Deltas)
	case !s.partial() && s.Kind != kindMissing:
		return fmt.Errorf("--kind is %q: a host that lacks all has no stale documents, --missing says how many it lacks", s.Kind)
	case s.Design && s.partial():
		return fmt.Errorf("--missing is %q: --design repairs an empty host", s.Missing)
	case s.Design:
		return s.checkDesign()
	}
	return nil
}

// missing is how many documents the host lacks, in part or as a whole.
func (s settings) missing() (int, error) {
	if s.Missing == missingAll {
		return s.Documents, nil
	}
	if share, ok := strings.CutSuffix(s.Missing, "%"); ok {
		v, err := strconv.ParseFloat(share, 64)
		if err == nil && !(v > 0 && v <= 100) {
			err = strconv.ErrRange
		}
		return int(v / 100 * float64(s.Documents)), err
	}
	return strconv.Atoi(s.Missing)
}

// partial says whether the host has something when it comes back.
func (s settings) partial() bool { return s.Missing != missingAll }

// Logs must forget what the host lacks, or else Raft would bring it. They keep so few entries that some hundred small
// commands replace them.
const (
	forgetTrailing = 512
	forgetMarker   = 64
	forgetTick     = 100 * time.Millisecond
)

func forgetful(o *adamant.Options) {
	o.Limits.TrailingLogs, o.Limits.MarkerEvery, o.Timing.TruncationTick = forgetTrailing, forgetMarker, forgetTick
}

// split shares documents out: those that are whole before the host goes, and of those that follow, which it has a half of
// and which not at all. They are numbers, from 0.
func (s settings) split() (before, stale, absent []placed) {
	n, _ := s.missing() // checked
	for i := range s.Documents {
		p := placed{Number: i}
		late := i - (s.Documents - n)
		switch {
		case !s.partial() || late < 0:
			before = append(before, p)
		case s.Kind == kindStale || s.Kind == kindMixed && late%2 == 1:
			stale = append(stale, p)
		default:
			absent = append(absent, p)
		}
	}
	return before, stale, absent
}
