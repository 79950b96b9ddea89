package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

// Metric says how a figure is shown: under its label, multiplied by scale.
type Metric struct {
	Key, Label string
	Scale      float64
}

// Input is a result and the file it was read from.
type Input struct {
	File   string
	Result *saved.Result
}

// How many of a result's figures are drawn, the first ones among the metrics; tables have all.
const (
	drawnFigures = 6
	drawnRatios  = 3
)

//go:embed page.gohtml
var pageText string

// Write makes the page. Metrics come in the order in which they are shown; figures that are none of them come last, under
// their keys.
func Write(out io.Writer, inputs []Input, metrics []Metric) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	var p page
	for i, in := range inputs {
		r, err := newResult(in, metrics)
		if err != nil {
			return fmt.Errorf("%s: %w", in.File, err)
		}
		r.Anchor = fmt.Sprintf("r%d", i+1)
		p.Results = append(p.Results, r)
		p.Marks = p.Marks || marks(in.Result)
	}
	return t.Execute(out, p)
}

// The page as its template wants it.
type (
	page struct {
		Marks   bool
		Results []result
	}
	result struct {
		Anchor, File, Verb string
		Facts              []saved.Fact
		Baseline           []baseline
		Lines              []figure // over a setting
		Groups             []group
	}
	baseline struct {
		Name string
		Cell cell
	}
	group struct {
		Load  string
		Heads []string
		Rows  []row
		Plots []figure
	}
	row struct {
		Name  string
		Ratio bool
		Cells []cell
	}
	cell   struct{ Median, Spread string } // no spread where there was one round
	figure struct {
		Title string
		SVG   template.HTML
	}
)

func newResult(in Input, metrics []Metric) (result, error) {
	from := in.Result
	r := result{File: in.File, Verb: from.Verb, Facts: slices.Concat(from.Facts, common(from))}
	for _, m := range present(baselines, from.Baseline) {
		r.Baseline = append(r.Baseline, baseline{Name: m.Label, Cell: newCell(from.Baseline[m.Key], m.Scale)})
	}
	all := map[string]saved.Spread{}
	for _, g := range from.Groups {
		for _, v := range g.Variants {
			maps.Copy(all, v.Figures)
		}
	}
	metrics = present(metrics, all)
	var err error
	if sweep, ok := from.Sweep(); ok {
		if r.Lines, err = sweepPlots(sweep, metrics); err != nil {
			return result{}, err
		}
	}
	for _, g := range from.Groups {
		plots, err := groupPlots(g, metrics)
		if err != nil {
			return result{}, err
		}
		r.Groups = append(r.Groups, group{Load: g.Load, Heads: heads(metrics), Rows: rows(g, metrics), Plots: plots})
	}
	return r, nil
}

// baselines are the raw costs of the machine.
var baselines = []Metric{{"fsyncMicros", "raw fsync µs", 1}, {"loopbackRoundTripMicros", "raw loopback round trip µs", 1}}

// common are the settings in which the variants agree.
func common(r *saved.Result) []saved.Fact {
	var all []saved.Fact
	first := r.Groups[0].Variants[0]
	for _, s := range first.Settings {
		agreed := true
		for _, v := range r.Groups[0].Variants {
			agreed = agreed && slices.Contains(v.Settings, s)
		}
		if agreed {
			all = append(all, s)
		}
	}
	return all
}

// present are the metrics that have figures, and then figures without a metric.
func present(metrics []Metric, figures map[string]saved.Spread) []Metric {
	var list []Metric
	known := map[string]bool{}
	for _, m := range metrics {
		if _, ok := figures[m.Key]; ok && !known[m.Key] {
			list = append(list, m)
		}
		known[m.Key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(figures)) {
		if !known[key] {
			list = append(list, Metric{Key: key, Label: key, Scale: 1})
		}
	}
	return list
}

func heads(metrics []Metric) []string {
	var all []string
	for _, m := range metrics {
		all = append(all, m.Label)
	}
	return all
}

func rows(g saved.Group, metrics []Metric) []row {
	var all []row
	for _, v := range g.Variants {
		r := row{Name: marked(v)}
		for _, m := range metrics {
			r.Cells = append(r.Cells, cellOf(v.Figures, m.Key, m.Scale))
		}
		all = append(all, r)
	}
	for _, v := range g.Ratios {
		r := row{Name: v.Name, Ratio: true}
		for _, m := range metrics {
			r.Cells = append(r.Cells, cellOf(v.Figures, m.Key, 1))
		}
		all = append(all, r)
	}
	return all
}

// marks says whether there is a best GOMAXPROCS among several.
func marks(r *saved.Result) bool {
	return slices.ContainsFunc(r.Groups, func(g saved.Group) bool {
		return slices.ContainsFunc(g.Variants, func(v saved.Variant) bool { return v.Best })
	})
}

func marked(v saved.Variant) string {
	if v.Best {
		return v.Name + " *"
	}
	return v.Name
}

func cellOf(figures map[string]saved.Spread, key string, scale float64) cell {
	s, ok := figures[key]
	if !ok {
		return cell{Median: "–"}
	}
	return newCell(s, scale)
}

func newCell(s saved.Spread, scale float64) cell {
	c := cell{Median: number(s.Median * scale)}
	if len(s.Rounds) > 1 {
		c.Spread = number(s.Min*scale) + "–" + number(s.Max*scale)
	}
	return c
}

func sweepPlots(s saved.Sweep, metrics []Metric) ([]figure, error) {
	var all []figure
	for _, m := range metrics[:min(drawnFigures, len(metrics))] {
		svg, err := lines(s, m.Key, m.Scale)
		if err != nil {
			return nil, err
		}
		if svg != "" {
			all = append(all, figure{Title: m.Label + " over " + s.Setting, SVG: svg})
		}
	}
	return all, nil
}

// groupPlots draws the rounds of the group, unless there is but one of one variant, which the table says as well.
func groupPlots(g saved.Group, metrics []Metric) ([]figure, error) {
	var all []figure
	add := func(title string, names []string, spreads []saved.Spread, reference float64) error {
		svg, err := dots(names, spreads, reference)
		if svg != "" {
			all = append(all, figure{Title: title, SVG: svg})
		}
		return err
	}
	for i, m := range metrics[:min(drawnFigures, len(metrics))] {
		var names, ratioNames []string
		var spreads, ratios []saved.Spread
		single := len(g.Variants) == 1
		for _, v := range g.Variants {
			names, spreads = append(names, marked(v)), append(spreads, scaled(v.Figures[m.Key], m.Scale))
			single = single && len(v.Figures[m.Key].Rounds) <= 1
		}
		if single {
			continue
		}
		if err := add(m.Label, names, spreads, math.NaN()); err != nil {
			return nil, err
		}
		for _, r := range g.Ratios {
			ratioNames, ratios = append(ratioNames, r.Name), append(ratios, r.Figures[m.Key])
		}
		if i < drawnRatios {
			if err := add(m.Label+": ratio", ratioNames, ratios, 1); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
