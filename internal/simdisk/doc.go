// Package simdisk is a host's disk in memory that can lose what was not synced, fail, fill up and be slow: a vfs.FS for
// tests, on simulated time or not.
//
// What a crash leaves of a file is what Pebble's crashable memory file system makes of it: every synced block, and of the
// others each with a probability, so that the tail of a file may be torn. An image of the disk is taken while its host
// still runs, as a power failure would; the host is stopped afterwards, and a new one is opened on the image.
package simdisk
