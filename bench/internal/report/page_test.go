package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

var metrics = []Metric{{"speed", "speed m/s", 1}, {"memory", "KB", 1.0 / 1024}}

func spreadOf(rounds ...float64) saved.Spread {
	return saved.Spread{Median: rounds[len(rounds)/2], Min: rounds[0], Max: rounds[len(rounds)-1], Rounds: rounds}
}

func resultOf(variants ...saved.Variant) *saved.Result {
	return &saved.Result{Verb: "write", Baseline: map[string]saved.Spread{"fsyncMicros": spreadOf(100, 123, 200)}, Groups: []saved.Group{{Variants: variants}}}
}

func pageOf(t *testing.T, results ...*saved.Result) string {
	t.Helper()
	var inputs []Input
	for _, r := range results {
		inputs = append(inputs, Input{File: "one.json", Result: r})
	}
	var b, again bytes.Buffer
	if err := Write(&b, inputs, metrics); err != nil {
		t.Fatal(err)
	}
	if err := Write(&again, inputs, metrics); err != nil || again.String() != b.String() {
		t.Errorf("the same results give another page: %v", err)
	}
	checkWhole(t, b.String())
	return b.String()
}

// checkWhole wants a page that parses and loads nothing.
func checkWhole(t *testing.T, page string) {
	t.Helper()
	for _, fragment := range strings.SplitAfter(page, "</svg>") {
		if _, svg, ok := strings.Cut(fragment, "<svg"); ok {
			checkSVG(t, "<svg"+svg)
		}
	}
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "link", "iframe", "img", "object", "embed", "base", "image", "foreignobject":
			t.Errorf("the page has a %s", n.Data)
		}
		for _, a := range n.Attr {
			if (a.Key == "href" || a.Key == "src") && !strings.HasPrefix(a.Val, "#") || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	if strings.Contains(page, "@import") || strings.Contains(page, "url(") || strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
		t.Error("the styles load something, or there is a number that is none")
	}
}

func checkSVG(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}

