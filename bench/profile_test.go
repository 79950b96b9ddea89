package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// stackOf is a sample's stack, the innermost function first, each with its file after a space.
func stackOf(functions ...string) (stack []*profile.Location) {
	for _, f := range functions {
		name, file, _ := strings.Cut(f, " ")
		stack = append(stack, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name, Filename: file}}}})
	}
	return stack
}

func TestPartOf(t *testing.T) {
	const ours = "github.com/adamantdb/adamant/"
	for want, stacks := range map[string][][]*profile.Location{
		"partCollectionMicros": {stackOf("runtime.scanobject", "runtime.gcBgMarkWorker.func2"), stackOf("runtime.gcDrainN", "runtime.gcAssistAlloc1", ours+"mesh.f")},
		"partSchedulerMicros":  {stackOf("runtime.futex", "runtime.findRunnable", "runtime.schedule", "runtime.park_m", "runtime.mcall")},
		"partRaftMicros":       {stackOf("runtime.selectgo", "github.com/hashicorp/raft.(*Raft).leaderLoop")},
		"partPebbleMicros":     {stackOf("syscall.write", "github.com/cockroachdb/pebble/v2/record.f", ours+"store.(*x).f /store/log_commit.go")},
		"partLogMicros":        {stackOf("runtime.memmove", ours+"store.(*x).f /store/log_commit.go"), stackOf(ours + "internal/asyncfs.(*file).Sync a.go")},
		"partDocumentsMicros":  {stackOf(ours + "store.(*Documents).Stage /log_store/stage.go")},
		"partTransportMicros":  {stackOf("syscall.write", "net.(*conn).Write", ours+"mesh.f", "main.main")},
		"partPartitionMicros":  {stackOf(ours+"partition.f", "github.com/hashicorp/raft.(*Raft).runFSM")},
		restKey: {stackOf("runtime.main"), stackOf("main.f", ours+"partition.f"), stackOf("github.com/hashicorp/go-metrics.f", "github.com/hashicorp/raft.f"),
			stackOf("github.com/adamantdb/adamant.(*Host).heard", ours+"mesh.f")},
	} {
		for _, stack := range stacks {
			if got := partOf(stack); got != want {
				t.Errorf("%s … belongs to %s, want %s", stack[0].Line[0].Function.Name, got, want)
			}
		}
	}
	for _, m := range partMetrics() {
		if strings.Count(m.label, ":") != 1 {
			t.Errorf("%+v", m)
		}
	}
}

func TestDivide(t *testing.T) {
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples"}, {Type: "cpu"}}, Sample: []*profile.Sample{
		{Value: []int64{1, 30}, Location: stackOf("github.com/hashicorp/raft.f")}, {Value: []int64{1, 10}, Location: stackOf("runtime.main")},
	}}
	shares, err := divide(p)
	if err != nil || shares["partRaftMicros"] != 0.75 || shares[restKey] != 0.25 {
		t.Errorf("%v, %v", shares, err)
	}
	if _, err := divide(&profile.Profile{}); err == nil {
		t.Error("a profile of nothing was taken")
	}
}

// TestProfile: the parts add up to what a write costs, and the profile is kept.
func TestProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu")
	args := []string{"write", "--hosts", "1", "--voters", "1", "--partitions", "1", "--documents", "8", "--writers", "8", "--rounds", "1", "--parts", "--warmup", "0s", "--duration", "500ms"}
	r := atLast(t, above("cpuMicrosPerWrite"), args...)
	sum := 0.0
	for _, m := range partMetrics() {
		v, _ := r[m.key].(float64)
		sum += v
	}
	if cpu := r["cpuMicrosPerWrite"].(float64); math.Abs(sum-cpu) > cpu/1e6 {
		t.Errorf("the parts take %v µs, a write %v", sum, cpu)
	}
	args = append(args, "--cpuprofile", file)
	if status, _, errs := bench(t, args...); status != exitOK {
		t.Fatalf("%d: %s", status, errs)
	}
	if b, err := os.ReadFile(file); err != nil || len(b) == 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for want, more := range map[string][]string{"exists": nil, "--rounds 1": {"--rounds", "2"}, "--processes": {"--processes"}} {
		if status, _, errs := bench(t, append(args[:len(args):len(args)], more...)...); status != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: %d: %s", more, status, errs)
		}
	}
}
