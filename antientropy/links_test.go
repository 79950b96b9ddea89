package antientropy

import (
	"testing"
	"time"
)

// TestCompressionFollowsTheLink: over a slow link compressed replies come sooner, over a fast one compressing is what takes
// the time; and what does not get smaller is not worth trying to compress.
func TestCompressionFollowsTheLink(t *testing.T) {
	const size, packing = 1 << 20, 4 * time.Millisecond
	for _, tt := range []struct {
		name  string
		rate  float64 // of the link, bytes per second
		ratio float64 // of compressed to plain
		want  bool
	}{
		{"1 MB/s, text", 1e6, 0.2, true},
		{"100 MB/s, text", 100e6, 0.2, true},
		{"2 GB/s, text", 2e9, 0.2, false},
		{"1 MB/s, noise", 1e6, 1, false},
	} {
		l := links{}
		asked := 0
		for range 160 {
			wish := l.wish("b")
			took := time.Duration(size / tt.rate * float64(time.Second))
			if wish {
				asked++
				took = packing + time.Duration(float64(took)*tt.ratio)
			}
			l.saw("b", wish, wish, size, took)
		}
		if share := float64(asked) / 160; tt.want && share < 0.9 || !tt.want && share > 0.1 {
			t.Errorf("%s: asked for in %d of 160", tt.name, asked)
		}
	}
}

func TestCompressionModes(t *testing.T) {
	for c := CompressAuto; c <= CompressAlways; c++ {
		if got, err := ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCompression("gzip"); err == nil || Compression(9).String() != "compression(9)" {
		t.Error("an unknown mode")
	}
	if _, err := NewLoop(Options{Caller: caller{}, Members: func() []Member { return nil }, Compression: 9}); err == nil {
		t.Error("a loop of an unknown mode")
	}
	for mode, want := range map[Compression]bool{CompressOff: false, CompressAlways: true} {
		l := links{mode: mode}
		for range 40 {
			l.saw("b", true, true, 1<<20, time.Millisecond)
			if l.wish("b") != want {
				t.Errorf("%v", mode)
			}
		}
	}
}

// TestCompressionIsTheAskersWish: the peer compresses when it is asked to, and not otherwise.
func TestCompressionIsTheAskersWish(t *testing.T) {
	pulled := map[Compression]int64{}
	for _, mode := range []Compression{CompressOff, CompressAlways} {
		bubble(t, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			defer c.close()
			h := c.load(2000, 1, 1, "a") // what repeats is all but the deltas
			c.machines["b"].skip(p0, h.last())
			l := c.machines["b"].start(Options{Compression: mode})
			c.machines["b"].heal()
			c.sameRoots(p0, "a", "b")
			pulled[mode] = clean(t, l).PulledBytes
		})
	}
	t.Logf("%v", pulled)
	if pulled[CompressAlways] > pulled[CompressOff]*9/10 {
		t.Errorf("%d bytes compressed, %d not", pulled[CompressAlways], pulled[CompressOff])
	}
}

// What does not get smaller is hardly ever tried again, however fast it came by chance; once it does, it is judged by its rate.
func TestFutileCompression(t *testing.T) {
	l, wished := links{}, 0
	for range 10 * tryFutile {
		wish := l.wish("b")
		took := 10 * time.Millisecond
		if wish {
			wished++
			took /= 5 // the network was quiet just then
		}
		l.saw("b", wish, false, 1<<20, took)
	}
	if wished < 2 || wished > 12 {
		t.Errorf("%d of %d replies were to be compressed", wished, 10*tryFutile)
	}
	wished = 0
	for range 2 * tryFutile {
		wish := l.wish("b")
		took := 10 * time.Millisecond
		if wish {
			wished++
			took /= 5
		}
		l.saw("b", wish, wish, 1<<20, took)
	}
	if wished < tryFutile/2 {
		t.Errorf("%d of %d replies were to be compressed, now that it pays", wished, 2*tryFutile)
	}
}
