//go:build race

package adamant

// slowBuild: the race detector makes everything many times slower.
const slowBuild = true
