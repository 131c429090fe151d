package loadtest

// slope is the incline of the least-squares line through the points, and whether there is one: it takes points at
// two different x.
func slope(points []MemorySample) (float64, bool) {
	var n, x, y float64
	for _, p := range points {
		n++
		x += float64(p.Connections)
		y += float64(p.RSS)
	}
	var xx, xy float64
	for _, p := range points {
		dx := float64(p.Connections) - x/n
		xx += dx * dx
		xy += dx * (float64(p.RSS) - y/n)
	}
	if xx == 0 {
		return 0, false
	}
	return xy / xx, true
}
