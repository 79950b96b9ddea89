//go:build !unix

package main

import "time"

// processCPU is not known here; the figure that needs it is left out.
func processCPU() (cpu time.Duration, ok bool) { return 0, false }
