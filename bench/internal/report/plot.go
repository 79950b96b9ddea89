package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/adamantdb/adamant/bench/internal/saved"
)

const (
	plotWidth  = 15 * vg.Centimeter
	plotHeight = 7.5 * vg.Centimeter // of lines
	rowHeight  = 0.85 * vg.Centimeter
	textSize   = 9
	longName   = 42 // characters of a name beside an axis
)

// palette tells lines and rows apart, for eyes that see colours differently too.
var palette = [...]color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {86, 180, 233, 255},
	{230, 159, 0, 255}, {90, 90, 90, 255}}

func hue(i int) color.RGBA { return palette[i%len(palette)] }

// dots is one figure of several variants: every round a dot, in its order from the row's upper edge to the lower one, and
// the median a line across. Reference is drawn through all rows, unless it is NaN. It returns nothing when there is nothing
// to draw.
func dots(names []string, spreads []saved.Spread, reference float64) (template.HTML, error) {
	p := newPlot()
	extent, labels := []float64{0}, make([]string, len(names))
	if drawable(reference) {
		extent = append(extent, reference)
	}
	drawn := false
	for i, s := range spreads {
		row := float64(len(spreads) - 1 - i) // the first on top
		labels[len(spreads)-1-i] = short(names[i])
		values := finite(s.Rounds)
		if len(values) == 0 {
			continue
		}
		drawn = true
		extent = append(extent, values...)
		if drawable(s.Median) {
			extent = append(extent, s.Median)
			if err := segment(p, s.Median, row-0.38, row+0.38, hue(i), 2); err != nil {
				return "", err
			}
		}
		if err := scatter(p, rounds(values, row), hue(i)); err != nil {
			return "", err
		}
	}
	if !drawn {
		return "", nil
	}
	if drawable(reference) {
		if err := segment(p, reference, -0.5, float64(len(spreads))-0.5, color.RGBA{A: 255}, 0.7); err != nil {
			return "", err
		}
	}
	p.NominalY(labels...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(spreads))-0.5
	p.X.Min, p.X.Max = ends(extent)
	p.X.Tick.Marker = plot.TickerFunc(ticks)
	return render(p, rowHeight*vg.Length(len(spreads))+1.4*vg.Centimeter)
}

// rounds are the points of a row.
func rounds(values []float64, row float64) plotter.XYs {
	var all plotter.XYs
	for i, v := range values {
		offset := 0.0
		if len(values) > 1 {
			offset = 0.25 - 0.5*float64(i)/float64(len(values)-1)
		}
		all = append(all, plotter.XY{X: v, Y: row + offset})
	}
	return all
}

// lines is one figure over a setting: medians joined by lines, and bars from the smallest to the greatest round. It returns
// nothing when there is nothing to draw.
func lines(s saved.Sweep, key string, scale float64) (template.HTML, error) {
	p := newPlot()
	p.X.Label.Text = short(s.Setting)
	var at []float64
	extent := []float64{0}
	for i, line := range s.Lines {
		b := band{}
		for _, point := range line.Points {
			f, ok := point.Figures[key]
			if f = scaled(f, scale); !ok || !drawable(f.Median) || !drawable(point.Value) {
				continue
			}
			b.XYs = append(b.XYs, plotter.XY{X: point.Value, Y: f.Median})
			low, high := f.Median, f.Median
			if drawable(f.Min) && drawable(f.Max) {
				low, high = min(f.Min, low), max(f.Max, high)
			}
			b.YErrors = append(b.YErrors, struct{ Low, High float64 }{f.Median - low, high - f.Median})
			at, extent = append(at, point.Value), append(extent, low, high)
		}
		if err := b.draw(p, short(line.Name), hue(i)); err != nil {
			return "", err
		}
	}
	if len(at) == 0 {
		return "", nil
	}
	p.Y.Min, p.Y.Max = ends(extent)
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	if len(s.Lines) > 1 {
		p.Y.Max += (p.Y.Max - p.Y.Min) * 0.1 * float64(len(s.Lines)) // room for the legend
		p.Legend.Top = true
	}
	along(p, at)
	return render(p, plotHeight)
}

// band is a line with its bars.
type band struct {
	plotter.XYs
	plotter.YErrors
}

func (b band) draw(p *plot.Plot, name string, c color.Color) error {
	if len(b.XYs) == 0 {
		return nil
	}
	l, s, err := plotter.NewLinePoints(b.XYs)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(b)
	if err != nil {
		return err
	}
	l.Color, l.Width = c, vg.Points(1.5)
	s.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
	bars.LineStyle = draw.LineStyle{Color: c, Width: vg.Points(0.7)}
	p.Add(bars, l, s)
	if name != "" {
		p.Legend.Add(name, l, s)
	}
	return nil
}

// along lays the x axis out over the values of a setting: a mark at each, at equal distances for equal factors where they
// go far.
func along(p *plot.Plot, values []float64) {
	slices.Sort(values)
	values = slices.Compact(values)
	var marks plot.ConstantTicks
	for _, v := range values {
		marks = append(marks, plot.Tick{Value: v, Label: mark(v)})
	}
	p.X.Tick.Marker = marks
	first, last := values[0], values[len(values)-1]
	if first > 0 && last/first >= 8 {
		p.X.Scale = plot.LogScale{}
		p.X.Min, p.X.Max = first/1.2, last*1.2
		return
	}
	margin := (last - first) * 0.05
	if margin == 0 {
		margin = 1
	}
	p.X.Min, p.X.Max = first-margin, last+margin
}

func newPlot() *plot.Plot {
	p := plot.New()
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: textSize}
	for _, style := range []*draw.TextStyle{&p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font = sans
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{Y: 225}, color.Gray{Y: 225}
	p.Add(grid)
	return p
}

func segment(p *plot.Plot, x, from, to float64, c color.Color, width float64) error {
	l, err := plotter.NewLine(plotter.XYs{{X: x, Y: from}, {X: x, Y: to}})
	if err != nil {
		return err
	}
	l.Color, l.Width = c, vg.Points(width)
	p.Add(l)
	return nil
}

func scatter(p *plot.Plot, points plotter.XYs, c color.RGBA) error {
	s, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}

// ends of an axis that holds the values, which include zero, and a little more.
func ends(values []float64) (float64, float64) {
	low, high := slices.Min(values), slices.Max(values)
	if low == high {
		return 0, 1
	}
	margin := (high - low) * 0.04
	if low < 0 {
		low -= margin
	}
	return low, high + margin
}

// ticks are few and round.
func ticks(low, high float64) []plot.Tick {
	const wanted = 5
	raw := (high - low) / wanted
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, factor := range []float64{10, 5, 2} {
		if step*factor <= raw*1.5 {
			step *= factor
			break
		}
	}
	var all []plot.Tick
	for i := math.Ceil(low / step); i*step <= high && len(all) < 4*wanted; i++ {
		all = append(all, plot.Tick{Value: i * step, Label: mark(i * step)})
	}
	return all
}

func short(name string) string {
	if r := []rune(name); len(r) > longName {
		return string(r[:longName-1]) + "…"
	}
	return name
}

// render is the SVG element. The library escapes all text in it.
func render(p *plot.Plot, height vg.Length) (template.HTML, error) {
	c := vgsvg.New(plotWidth, height)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	i := bytes.Index(b.Bytes(), []byte("<svg"))
	if i < 0 {
		return "", fmt.Errorf("the plot is no SVG: %.80q", b.Bytes())
	}
	return template.HTML(b.Bytes()[i:]), nil // without the declaration of XML, which has no place in a page
}
