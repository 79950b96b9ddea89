package adamant

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/partition"
)

// FuzzRecoveryPlan: whatever stands in the plan that was begun in a directory, or in the file that an operator hands over, is refused,
// or a plan that can be described, confirmed and checked. What is kept of surveys is read alike.
func FuzzRecoveryPlan(f *testing.F) {
	plan := RecoveryPlan{Format: planFormat, Cluster: "c", Lost: []string{"h2", "h3"}, Hosts: []string{"h1"},
		Known: []KnownIndex{{Partition: 1, Index: 9, Host: "h2"}},
		Partitions: []PartitionRecovery{{Partition: 1, Founding: 11, Former: []partition.Founding{7}, Term: 1 << 21, Base: 20, Voters: []string{"h1@1"},
			Members: []partition.Survivor{{ID: "h1@1", Through: 10, Last: 10, LastTerm: 2, Covers: partition.Spans{{1, 10}}}}, Lost: partition.Spans{{11, 20}}}}}
	for _, p := range []RecoveryPlan{plan, {}, {Partitions: []PartitionRecovery{{Lost: partition.Spans{{9, 1}, {0, 1<<64 - 1}}}}}} {
		b, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`[{"host":"h2","alive":true,"members":[{"partition":1,"founding":"0000000000000007"}]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewMem()
		for _, file := range []string{recoveryFile, heardFile} {
			if err := replaceFile(disk, "", file, b); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = readHeard(disk, "")
		plan, err := readBegun(disk, "")
		if err != nil {
			return
		}
		if checkBegun(disk, "") == nil {
			t.Fatal("a host opens although a plan was begun")
		}
		digest := plan.Digest()
		for i := range plan.Partitions {
			if r := &plan.Partitions[i]; r.Check() != nil {
				return // it is not described before that
			}
		}
		if len(plan.Describe()) < len(plan.Partitions) {
			t.Fatal("a partition is not described")
		}
		again, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		other := new(RecoveryPlan)
		if err := json.Unmarshal(again, other); err != nil || other.Digest() != digest || !bytes.Equal(again, mustJSON(t, other)) {
			t.Fatalf("%s became %s, %v", digest, other.Digest(), err)
		}
	})
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
