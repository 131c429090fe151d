package main

import (
	"fmt"
	"image/color"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

var (
	oursColor  = color.NRGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}
	peersColor = color.NRGBA{R: 0xb4, G: 0xb8, B: 0xbd, A: 0xff}
	textColor  = color.NRGBA{R: 0x24, G: 0x29, B: 0x2f, A: 0xff}
)

// bar is one server's bar, with its spread as a whisker.
type bar struct {
	server string
	spread
}

// plot draws the scenario as one bar per server, less is better, to a PNG file.
func (r *result) plot(s *scenarioResult, path string) error {
	column := s.scenario.columns[0]
	key, title, format := column.key, column.title, column.format
	if s.scenario.ratio {
		key, title, format = ratioKey, title+", × the "+s.scenario.against().title, "%.2f"
	}
	var bars []bar
	for _, server := range slices.Backward(r.order) { // the first at the top
		if values := s.spread(server.Name, key); values.count > 0 {
			bars = append(bars, bar{server.Name, values})
		}
	}
	if len(bars) == 0 {
		return nil
	}
	p, err := chart(bars, format)
	if err != nil {
		return err
	}
	p.Title.Text = s.scenario.title + " (" + s.Parameters + ")"
	p.X.Label.Text = title + " (less is better)"
	height := vg.Length(len(bars))*0.85*vg.Centimeter + 2.6*vg.Centimeter
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(18*vg.Centimeter, height), vgimg.UseDPI(144))}
	const margin = 3 * vg.Millimeter
	p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func chart(bars []bar, format string) (*plot.Plot, error) {
	plot.DefaultFont.Variant, plotter.DefaultFont.Variant = "Sans", "Sans"
	p := plot.New()
	p.Title.TextStyle.Color = textColor
	p.Title.Padding = 2 * vg.Millimeter
	p.X.Min = 0
	labels := plotter.XYLabels{}
	names := make([]string, len(bars))
	ours, others := make(plotter.Values, len(bars)), make(plotter.Values, len(bars))
	whiskers := whiskers(bars)
	most := 0.0
	for i, bar := range bars {
		names[i] = bar.server
		// Two charts over the same places, so that there are two colours.
		if strings.HasPrefix(bar.server, "roost") {
			ours[i] = bar.median
		} else {
			others[i] = bar.median
		}
		most = max(most, bar.most)
		labels.XYs = append(labels.XYs, plotter.XY{X: bar.most, Y: float64(i)})
		labels.Labels = append(labels.Labels, "  "+fmt.Sprintf(format, bar.median))
	}
	p.X.Max = most * 1.12 // room for the figure beside the longest bar
	for _, of := range []struct {
		values plotter.Values
		fill   color.Color
	}{{ours, oursColor}, {others, peersColor}} {
		drawn, err := plotter.NewBarChart(of.values, 0.5*vg.Centimeter)
		if err != nil {
			return nil, err
		}
		drawn.Horizontal, drawn.Color, drawn.LineStyle.Width = true, of.fill, 0
		p.Add(drawn)
	}
	errorBars, err := plotter.NewXErrorBars(whiskers)
	if err != nil {
		return nil, err
	}
	errorBars.Color = textColor
	figures, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range figures.TextStyle {
		figures.TextStyle[i].YAlign = draw.YCenter
	}
	p.Add(errorBars, figures)
	p.NominalY(names...)
	return p, nil
}

// whiskerData places the spread of each bar at its end.
type whiskerData struct {
	plotter.XYs
	plotter.XErrors
}

func whiskers(bars []bar) whiskerData {
	var data whiskerData
	for i, bar := range bars {
		data.XYs = append(data.XYs, plotter.XY{X: bar.median, Y: float64(i)})
		data.XErrors = append(data.XErrors, struct{ Low, High float64 }{bar.median - bar.least, bar.most - bar.median})
	}
	return data
}
