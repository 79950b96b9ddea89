package main

import (
	"context"
	"fmt"
)

// kills repairs twice more, and kills the host when it has half and when it has nearly all. What the others send for such a
// repair beyond what they sent for one that ran through is what they send again: chunks, and what it takes to find out
// where to go on.
func (r *repairTrial) kills(ctx context.Context, stale, absent []placed, clean *repaired, out figures) error {
	worst, late := 0.0, 0
	for _, percent := range []int64{50, 99} {
		r.tell(fmt.Sprintf("repairing, killed at %d %%", percent), 0)
		missing, err := r.lack(ctx, stale, absent)
		if err != nil {
			return err
		}
		sent, had, err := r.interrupted(ctx, missing*percent/100)
		if err != nil {
			return err
		}
		if err := r.verify(ctx); err != nil {
			return err
		}
		if had == 0 || had >= missing {
			late++ // it was too quick to be killed
			continue
		}
		again := float64(sent) - float64(clean.served)*float64(missing)/float64(clean.missing)
		out[fmt.Sprintf("resentAfterKill%dBytes", percent)] = again
		out[fmt.Sprintf("killedAt%dFraction", percent)] = float64(had) / float64(missing)
		worst = max(worst, again)
	}
	if out["killsTooLate"] = float64(late); late == 0 { // of one of them nobody knows whether it was the worse
		out["resentAfterKillBytes"] = worst
		out["resentAfterKillFraction"] = worst / float64(clean.missing)
	}
	return nil
}

// interrupted lets the host begin, kills it when it has imported so many bytes, and lets it end. It returns what the others have sent for
// that, and what the host had imported when its end was decided: 0 when it was complete before.
func (r *repairTrial) interrupted(ctx context.Context, at int64) (sent uint64, had int64, err error) {
	f := r.fleet
	wanted, err := f.applied(ctx)
	if err != nil {
		return 0, 0, err
	}
	before, err := f.served(ctx, r.victim)
	if err != nil {
		return 0, 0, err
	}
	first, err := r.reopen(ctx, wanted, max(at, 1))
	if err != nil {
		return 0, 0, err
	}
	if !first.Complete {
		if err := f.lose(ctx, r.victim, killHard); err != nil {
			return 0, 0, err
		}
		if err := f.replaceCrew(r.victim); err != nil {
			return 0, 0, err
		}
		if _, err := r.reopen(ctx, wanted, 0); err != nil {
			return 0, 0, err
		}
		had = int64(first.Repair.ImportedBytes)
	}
	after, err := f.served(ctx, r.victim)
	return after - before, had, err
}
