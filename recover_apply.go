package adamant

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/journal"
	"github.com/adamantdb/adamant/internal/syncdir"
	"github.com/adamantdb/adamant/partition"
)

// ApplyRecovery carries out a stopped host's part of a plan. confirm is the plan's digest. It returns the partitions that were
// recovered here.
//
// From the moment on that the plan is stored in the directory the host can not be opened until ApplyRecovery has returned nil: a
// crash in between needs nothing but the same call again. Doing it twice changes nothing.
//
// Errors: *RecoveryError (nothing was done: another digest, the host takes no part, it has changed since it was surveyed, another
// plan was begun, a host that is given up answers), *OpenError, and those of the disk.
func ApplyRecovery(dir string, plan *RecoveryPlan, confirm string, o RecoveryOptions) ([]uint32, error) {
	o = o.withDefaults()
	if digest := plan.Digest(); digest != confirm {
		return nil, refuse("the plan's digest is %s, not %s: read what it does", digest, confirm)
	}
	if plan.Format != planFormat {
		return nil, refuse("plan of format %d, this program knows %d", plan.Format, planFormat)
	}
	s, err := openStopped(dir, o)
	if err != nil {
		return nil, err
	}
	done, err := s.apply(plan)
	return done, errors.Join(err, s.close())
}

func (s *stopped) apply(plan *RecoveryPlan) ([]uint32, error) {
	if plan.Cluster != s.id.Cluster {
		return nil, refuse("the plan is for cluster %s, %s belongs to %s", plan.Cluster, s.dir, s.id.Cluster)
	}
	var mine []*PartitionRecovery
	for i := range plan.Partitions {
		r := &plan.Partitions[i]
		if err := r.Check(); err != nil {
			return nil, &RecoveryError{err.Error()}
		}
		if slices.ContainsFunc(r.Members, func(m partition.Survivor) bool { return m.ID == string(s.serverID()) }) {
			mine = append(mine, r)
		}
	}
	if len(mine) == 0 {
		return nil, refuse("%s takes no part in this plan", s.serverID())
	}
	begun, err := readBegun(s.o.FS, s.dir)
	switch {
	case err != nil:
		return nil, err
	case begun != nil && begun.Digest() != plan.Digest():
		return nil, refuse("the plan %s was begun in %s: finish that one", begun.Digest(), s.dir)
	case begun == nil:
		if err := s.begin(plan, mine); err != nil {
			return nil, err
		}
	}
	var ids []uint32
	for _, r := range mine {
		if err := s.recover(r); err != nil {
			return nil, err
		}
		ids = append(ids, r.Partition)
	}
	s.tell(mine, plan.Digest())
	if err := s.o.FS.Remove(s.o.FS.PathJoin(s.dir, recoveryFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return ids, syncdir.Sync(s.o.FS, s.dir)
}

// begin makes sure that the plan still fits, and stores it. Members that have their part done already are not looked at.
func (s *stopped) begin(plan *RecoveryPlan, mine []*PartitionRecovery) error {
	open := 0
	for _, r := range mine {
		log, docs, err := s.member(r.Partition)
		if err != nil {
			return err
		}
		done, err := r.Recovered(log)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		open++
		if err := r.Matches(s.serverID(), log, docs); err != nil {
			return &RecoveryError{err.Error()}
		}
	}
	if open == 0 {
		return nil
	}
	if !s.o.Force {
		if err := plan.checkSilence(); err != nil {
			return err
		}
	}
	b, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	return replaceFile(s.o.FS, s.dir, recoveryFile, b)
}

// readBegun is the plan that was begun in a directory and not finished; nil when there is none.
func readBegun(fs vfs.FS, dir string) (*RecoveryPlan, error) {
	path := fs.PathJoin(dir, recoveryFile)
	b, err := readFile(fs, path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plan := new(RecoveryPlan)
	if err := json.Unmarshal(b, plan); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return plan, nil
}

// checkBegun refuses to open a directory in which a recovery was begun: its members may be of two minds.
func checkBegun(fs vfs.FS, dir string) error {
	plan, err := readBegun(fs, dir)
	if err == nil && plan != nil {
		err = fmt.Errorf("a recovery by the plan %s was begun here and not finished: apply it again", plan.Digest())
	}
	return err
}

func (s *stopped) recover(r *PartitionRecovery) error {
	log, docs, err := s.member(r.Partition)
	if err != nil {
		return err
	}
	return r.Recover(s.serverID(), log, docs, func() error {
		b, err := json.Marshal(recoveryRecord{Founding: r.Founding, Lost: r.Lost})
		if err != nil {
			return err
		}
		return s.docs.SetMeta(recoveryKey(r.Partition), b)
	})
}

// tell leaves a line for each partition in the host's history. Best effort.
func (s *stopped) tell(done []*PartitionRecovery, digest string) {
	j, err := journal.Open(s.o.FS, s.o.FS.PathJoin(s.dir, historyDir), journal.Options{Logger: s.o.Logger})
	if err != nil {
		s.o.Logger.Warn("the recovery is not in the history", "error", err)
		return
	}
	for _, r := range done {
		id := r.Partition
		n := Notice{Time: time.Now().Round(0), Host: s.id.Host, Partition: &id, Epoch: r.Term, Kind: "recovery",
			Text: fmt.Sprintf("plan %s: founding %s in place of %s, given up: %s", digest, r.Founding, r.Former[len(r.Former)-1], r.Lost)}
		if b, err := json.Marshal(n); err == nil {
			j.Add(b)
		}
	}
	if err := j.Close(); err != nil {
		s.o.Logger.Warn("the recovery is not in the history", "error", err)
	}
}
