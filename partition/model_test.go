package partition

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamantdb/adamant/store"
)

var (
	modelDepth = flag.Int("model.depth", 0, "search the larger models up to so many steps; -1: all of their states")
	modelOnly  = flag.String("model.only", "", "search only the models whose name contains this")
)

var (
	growing = []store.Kind{store.Create, store.Append}
	coming  = []store.Kind{store.Create, store.Delete}
	living  = []store.Kind{store.Create, store.Append, store.Delete}
	shaping = []store.Kind{store.Create, store.Append, store.Compact, store.Replace}
)

// setup describes a model.
type setup struct {
	name    string
	voters  int
	docs    int          // each in a bucket of its own; 0: one
	kinds   []store.Kind // of commands; nil: all
	limit   limits
	slow    bool   // answers take time
	alone   bool   // heal with each majority alone
	joining string // "": nobody; "disk": the last voter's host under a new incarnation; "host": another host in its place
}

func (s setup) model(broken string) *model {
	docs := max(1, s.docs)
	m := &model{universe: newUniverse(broken, docs, 1<<s.voters-1), voters: s.voters, docs: docs, limit: s.limit, slow: s.slow,
		alone: s.alone, kinds: s.kinds, settledSeen: map[settled]bool{}}
	switch s.joining {
	case "disk":
		m.newcomer, m.desired = "h2@2", Desired{Voters: []string{"h0", "h1", "h2"}}
	case "host":
		m.newcomer, m.desired = "h3@1", Desired{Voters: []string{"h0", "h1", "h3"}}
	}
	return m
}

// models are small enough that all of their states are visited in seconds.
var models = []setup{
	{name: "leaders", voters: 3, kinds: growing, alone: true, limit: limits{commands: 2, elections: 2, markers: 2}},
	{name: "crashes", voters: 3, kinds: growing, alone: true, limit: limits{commands: 2, elections: 1, markers: 2, crashes: 1}},
	{name: "union", voters: 3, kinds: living, alone: true, limit: limits{commands: 3, markers: 3}},
	{name: "commands", voters: 3, limit: limits{commands: 3, markers: 1, sessions: 1}},
	{name: "holes", voters: 3, kinds: living, limit: limits{commands: 3, markers: 2, sessions: 1}},
	{name: "again", voters: 3, kinds: coming, limit: limits{commands: 4, markers: 1, sessions: 1}},
	{name: "pulls", voters: 3, kinds: living, limit: limits{commands: 3, markers: 1, sessions: 2}},
	{name: "slow pulls", voters: 3, kinds: living, slow: true, limit: limits{commands: 3, markers: 1, sessions: 1}},
	{name: "crashing pulls", voters: 3, kinds: coming, limit: limits{commands: 3, markers: 1, crashes: 1, sessions: 1}},
	{name: "buckets", voters: 3, docs: 2, kinds: coming, limit: limits{commands: 2, markers: 1, sessions: 2}},
	{name: "lost disk", voters: 3, kinds: growing, joining: "disk", limit: limits{commands: 1, elections: 1, wipes: 1, joins: 1, changes: 3, sessions: 1}},
	{name: "another host", voters: 3, kinds: growing, joining: "host", limit: limits{commands: 1, joins: 1, changes: 3, markers: 1, sessions: 1}},
	{name: "elected and deleted", voters: 3, kinds: coming, limit: limits{commands: 3, elections: 1, markers: 1, sessions: 1}},
	{name: "five", voters: 5, kinds: growing, alone: true, limit: limits{commands: 2, markers: 2}},
	{name: "five leaders", voters: 5, kinds: growing, limit: limits{commands: 1, elections: 1, markers: 1, crashes: 1}},
	{name: "five pull", voters: 5, kinds: coming, limit: limits{commands: 2, markers: 1, sessions: 1}},
}

