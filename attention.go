package adamant

import "time"

// mostBlind is how many heartbeats at a time a host leaves out of account, at the most.
const mostBlind = 2

// attention is for how long this host could not tell of late who else is silent. It belongs to one loop that looks every so often.
type attention struct {
	beat  time.Duration // Timing.Heartbeat
	last  time.Time     // when it looked
	blind time.Duration // that is still to be left out of account
}

// look returns the time to hold silence against, which stands still in two cases and then catches up within twice as long.
//
// When the look itself is late, by more than half of its interval, the process was not running, and beats may be waiting to be read.
//
// While somebody is silent and this host's own disk has not ended a step for half a heartbeat, a candidate could not be elected: it has to
// store its vote first. The one that is missed may wait for the same storage, or its memory map may; it tends to be heard of when the
// disk goes on.
func (a *attention) look(now time.Time, every time.Duration, silent bool, disk time.Duration) time.Time {
	passed := now.Sub(a.last)
	a.last = now
	switch late := passed - 3*every/2; {
	case late > 0:
		a.blind += late
	case silent && disk > a.beat/2:
		a.blind += passed
	default:
		a.blind = max(a.blind-every/2, 0)
	}
	a.blind = min(a.blind, mostBlind*a.beat)
	return now.Add(-a.blind)
}