func TestPageOfAComparison(t *testing.T) {
	r := resultOf(saved.Variant{Name: "log=bolt", Settings: []saved.Fact{{Name: "hosts", Value: "3"}, {Name: "log", Value: "bolt"}}, Figures: map[string]saved.Spread{"speed": spreadOf(12345, 23456, 34567), "memory": spreadOf(2048, 4096, 8192), "odd": spreadOf(1, 1, 1)}},
		saved.Variant{Name: "log=pebble", Settings: []saved.Fact{{Name: "hosts", Value: "3"}, {Name: "log", Value: "pebble"}}, Figures: map[string]saved.Spread{"speed": spreadOf(1, 2, 3)}})
	r.Groups[0].Ratios = []saved.Ratio{{Name: "log=pebble / log=bolt", Figures: map[string]saved.Spread{"speed": spreadOf(0.512, 0.625, 0.75)}}}
	page := pageOf(t, r, r)
	for _, want := range []string{"23\u202f456", "(12\u202f345–34\u202f567)", "speed m/s", "4.00", "(2.00–8.00)", ">odd<", "–", "0.625", "(0.512–0.750)", "raw fsync µs",
		"(100–200)", "<dt>hosts</dt>", `href="#r2"`, `aria-label="speed m/s: ratio"`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(page, "<dt>log</dt>") {
		t.Error("a setting in which the variants differ stands above them")
	}
	if n := strings.Count(page, "<svg"); n != 2*4 {
		t.Errorf("%d plots", n)
	}
}

func TestPageOfASweep(t *testing.T) {
	var variants []saved.Variant
	for i, name := range []string{"partitions=16", "partitions=64", "partitions=1000"} {
		variants = append(variants, saved.Variant{Name: name, Figures: map[string]saved.Spread{"speed": spreadOf(float64(i), float64(i+1))}})
	}
	page := pageOf(t, resultOf(variants...))
	if !strings.Contains(page, "speed m/s over partitions") || !strings.Contains(page, ">1\u202f000</text>") {
		t.Error("no plot over partitions")
	}
	loads := &saved.Result{Verb: "compare"}
	for _, load := range []string{"1 writer", "64 writers"} {
		loads.Groups = append(loads.Groups, saved.Group{Load: load, Variants: []saved.Variant{
			{Name: "adamant, GOMAXPROCS 2", Best: true, Figures: map[string]saved.Spread{"speed": spreadOf(5, 6)}},
			{Name: "etcd, GOMAXPROCS 2", Figures: map[string]saved.Spread{"speed": spreadOf(2, 3)}},
			{Name: "etcd, GOMAXPROCS 8", Best: true, Figures: map[string]saved.Spread{"speed": spreadOf(3, 4)}}}})
	}
	page = pageOf(t, loads)
	for _, want := range []string{"speed m/s over writers", "<h3>64 writers</h3>", "etcd, GOMAXPROCS 8 *", ">adamant</text>", "An asterisk"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestNamesAreText(t *testing.T) {
	evil := `x=</text></svg><script src="http://example.com/x.js">alert(1)</script>&"'`
	v := saved.Variant{Name: evil, Settings: []saved.Fact{{Name: evil, Value: evil}}, Figures: map[string]saved.Spread{evil: spreadOf(1, 2)}}
	r := resultOf(v, v)
	r.Verb, r.Facts = evil, []saved.Fact{{Name: evil, Value: evil}}
	r.Groups[0].Load, r.Groups[0].Ratios = evil, []saved.Ratio{{Name: evil, Figures: v.Figures}}
	if page := pageOf(t, r); strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script") {
		t.Error("a name is taken for markup")
	}
}

func TestFiguresThatAreNone(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	strange := map[string]saved.Spread{"speed": {Median: nan, Min: nan, Max: nan, Rounds: []float64{nan, inf, -inf}},
		"memory": {Median: 5, Min: nan, Max: inf, Rounds: []float64{nan, 5, 1e308}}}
	for name, r := range map[string]*saved.Result{
		"not numbers":  resultOf(saved.Variant{Name: "a=1", Figures: strange}, saved.Variant{Name: "a=2", Figures: strange}),
		"some absent":  resultOf(saved.Variant{Name: "a=1", Figures: strange}, saved.Variant{Name: "a=2"}),
		"nothing":      resultOf(saved.Variant{}),
		"zeros":        resultOf(saved.Variant{Name: "a=0", Figures: map[string]saved.Spread{"speed": spreadOf(0, 0)}}, saved.Variant{Name: "a=0"}),
		"below zero":   resultOf(saved.Variant{Name: "a=-1", Figures: map[string]saved.Spread{"speed": spreadOf(-3, -2)}}, saved.Variant{Name: "a=0"}),
		"tiny":         resultOf(saved.Variant{Figures: map[string]saved.Spread{"speed": spreadOf(1e-300, 5e-300)}}),
		"great":        resultOf(saved.Variant{Figures: map[string]saved.Spread{"speed": spreadOf(1e99, 2e99)}}),
		"another load": {Verb: "compare", Groups: []saved.Group{{Load: "1 writer", Variants: []saved.Variant{{}}}, {Load: "2 writers", Variants: []saved.Variant{{}}}}},
	} {
		t.Run(name, func(t *testing.T) { pageOf(t, r) })
	}
}

func TestOneRoundOfOneVariantHasNoPlot(t *testing.T) {
	page := pageOf(t, resultOf(saved.Variant{Figures: map[string]saved.Spread{"speed": spreadOf(7)}}))
	if strings.Contains(page, "<svg") || !strings.Contains(page, "<td>7.00</td>") {
		t.Error(page)
	}
	page = pageOf(t, resultOf(saved.Variant{Name: "a", Figures: map[string]saved.Spread{"speed": spreadOf(7)}}, saved.Variant{Name: "b"}))
	if strings.Count(page, "<svg") != 1 {
		t.Error(page)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1.00", 9.999: "10.0", 99.96: "100", 0.05: "0.0500", 1234.5: "1\u202f234", -1234567: "-1\u202f234\u202f567",
		-123: "-123", 0.00001: "1e-05", 2.5e15: "2.5e+15", math.Inf(-1): "–"} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0.2: "0.2", 4: "4", 100: "100", 2000: "2\u202f000"} {
		if got := mark(v); got != want {
			t.Errorf("%v is marked %q, not %q", v, got, want)
		}
	}
}

func TestTicksAreFew(t *testing.T) {
	for _, high := range []float64{0.003, 1, 1.04, 4428 * 1.04, 6e5, 1e15} {
		if n := len(ticks(0, high)); n < 3 || n > 11 {
			t.Errorf("%d ticks up to %v", n, high)
		}
	}
}
