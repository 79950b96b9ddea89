//go:build !race

package store

const slowBuild = false
