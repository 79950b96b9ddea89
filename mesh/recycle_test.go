package mesh

import (
	"bytes"
	"testing"
)

// TestRecycledPayloads: what is read is right whatever memory it is read into, and small payloads keep none of a large one.
func TestRecycledPayloads(t *testing.T) {
	for i, n := range []int{leastRecycled, mostRecycled, leastRecycled - 1, 1, leastRecycled + 1, mostRecycled + 1, 3 * mostRecycled, 500_000, 510_000} {
		want := bytes.Repeat([]byte{byte(i + 1)}, n)
		got, err := readPayload(bytes.NewReader(want), n)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if n < leastRecycled && cap(got) >= leastRecycled {
			t.Errorf("%d bytes take %d", n, cap(got))
		}
		clear(got)
		Recycle(got)
	}
	first, err := readPayload(bytes.NewReader(make([]byte, 300_000)), 300_000)
	if err != nil {
		t.Fatal(err)
	}
	second, err := readPayload(bytes.NewReader(bytes.Repeat([]byte{1}, 300_000)), 300_000) // nothing was given back: memory of its own
	if err != nil || first[0] != 0 || &first[0] == &second[0] {
		t.Fatal("a payload in the memory of another one that is in use")
	}
}

// BenchmarkReadPayload is of a reply with documents.
func BenchmarkReadPayload(b *testing.B) {
	const n = 520_000
	source := make([]byte, n)
	b.ReportAllocs()
	for b.Loop() {
		p, err := readPayload(bytes.NewReader(source), n)
		if err != nil {
			b.Fatal(err)
		}
		Recycle(p)
	}
}
