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
	clusterFlags(s, f)
	f.Lookup("processes").Usage = "run each host in a process of its own"
	f.IntVar(&s.Documents, "docs", s.Documents, "documents, in all partitions together")
	f.IntVar(&s.Deltas, "deltas", s.Deltas, "deltas of each document")
	f.IntVar(&s.Size, "delta-size", s.Size, "bytes of a delta: redo and undo together")
	f.StringVar(&s.Missing, "missing", s.Missing, "what the host lacks: all (its disk is empty), or so many documents, or a share of them such as 5%")
	f.Var(choice{&s.Kind, []string{kindMissing, kindStale, kindMixed}}, "kind", "how it lacks documents: missing, stale (half of their deltas), or mixed")
}

func (s settings) checkMissing() error {
	n, err := s.missing()
	switch {
	case err != nil:
		return fmt.Errorf("--missing is %q: want all, a number of documents, or a share of them such as 5%%", s.Missing)
	case n < 1 || n > s.Documents:
		return fmt.Errorf("--missing is %q: that is %d of %d documents, want at least one and no more than there are", s.Missing, n, s.Documents)
	case s.Voters < 3:
		return fmt.Errorf("--voters is %d: want at least 3, the others go on without the one that is repaired", s.Voters)
	case s.Voters != s.Hosts:
		return fmt.Errorf("--voters is %d: want as many as --hosts, which is %d, so that the host lacks what is missing", s.Voters, s.Hosts)
	case s.partial() && s.Kind != kindMissing && s.Deltas < 2:
		return fmt.Errorf("--deltas is %d: want at least 2, half of a stale document is there", s.Deltas)
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
