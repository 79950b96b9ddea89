//go:build !race

package antientropy

const slowBuild = false
