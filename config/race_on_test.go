//go:build race

package config

// raceEnabled tells the planner's tests to be content with small plans: the planner has one goroutine, and its inner
// loop is some fifteen times slower under the race detector.
const raceEnabled = true
