package baseline

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	c, err := Measure(dir)
	if err != nil || c.FsyncMicros <= 0 || c.LoopbackRoundTripMicros <= 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("%v left behind, %v", left, err)
	}
	if _, err := Measure(filepath.Join(dir, "missing")); err == nil {
		t.Fatal("a directory that does not exist was measured")
	}
}

func TestMeasureBandwidths(t *testing.T) {
	dir := t.TempDir()
	b, err := MeasureBandwidths(dir)
	if err != nil || b.DiskMegabytesPerSecond <= 0 || b.LoopbackMegabytesPerSecond <= 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("%v left behind, %v", left, err)
	}
	if _, err := MeasureBandwidths(filepath.Join(dir, "missing")); err == nil {
		t.Fatal("a directory that does not exist was measured")
	}
}
