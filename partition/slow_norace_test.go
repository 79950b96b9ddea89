//go:build !race

package partition

const slowBuild = false
