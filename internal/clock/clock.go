// Package clock is the clock of leases and promises: it goes on while the machine is suspended.
//
// Go's own monotonic clock is CLOCK_MONOTONIC, which stands still meanwhile. A leader that wakes after an hour would find its
// lease as young as it was, and read what another leader has overwritten since. CLOCK_BOOTTIME counts the hour. Neither is
// touched by steps of the wall clock. A hypervisor that stops a whole virtual machine may hide even that from it
// (docs/leadership.md says what helps).
package clock

import "time"

// Clock tells a time that is only good for differences to what the same clock told before.
type Clock func() time.Time
