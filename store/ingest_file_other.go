//go:build !linux

package store

import "github.com/cockroachdb/pebble/v2/vfs"

// setDirect reports whether writes are as wanted: they go through the system's cache of files here.
func setDirect(_ vfs.File, direct bool) bool { return !direct }

func refusesDirect(error) bool { return false }
