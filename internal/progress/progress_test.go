package progress

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	g := New(&out, false)
	clock := time.Unix(100, 0)
	g.now = func() time.Time { return clock }
	b := g.Bar("buckets")
	b.Set(0, 200, "")
	b.Set(10, 200, "1 MB") // too soon after the first
	clock = clock.Add(2 * time.Second)
	b.Set(100, 200, "2 MB")
	clock = clock.Add(2 * time.Second)
	b.Set(100, 200, "2 MB") // no news
	b.Set(300, 200, "more than all")
	b.Finish()
	b.Finish()
	b.Set(1, 1, "after the end")
	g.Close()
	want := "buckets                  0%  0/200\n" +
		"buckets                 50%  100/200  2 MB\n" +
		"buckets                100%  300/200  more than all\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestPlainHasNoControlCharacters(t *testing.T) {
	var out bytes.Buffer
	g := New(&out, false)
	b := g.Bar("x")
	for i := range 10 {
		b.Set(int64(i), 10, "note")
	}
	b.Finish()
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
		t.Errorf("control character at %d of %q", i, out.String())
	}
}

func TestZeroTotal(t *testing.T) {
	var out bytes.Buffer
	b := New(&out, false).Bar("x")
	b.Set(0, 0, "")
	b.Finish()
	if out.String() != "x                        0%  0/0\n" {
		t.Errorf("%q", out.String())
	}
}

func TestBarsEnd(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	g := New(writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return out.Write(b) }), true)
	b, open := g.Bar("buckets"), g.Bar("left open")
	open.Set(1, 2, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				b.Set(int64(i), 100, "going")
			}
		})
	}
	wg.Wait()
	if _, err := g.Write([]byte("a line above\n")); err != nil {
		t.Error(err)
	}
	b.Set(100, 100, "done")
	b.Finish()
	g.Close()
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestIsTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if IsTerminal(f) || IsTerminal(&bytes.Buffer{}) {
		t.Error("no terminals here")
	}
}
