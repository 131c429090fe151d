package loadtest

import (
	_ "embed" // the plotting library and the page
	"fmt"
	"html/template"
	"io"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/render"
)

//go:embed assets/echarts.common.min.js
var echartsJS string // Apache ECharts; see assets/README.md

//go:embed assets/report.html
var pageText string

var pageTemplate = template.Must(template.New("report").Parse(pageText))

type page struct {
	Library  template.JS
	Sections []section
}

type section struct {
	*Result
	Rows  []row
	Plots []plot
}

type plot struct {
	Element template.HTML
	Script  template.HTML
}

// WriteHTML writes one self-contained page: plotting library, plots and tables, with nothing to load.
func WriteHTML(out io.Writer, results []*Result) error {
	p := page{Library: template.JS(echartsJS)}
	for i, r := range results {
		s := section{Result: r, Rows: r.rows()}
		for k, line := range r.plots() {
			line.SetGlobalOptions(charts.WithInitializationOpts(opts.Initialization{
				ChartID: fmt.Sprintf("plot_%d_%d", i, k), Width: "100%", Height: "320px"}))
			line.Validate()
			snippet := line.RenderSnippet()
			s.Plots = append(s.Plots, plot{template.HTML(snippet.Element), template.HTML(snippet.Script)})
		}
		p.Sections = append(p.Sections, s)
	}
	return pageTemplate.Execute(out, p)
}

// plots draws what the result has.
func (r *Result) plots() []*charts.Line {
	var list []*charts.Line
	if len(r.Percentiles) > 0 {
		list = append(list, r.latencyPlot())
	}
	if len(r.Memory) > 1 {
		memory := newPlot("Memory by open connections", "", "MiB")
		add(memory, "server", r.Memory, func(m MemorySample) (float64, float64) {
			return float64(m.Connections), float64(m.RSS) / (1 << 20)
		})
		add(memory, "generator", r.Memory, func(m MemorySample) (float64, float64) {
			return float64(m.Connections), float64(m.ClientRSS) / (1 << 20)
		})
		list = append(list, memory)
	}
	if len(r.Series) < 2 {
		return list
	}
	rate := newPlot("Messages", "s", "per second")
	add(rate, "sent", perSecond(r.Series, func(s Sample) int64 { return s.Sent }), identity)
	add(rate, "received", perSecond(r.Series, func(s Sample) int64 { return s.Received }), identity)
	if r.Config.Rate > 0 {
		add(rate, "wanted", r.Series, func(s Sample) (float64, float64) { return s.T, s.Wanted })
	}
	tail := newPlot("Latency over time", "s", "ms")
	add(tail, "p99", r.Series, func(s Sample) (float64, float64) { return s.T, float64(s.P99) / 1000 })
	add(tail, "max", r.Series, func(s Sample) (float64, float64) { return s.T, float64(s.Max) / 1000 })
	if r.Upgrade != nil {
		r.Upgrade.mark(rate, tail)
	}
	held := newPlot("Connections", "s", "open")
	add(held, "open", r.Series, func(s Sample) (float64, float64) { return s.T, float64(s.Connections) })
	if r.Messages.Sent > 0 {
		list = append(list, rate, tail)
	}
	list = append(list, held)
	if r.Server != nil {
		rss := newPlot("Server memory", "s", "MiB")
		add(rss, "RSS", r.Series, func(s Sample) (float64, float64) { return s.T, float64(s.RSS) / (1 << 20) })
		cpu := newPlot("Server CPU", "s", "% of a core")
		add(cpu, "CPU", r.Series, func(s Sample) (float64, float64) { return s.T, s.CPU })
		list = append(list, rss, cpu)
	}
	return list
}

// mark draws where each takeover began and ended.
func (u *Upgrades) mark(lines ...*charts.Line) {
	var at []opts.MarkLineNameXAxisItem
	for i, t := range u.Takeovers {
		at = append(at, opts.MarkLineNameXAxisItem{Name: fmt.Sprintf("takeover %d", i+1), XAxis: t.Began},
			opts.MarkLineNameXAxisItem{Name: fmt.Sprintf("its end %d", i+1), XAxis: t.Began + t.Took})
	}
	for _, line := range lines {
		line.SetSeriesOptions(charts.WithMarkLineNameXAxisItemOpts(at...))
	}
}

func (r *Result) latencyPlot() *charts.Line {
	line := newPlot("Latency by percentile", "%", "ms")
	names := make([]string, len(r.Percentiles))
	data := make([]opts.LineData, len(r.Percentiles))
	for i, p := range r.Percentiles {
		names[i], data[i] = fmt.Sprint(p.Percent), opts.LineData{Value: float64(p.Micros) / 1000}
	}
	line.SetGlobalOptions(charts.WithXAxisOpts(opts.XAxis{Name: "%", Type: "category"}))
	line.SetXAxis(names).AddSeries("latency", data)
	return line
}

func newPlot(title, x, y string) *charts.Line {
	line := charts.NewLine()
	line.SetGlobalOptions(
		charts.WithTitleOpts(opts.Title{Title: title}),
		charts.WithTooltipOpts(opts.Tooltip{Show: opts.Bool(true), Trigger: "axis"}),
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(true), Right: "10"}),
		charts.WithXAxisOpts(opts.XAxis{Name: x, Type: "value"}),
		charts.WithYAxisOpts(opts.YAxis{Name: y, Type: "value"}),
	)
	line.SetSeriesOptions(charts.WithAnimationOpts(opts.Animation{Animation: opts.Bool(false)}))
	return line
}

// add draws one series; at gives an item's coordinates.
func add[T any](line *charts.Line, name string, items []T, at func(T) (x, y float64)) {
	data := make([]opts.LineData, len(items))
	for i, item := range items {
		x, y := at(item)
		data[i] = opts.LineData{Value: [2]float64{x, y}}
	}
	line.AddSeries(name, data)
}

type point struct{ x, y float64 }

func identity(p point) (x, y float64) { return p.x, p.y }

// perSecond is the growth of a count between samples.
func perSecond(series []Sample, count func(Sample) int64) (points []point) {
	for i := 1; i < len(series); i++ {
		if dt := series[i].T - series[i-1].T; dt > 0 {
			points = append(points, point{series[i].T, float64(count(series[i])-count(series[i-1])) / dt})
		}
	}
	return points
}

var _ render.Renderer = (*charts.Line)(nil)
