package store

import (
	"errors"
	"syscall"
	"testing"

	"github.com/adamantdb/adamant/internal/simdisk"
)

// TestOpenWithoutRoomForAManifest: an engine that can not write the list of its tables says so, though Pebble's Open never returns.
func TestOpenWithoutRoomForAManifest(t *testing.T) {
	disk := simdisk.New()
	e, d := openMember(t, testOptions(disk))
	s := newScript()
	s.create(keyInBucket(FullRange(), 3, 0), 10)
	must(t, d.Apply(s.log, s.last()))
	must(t, e.Sync())
	after := disk.Image(0, nil) // what was written is in the write-ahead log alone, and a table of it is made when it is opened
	must(t, e.Close())
	after.Arm(simdisk.Full, "MANIFEST")
	_, err := OpenDocs(testOptions(after))
	var failed *EngineFailedError
	if !errors.As(err, &failed) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	again := after.Image(0, nil) // as after the end of the process
	e, d = openMember(t, testOptions(again))
	defer func() { must(t, e.Close()) }()
	if n := d.Status().Documents; n != 1 {
		t.Errorf("%d documents", n)
	}
}
