package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panels are shown from left to right, one for each part.
var panels = []struct{ part, title string }{
	{"balance", "the core"},
	{"dispatch", "the dispatcher, one task a call"},
}

// writePlot writes an SVG file with all curves.
func writePlot(curves []*curve, file string) error {
	const width, height = 24 * vg.Centimeter, 11 * vg.Centimeter
	row := make([]*plot.Plot, len(panels))
	for i, p := range panels {
		var err error
		if row[i], err = panel(curves, p.part, p.title); err != nil {
			return fmt.Errorf("panel %s: %w", p.part, err)
		}
	}
	svg := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: vg.Centimeter, PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 4}
	for i, canvas := range plot.Align([][]*plot.Plot{row}, tiles, draw.New(svg))[0] {
		row[i].Draw(canvas)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := svg.WriteTo(f); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", file, err)
	}
	return f.Close()
}

// panel has the curves of one part. Both axes are logarithmic and as long in
// decades, so that what is proportional rises as steeply as a diagonal.
func panel(curves []*curve, part, title string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Title.Padding = title, vg.Points(8)
	p.BackgroundColor = color.White // readable on a dark page too
	p.X.Label.Text, p.Y.Label.Text = "how many", "ns a task"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(decades), plot.TickerFunc(decades)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	colors := map[string]int{} // the same thing has one color in all panels
	for _, c := range curves {
		i, known := colors[c.grows]
		if !known {
			i = len(colors)
			colors[c.grows] = i
		}
		if c.part != part {
			continue
		}
		xys := make(plotter.XYs, len(c.points))
		for k, pt := range c.points {
			xys[k] = plotter.XY{X: float64(pt.size), Y: pt.ns}
		}
		line, points, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, fmt.Errorf("curve %s: %w", c.grows, err)
		}
		line.Color, points.Color, points.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		p.Add(line, points)
		p.Legend.Add(c.grows, line, points)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 100_000, 10, 1_000_000
	return p, nil
}

// decades labels the powers of ten.
func decades(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = thousands(int(ticks[i].Value + 0.5))
		}
	}
	return ticks
}
