package config

import (
	"fmt"
	"strings"
)

// SuccessionError says why a valid cluster cannot replace the one in force.
type SuccessionError struct {
	Version, Next uint64 // in force, and refused
	Reasons       []string
}

func (e *SuccessionError) Error() string {
	return fmt.Sprintf("config: version %d cannot replace version %d: %s", e.Next, e.Version, strings.Join(e.Reasons, "; "))
}

// CheckSuccessor returns nil when next may replace c in a running cluster, otherwise a *SuccessionError with every
// reason. A successor has the same name, a higher version and the same partitions with the same ranges: the documents of a range
// are bound to its partition, so a file that cut the ranges differently would strand them.
func (c *Cluster) CheckSuccessor(next *Cluster) error {
	var reasons []string
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if next.Name != c.Name {
		add("it belongs to the cluster %s, not %s", quote(next.Name), quote(c.Name))
	}
	if next.Version <= c.Version {
		add("its version %d must be above %d, the one in force", next.Version, c.Version)
	}
	if len(next.Partitions) != len(c.Partitions) {
		add("it has %d partitions, not %d", len(next.Partitions), len(c.Partitions))
	} else {
		for i := range c.Partitions {
			if p, q := &c.Partitions[i], &next.Partitions[i]; p.ID != q.ID || p.From != q.From {
				add("%s is id %d from %016x, not id %d from %016x: ranges cannot be changed", element("partitions", i), q.ID, q.From, p.ID, p.From)
				break // a shifted list would repeat this for each partition
			}
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return &SuccessionError{Version: c.Version, Next: next.Version, Reasons: reasons}
}
