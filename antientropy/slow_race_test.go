//go:build race

package antientropy

// slowBuild: Pebble checks its invariants in race builds, which makes it some fifty times slower.
const slowBuild = true
