package docs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// dashboard is what Grafana imports, as far as it matters here.
type dashboard struct {
	ID            *int // a number would overwrite another dashboard
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Datasource *datasource
			Query      any
		}
	}
	Panels []panel
}

type datasource struct{ Type, UID string }

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource *datasource
	GridPos    struct{ H, W, X, Y int }
	Targets    []struct {
		RefID      string
		Expr       string
		Datasource *datasource
	}
	Panels []panel
}

const (
	dashboardFile = "deploy/grafana/roost.json"
	// leastSchema is that of Grafana 9.1, the first to know panels by their data source's uid.
	leastSchema = 37
	gridWidth   = 24
)

// panelTypes are the ones in use; all come with Grafana.
var panelTypes = []string{"row", "stat", "timeseries"}

// dashboardProblems names what Grafana or its reader would stumble over, and which metrics
// are neither shown nor among the ones left out.
func (m *metrics) dashboardProblems(text string, leftOut []string) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var d dashboard
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return []string{err.Error()}
	}
	if d.ID != nil || d.UID == "" || d.Title == "" || d.SchemaVersion < leastSchema {
		bad("a dashboard has uid, title and a schemaVersion of %d or more, and no id", leastSchema)
	}
	source := false
	for _, v := range d.Templating.List {
		source = source || v.Name == "datasource" && v.Type == "datasource" && v.Query == "prometheus"
		if v.Type == "query" && !v.Datasource.variable() {
			bad("the variable %s does not ask ${datasource}", v.Name)
		}
	}
	if !source {
		bad("there is no variable datasource for Prometheus")
	}
	shown := map[string]bool{}
	for _, p := range d.Panels {
		problems = append(problems, m.panelProblems(p, shown)...)
	}
	problems = append(problems, collisions(d.Panels)...)
	for name := range m.known {
		switch listed := slices.Contains(leftOut, name); {
		case !shown[name] && !listed:
			bad("%s is neither on the dashboard nor in the list of those that are not, in docs/observability.md", name)
		case shown[name] && listed:
			bad("%s is on the dashboard and in the list of those that are not", name)
		}
	}
	return problems
}

func (d *datasource) variable() bool {
	return d != nil && d.Type == "prometheus" && d.UID == "${datasource}"
}

// panelProblems checks one panel and notes the metrics that it shows.
func (m *metrics) panelProblems(p panel, shown map[string]bool) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("panel %q: ", p.Title)+fmt.Sprintf(format, args...))
	}
	g := p.GridPos
	if g.H < 1 || g.W < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > gridWidth {
		bad("its place is off the grid: %+v", g)
	}
	if p.ID == 0 || p.Title == "" || !slices.Contains(panelTypes, p.Type) {
		bad("it needs an id, a title, and one of the types %v", panelTypes)
	}
	if p.Type == "row" {
		if len(p.Panels) > 0 {
			bad("panels stand after their row, not in it")
		}
		return problems
	}
	if len(p.Targets) == 0 || !p.Datasource.variable() {
		bad("it has no targets, or does not ask ${datasource}")
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if target.RefID == "" || refs[target.RefID] || !target.Datasource.variable() {
			bad("target %q: its refId is missing or taken, or it does not ask ${datasource}", target.RefID)
		}
		refs[target.RefID] = true
		if target.Expr == "" || !strings.Contains(target.Expr, `{job=~"$job",instance=~"$instance"`) {
			bad("target %s does not choose by job and instance", target.RefID)
		}
		// Grafana puts times in here.
		for _, problem := range m.expression(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")) {
			bad("%s", problem)
		}
		for _, use := range metricUse.FindAllStringSubmatch(target.Expr, -1) {
			if _, name, ok := m.find(use[1]); ok {
				shown[name] = true
			}
		}
	}
	return problems
}

