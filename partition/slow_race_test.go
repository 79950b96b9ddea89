//go:build race

package partition

// slowBuild: the race detector makes everything many times slower.
const slowBuild = true
