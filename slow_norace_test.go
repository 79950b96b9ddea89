//go:build !race

package adamant

const slowBuild = false