// collisions names panels with the same id, and those that lie on each other.
func collisions(panels []panel) (problems []string) {
	for i, a := range panels {
		for _, b := range panels[:i] {
			if a.ID == b.ID {
				problems = append(problems, fmt.Sprintf("panels %q and %q have the same id %d", b.Title, a.Title, a.ID))
			}
			x, y := a.GridPos, b.GridPos
			if x.X < y.X+y.W && y.X < x.X+x.W && x.Y < y.Y+y.H && y.Y < x.Y+x.H {
				problems = append(problems, fmt.Sprintf("panels %q and %q lie on each other", b.Title, a.Title))
			}
		}
	}
	return problems
}

// notShown reads the list of metrics that the dashboard leaves out.
func notShown(page string) (names []string) {
	_, section, _ := strings.Cut(page, "\n## Not on the dashboard\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return metricName.FindAllString(section, -1)
}

func TestDashboard(t *testing.T) {
	leftOut := notShown(string(read(t, "docs/observability.md")))
	report(t, readMetrics(t).dashboardProblems(string(read(t, dashboardFile)), leftOut))
}

func TestDashboardIsChecked(t *testing.T) {
	const (
		source = `{"type":"prometheus","uid":"${datasource}"}`
		good   = `{"uid":"u","title":"t","schemaVersion":39,"templating":{"list":[{"name":"datasource","type":"datasource","query":"prometheus"}]},"panels":[
			{"id":1,"type":"stat","title":"one","datasource":` + source + `,"gridPos":{"h":4,"w":4,"x":0,"y":0},
				"targets":[{"refId":"A","expr":"roost_now{job=~\"$job\",instance=~\"$instance\"}","datasource":` + source + `}]},
			{"id":2,"type":"timeseries","title":"two","datasource":` + source + `,"gridPos":{"h":8,"w":8,"x":4,"y":0},
				"targets":[{"refId":"A","expr":"rate(roost_closed_total{job=~\"$job\",instance=~\"$instance\"}[$__rate_interval])","datasource":` + source + `}]}]}`
	)
	change := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the sample has no %s", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	refuses(t, []wrong{
		{good, ""},
		{change(`"schemaVersion":39`, `"schemaVersion":1`), "schemaVersion of 37"},
		{change(`{"uid":"u"`, `{"id":7,"uid":"u"`), "no id"},
		{change(`"query":"prometheus"`, `"query":"loki"`), "no variable datasource"},
		{change(`"id":2`, `"id":1`), "the same id 1"},
		{change(`"x":4`, `"x":3`), "lie on each other"},
		{change(`"x":4`, `"x":20`), "off the grid"},
		{change(`"type":"stat"`, `"type":"graph"`), "one of the types"},
		{change(`"targets":[{"refId":"A","expr":"roost_now`, `"tragets":[{"refId":"A","expr":"roost_now`), "no targets"},
		{change(`"datasource":`+source+`,"gridPos":{"h":4`, `"datasource":{"type":"prometheus","uid":"abc"},"gridPos":{"h":4`), "does not ask ${datasource}"},
		{change(`roost_now{`, `roost_then{`), "no metric roost_then"},
		{change(`roost_now{job`, `roost_now{jab`), "does not choose by job"},
		{change(`rate(roost_closed_total`, `(roost_seconds`), "is a histogram"},
		{change(`roost_closed_total`, `roost_other_total`), "roost_closed_total is neither on the dashboard"},
		{"{", "JSON"},
	}, func(sample string) []string {
		return sampleMetrics.dashboardProblems(sample, []string{"roost_seconds"})
	})
	if p := sampleMetrics.dashboardProblems(good, []string{"roost_seconds", "roost_now"}); len(p) != 1 || !strings.Contains(p[0], "and in the list") {
		t.Errorf("%q", p)
	}
	if names := notShown("# T\n## Not on the dashboard\n- `roost_a`, `roost_b`: why\n\n## Next\n`roost_c`"); !slices.Equal(names, []string{"roost_a", "roost_b"}) {
		t.Errorf("the list of metrics not shown: %v", names)
	}
}
