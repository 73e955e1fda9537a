package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// plotted is a plot: a line of dots for each row, a dot for each point, at the
// median, with a bar from lowest to highest.
type plotted struct {
	name, title, unit string
	rows, points      []string
	results           []result
	value             func(result) float64
}

// decades marks a logarithmic axis, and writes numbers as the tables do.
type decades struct{}

func (decades) Ticks(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" && t.Value >= 1 {
			ticks[i].Label = count(t.Value)
		}
	}
	return ticks
}

// spread is a set of medians with their lowest and highest.
type spread struct {
	plotter.XYs
	plotter.XErrors
}

// save writes the plot as SVG.
func (p plotted) save(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	chart := plot.New()
	chart.Title.Text = p.title
	chart.X.Label.Text = p.unit
	chart.X.Scale = plot.LogScale{}
	chart.X.Tick.Marker = decades{}
	chart.X.Padding, chart.Title.Padding = vg.Points(5), vg.Points(12)
	chart.Legend.Top = true
	chart.Add(plotter.NewGrid())
	names := slices.Clone(p.rows)
	slices.Reverse(names) // the first row is on top
	chart.NominalY(plain(names)...)
	for i, at := range p.points {
		s := p.spread(names, at)
		if len(s.XYs) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(s)
		if err != nil {
			return err
		}
		dots.Color, dots.Shape, dots.Radius = plotutil.Color(i), draw.CircleGlyph{}, vg.Points(3.5)
		bars, err := plotter.NewXErrorBars(s)
		if err != nil {
			return err
		}
		bars.Color = plotutil.Color(i)
		chart.Add(bars, dots)
		chart.Legend.Add(at, dots)
	}
	chart.X.Max *= 2.5 // room for the legend
	chart.Y.Min, chart.Y.Max = -0.5, float64(len(names))-0.5
	const perRow, frame = 0.9 * font.Centimeter, 4 * font.Centimeter
	return chart.Save(24*vg.Centimeter, frame+perRow*vg.Length(len(names)), file)
}

func (p plotted) spread(names []string, at string) (s spread) {
	for y, name := range names {
		of := values(pick(p.results, name, at), p.value)
		if len(of) == 0 || slices.Min(of) <= 0 { // a logarithm has no place for it
			continue
		}
		m := median(of)
		s.XYs = append(s.XYs, plotter.XY{X: m, Y: float64(y)})
		s.XErrors = append(s.XErrors, struct{ Low, High float64 }{m - slices.Min(of), slices.Max(of) - m})
	}
	return s
}

var unmarked = strings.NewReplacer("*", "", "`", "")

// plain takes the emphasis of Markdown away.
func plain(names []string) (texts []string) {
	for _, n := range names {
		texts = append(texts, unmarked.Replace(n))
	}
	return texts
}
