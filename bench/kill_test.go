package main

import "testing"

// TestRepairEverything is a run that leaves nothing out: load, kills, a distance between hosts, one source and a budget.
func TestRepairEverything(t *testing.T) {
	r := atLast(t, func(r map[string]any) bool { return r["killedAt50Fraction"] != nil }, // a repair may end before it is killed
		"repair", "--docs", "200", "--deltas", "50", "--delta-size", "400", "--sources", "1", "--rtt", "2ms", "--processes",
		"--load", "0.2", "--calibrate", "200ms", "--throttle", "4000000")
	for _, key := range []string{"bytesMissing", "bytesOnWire", "discoveryBytes", "entriesPerSecond", "megabytesPerSecond", "diskMegabytesPerSecond",
		"loopbackMegabytesPerSecond", "fractionOfLimit", "cpuSecondsPerGB", "foregroundP99BeforeMicros", "foregroundP99DuringMicros",
		"foregroundWritesPerSecond", "foregroundWritesDuring", "peakExtraMemoryBytes", "killedAt50Fraction", "throttledFraction"} {
		if v, ok := r[key].(float64); !ok || v <= 0 {
			t.Errorf("%s is %v", key, r[key])
		}
	}
	missing := r["bytesMissing"].(float64)
	keys := []string{"resentAfterKill50Bytes"}
	if late := r["killsTooLate"].(float64); late == 0 {
		keys = append(keys, "resentAfterKill99Bytes", "resentAfterKillBytes")
	} else if r["resentAfterKillBytes"] != nil {
		t.Errorf("%v of two kills came too late, and one is called the worse", late)
	}
	for _, key := range keys {
		if v, ok := r[key].(float64); !ok || v > missing {
			t.Errorf("%s is %v of %v bytes missing", key, r[key], missing)
		}
	}
	// Random bytes are not compressed, and nothing is sent twice. The log bytes that are missing count more beside a delta than the
	// wire needs.
	if v := r["wireBytesPerByte"].(float64); r["bytesOnWire"].(float64) < 200*50*400 || v > 1.5 {
		t.Errorf("%v bytes on the wire for each that was missing", v)
	}
	if v := r["killedAt50Fraction"].(float64); v < 0.5 || v >= 1 {
		t.Errorf("killed when it had %v of everything", v)
	}
}