// larger models take minutes to hours.
var larger = []setup{
	{name: "deep leaders", voters: 3, kinds: growing, alone: true, limit: limits{commands: 3, elections: 2, markers: 3, crashes: 1}},
	{name: "deep commands", voters: 3, limit: limits{commands: 4, markers: 2, sessions: 2}},
	{name: "deep shapes", voters: 3, kinds: shaping, slow: true, limit: limits{commands: 4, markers: 1, crashes: 1, sessions: 2}},
	{name: "deep buckets", voters: 3, docs: 2, kinds: living, limit: limits{commands: 3, markers: 2, sessions: 3}},
	{name: "deep crashes", voters: 3, kinds: living, slow: true, limit: limits{commands: 3, elections: 1, markers: 2, crashes: 2, sessions: 2}},
	{name: "deep lost disk", voters: 3, kinds: growing, joining: "disk", limit: limits{commands: 2, elections: 2, wipes: 1, joins: 1, changes: 3, markers: 1, sessions: 2}},
	{name: "deep another host", voters: 3, kinds: growing, joining: "host", limit: limits{commands: 2, elections: 1, joins: 1, changes: 3, markers: 1, sessions: 1}},
	{name: "deep lost disk, deleted", voters: 3, kinds: coming, joining: "disk", limit: limits{commands: 2, elections: 1, wipes: 1, joins: 1, changes: 3, markers: 1, sessions: 1}},
	{name: "deep another host, shaped", voters: 3, kinds: living, joining: "host", limit: limits{commands: 2, joins: 1, changes: 3, markers: 1, sessions: 1}},
	{name: "deep five, all", voters: 5, limit: limits{commands: 3, markers: 1, sessions: 1}},
	{name: "deep five", voters: 5, kinds: living, alone: true, limit: limits{commands: 3, elections: 1, markers: 2, crashes: 1}},
	{name: "deep five pull", voters: 5, kinds: living, limit: limits{commands: 3, markers: 2, sessions: 2}},
}

// TestEveryStateOfSmallModels visits all of them, and with -model.depth those of larger models, too: in none is a
// committed index lost to a majority, does a member that calls itself complete hold anything but what the log prescribes,
// or does healing not come to an end.
func TestEveryStateOfSmallModels(t *testing.T) {
	list, depth := models, 0
	if *modelDepth != 0 {
		list, depth = slices.Concat(models, larger), max(0, *modelDepth)
	}
	for _, setup := range list {
		if !strings.Contains(setup.name, *modelOnly) {
			continue
		}
		t.Run(setup.name, func(t *testing.T) {
			t.Parallel()
			s := &search{model: setup.model("")}
			switch {
			case *modelDepth != 0:
				s.depth = depth
			case testing.Short() || slowBuild: // one goroutine each: there is nothing to race
				s.states = 3000
			}
			start := time.Now()
			found := s.run()
			t.Logf("%d states, stories of up to %d steps, %s, all: %v; healing tried from %d of them, %d without any complete member",
				len(s.parents), s.reached, time.Since(start).Round(time.Millisecond), !s.cut, len(s.settledSeen), s.unions)
			if found != nil {
				t.Fatalf("%s%s", found.problem, s.story(found))
			}
			if setup.name == "union" && s.unions == 0 {
				t.Error("no state without a complete member was healed")
			}
		})
	}
}

// TestModelFindsMissingRules proves the search: without any one of the rules it finds a counterexample, and tells it.
func TestModelFindsMissingRules(t *testing.T) {
	for _, c := range []struct{ broken, model, problem string }{
		{"harvest", "union", "lost to a majority"},           // design §5.1
		{"truncate", "crashes", "lost to a majority"},        // I1: entries leave the log before the documents are durable
		{"amnesia", "lost disk", "lost to a majority"},       // I2: a lost disk returns under its old identity
		{"serial", "moved", ""},                              // I3: a second change of the voters before the first is committed
		{"incomplete", "another host", "lost to a majority"}, // I3: between majorities that are not complete
		{"lagging", "another host", "lost to a majority"},    // I3: between majorities whose members lag beyond the log's trail
		{"absence", "again", "and is not"},
		{"deletes", "again", "has a deleted document"},
		{"regress", "commands", ""},
		{"ahead", "again", "calls itself complete"},
		{"session", "holes", "has a deleted document"},
		{"buckets", "buckets", "calls itself complete"}, // a hole is closed before all buckets healed it
	} {
		t.Run(c.broken, func(t *testing.T) {
			t.Parallel()
			setup := setup{name: "moved", voters: 3, kinds: growing, joining: "host", limit: limits{commands: 1, elections: 2, joins: 1, changes: 3, sessions: 1}}
			for _, s := range models {
				if s.name == c.model {
					setup = s
				}
			}
			if setup.name != c.model {
				t.Fatal("no such model")
			}
			s := &search{model: setup.model(c.broken)}
			found := s.run()
			if found == nil {
				t.Fatalf("nothing found in %d states", len(s.parents))
			}
			if !strings.Contains(found.problem, c.problem) {
				t.Errorf("found something else: %s", found.problem)
			}
			story := s.story(found)
			if !strings.Contains(story, "proposes") || strings.Count(story, "\n") < 5 {
				t.Errorf("no story: %q", story)
			}
			t.Logf("%d states: %s%s", len(s.parents), found.problem, story)
		})
	}
}
