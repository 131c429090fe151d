package main

import (
	"fmt"
	"math"
	"strings"
)

const (
	plotWidth, plotHeight      = 900.0, 380.0
	plotLeft, plotRight        = 70.0, 190.0
	plotTop, plotBottom        = 20.0, 40.0
	plotInnerW, plotInnerH     = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
	plotGridLines, plotBandGap = 5, 14.0
)

// plot draws the memory of both processes over time, in MiB, and the connections, as share of those wanted. The kernel's
// memory, some ten times as much, would flatten both: it is in the table.
func plot(r *result) string {
	lines := []struct {
		name, colour string
		value        func(record) float64
	}{
		{"gateway RSS", "#c0392b", func(rec record) float64 { return float64(rec.Sample.Gateway.RSS) / (1 << 20) }},
		{"load RSS", "#2980b9", func(rec record) float64 { return float64(rec.Sample.Load.RSS) / (1 << 20) }},
	}
	end, top := r.samples[len(r.samples)-1].T, 1.0
	for _, rec := range r.samples {
		for _, line := range lines {
			top = max(top, line.value(rec))
		}
	}
	step := gridStep(top)
	top = step * math.Ceil(top/step)
	x := func(t float64) float64 { return plotLeft + plotInnerW*t/max(end, 1) }
	y := func(share float64) float64 { return plotTop + plotInnerH*(1-share) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+
		`<rect width="100%%" height="100%%" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	for v := 0.0; v <= top; v += step {
		fmt.Fprintf(&b, `<path d="M%g %.1fH%g" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft,
			y(v/top), plotLeft+plotInnerW, plotLeft-6, y(v/top)+4, grouped(v))
	}
	fmt.Fprintf(&b, `<text x="6" y="14">MiB</text><text x="%g" y="%g">%.0f s</text>`+"\n", plotLeft+plotInnerW+10,
		plotTop+plotInnerH+4, end)
	for i, phase := range r.phases {
		fmt.Fprintf(&b, `<path d="M%.1f %gv%g" stroke="#bbb" stroke-dasharray="2 3"/><text x="%.1f" y="%g" fill="#888" `+
			`font-size="9">%s</text>`+"\n", x(phase.T), plotTop, plotInnerH, x(phase.T)+2,
			plotTop+plotInnerH+10+float64(i%3)*9, phase.Phase)
	}
	draw := func(i int, name, colour, dash string, share func(record) float64) {
		points := make([]string, len(r.samples))
		for i, rec := range r.samples {
			points[i] = fmt.Sprintf("%.1f,%.1f", x(rec.T), y(share(rec)))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+
			`<text x="%g" y="%g" fill="%s">%s</text>`+"\n", strings.Join(points, " "), colour, dash,
			plotLeft+plotInnerW+10, plotTop+20+float64(i)*plotBandGap*1.4, colour, name)
	}
	for i, line := range lines {
		draw(i, line.name, line.colour, "none", func(rec record) float64 { return line.value(rec) / top })
	}
	wanted := float64(r.machine.Connections)
	draw(len(lines), fmt.Sprintf("connections, of %s", grouped(wanted)), "#27ae60", "5 4", func(rec record) float64 {
		return min(connectionsOf(rec)/max(wanted, 1), 1)
	})
	b.WriteString("</svg>\n")
	return b.String()
}

// gridStep is 1, 2 or 5 times a power of ten, so that about plotGridLines of it make top.
func gridStep(top float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(top/plotGridLines)))
	for _, factor := range []float64{1, 2, 5} {
		if power*factor*plotGridLines >= top {
			return power * factor
		}
	}
	return power * 10
}
