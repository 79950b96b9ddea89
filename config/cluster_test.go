package config

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// canonical is how the file of parse_test.go is written.
const canonical = `{
  "cluster": "prod-1",
  "version": 7,
  "hosts": {
    "h1": {"addr": "127.0.0.1:7401", "zone": "a"},
    "h2": {"addr": "127.0.0.1:7402", "zone": "b"},
    "h3": {"addr": "127.0.0.1:7403", "zone": "c"},
    "h4": {"addr": "127.0.0.1:7404"}
  },
  "partitions": [
    {"id": 0, "from": "0000000000000000", "voters": ["h1", "h2", "h3"], "replicas": ["h4"], "prefer": "h2"},
    {"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}
  ]
}
`

func mustParse(t *testing.T, text string) *Cluster {
	t.Helper()
	c, err := Parse([]byte(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMarshal(t *testing.T) {
	c := mustParse(t, valid)
	if got := string(c.Marshal()); got != canonical {
		t.Errorf("wrote\n%s", got)
	}
	c.Insecure, c.GossipKey = true, make([]byte, 16)
	c.Hosts["h10"] = Host{Addr: "10.0.0.1:1", Zone: "z", HTTP: "10.0.0.1:7480"}
	text := string(c.Marshal())
	if !strings.Contains(text, "\"insecure\": true,\n  \"gossipKey\": \"AAAAAAAAAAAAAAAAAAAAAA==\",\n  \"hosts\"") {
		t.Errorf("wrote\n%s", text)
	}
	if !strings.Contains(text, `"h10": {"addr": "10.0.0.1:1", "zone": "z", "http": "10.0.0.1:7480"}`) {
		t.Errorf("wrote\n%s", text)
	}
	if strings.Index(text, `"h10"`) < strings.Index(text, `"h4"`) {
		t.Error("h10 comes before h4")
	}
	if again := mustParse(t, text); !again.Equal(c) {
		t.Error("does not round-trip")
	}
}

func TestCloneSharesNothing(t *testing.T) {
	c := mustParse(t, change(t, `"insecure": false`, `"tls": {"cert": "a", "key": "b", "ca": "c"}, "gossipKey": "AAECAwQFBgcICQoLDA0ODw=="`))
	want := string(c.Marshal())
	d := c.Clone()
	if !d.Equal(c) {
		t.Fatal("the clone differs")
	}
	d.TLS.Cert, d.GossipKey[0], d.Hosts["h1"] = "x", 9, Host{}
	d.Partitions[0].Voters[0], d.Partitions[0].Replicas[0], d.Partitions[1].ID = "x", "x", 5
	if string(c.Marshal()) != want {
		t.Error("changing the clone changed the original")
	}
}

func TestLocate(t *testing.T) {
	froms := []uint64{0, 1, 100, 1 << 63, math.MaxUint64}
	c := &Cluster{}
	for _, from := range froms {
		c.Partitions = append(c.Partitions, Partition{From: from})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	hashes := []uint64{0, 1, 2, 99, 100, 101, 1<<63 - 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}
	for range 1000 {
		hashes = append(hashes, rng.Uint64()>>rng.IntN(64))
	}
	for _, hash := range hashes {
		want := 0
		for i, from := range froms {
			if from <= hash {
				want = i
			}
		}
		if got := c.Locate(hash); got != want {
			t.Fatalf("Locate(%x) = %d, want %d", hash, got, want)
		}
		if first, last := c.HashRange(want); hash < first || hash > last {
			t.Fatalf("%x is not in its range [%x, %x]", hash, first, last)
		}
	}
	var next uint64
	for i := range froms {
		first, last := c.HashRange(i)
		if first != next || last < first {
			t.Errorf("range %d is [%x, %x], expected to start at %x", i, first, last, next)
		}
		next = last + 1
	}
	if next != 0 {
		t.Errorf("the ranges end at %x", next-1)
	}
}

func TestFind(t *testing.T) {
	c := mustParse(t, valid)
	if c.Find(9) != 1 || c.Find(0) != 0 || c.Find(1) != -1 {
		t.Error("wrong positions")
	}
}

func TestNamesInReadingOrder(t *testing.T) {
	want := []string{"h", "h0", "h00", "h01", "h1", "h2", "h2a", "h2a3", "h2a12", "h10", "h010-1", "h10-1", "ha", "i1"}
	for seed := range uint64(50) {
		got := slices.Clone(want)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		if slices.SortFunc(got, compareNames); !slices.Equal(got, want) {
			t.Fatalf("sorted: %v", got)
		}
	}
}

func TestSuccessor(t *testing.T) {
	c := mustParse(t, valid)
	edit := func(f func(*Cluster)) *Cluster {
		d := c.Clone()
		d.Version = 8
		f(d)
		return d
	}
	for _, x := range []struct {
		name string
		next *Cluster
		want []string // parts of the reasons
	}{
		{"higher version", edit(func(*Cluster) {}), nil},
		{"other members", edit(func(d *Cluster) { d.Partitions[1].Voters[2] = "h1"; d.Hosts["h2"] = Host{Addr: "127.0.0.1:9"} }), nil},
		{"equal version", edit(func(d *Cluster) { d.Version = 7 }), []string{"version 7 must be above 7"}},
		{"lower version", edit(func(d *Cluster) { d.Version = 6 }), []string{"version 6 must be above 7"}},
		{"other cluster", edit(func(d *Cluster) { d.Name = "prod-2" }), []string{`"prod-2", not "prod-1"`}},
		{"fewer partitions", edit(func(d *Cluster) { d.Partitions = d.Partitions[:1] }), []string{"1 partitions, not 2"}},
		{"other id", edit(func(d *Cluster) { d.Partitions[1].ID = 3 }), []string{"partitions[1] is id 3"}},
		{"other range", edit(func(d *Cluster) { d.Partitions[1].From = 3 }), []string{"from 0000000000000003, not id 9 from 8000000000000000"}},
		{"all wrong", edit(func(d *Cluster) { d.Name, d.Version, d.Partitions = "x", 1, nil }), []string{"belongs", "version 1", "0 partitions"}},
	} {
		err := c.CheckSuccessor(x.next)
		if (err == nil) != (x.want == nil) {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		if err == nil {
			continue
		}
		reasons := err.(*SuccessionError).Reasons
		if len(reasons) != len(x.want) {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		for i, part := range x.want {
			if !strings.Contains(reasons[i], part) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v", x.name, err)
			}
		}
	}
}
