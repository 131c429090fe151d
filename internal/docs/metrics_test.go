package docs

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// metric is a row of docs/metrics.md.
type metric struct {
	labels    []string
	histogram bool
}

// metrics are ours by name, and what the code calls itself.
type metrics struct {
	known  map[string]metric
	source string // in which values of labels stand
}

var (
	metricName = regexp.MustCompile(`\broost_[a-z0-9_]*[a-z0-9]\b`)
	// A use of a metric in an expression: name, labels, whether a range follows.
	metricUse  = regexp.MustCompile(`\b(roost_[a-z0-9_]*[a-z0-9])(\{[^}]*\})?(\[)?`)
	labelMatch = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring) ?\(([^)]*)\)`)
)

// readMetrics takes the table of docs/metrics.md, which is made from the code.
func readMetrics(t testing.TB) *metrics {
	t.Helper()
	m := &metrics{map[string]metric{}, sources(t)}
	for _, table := range parse("docs/metrics.md", read(t, "docs/metrics.md")).tables {
		for _, row := range table.rows {
			if strings.HasPrefix(row[0], "roost_") {
				labels := strings.FieldsFunc(row[1], func(r rune) bool { return r == ',' || r == ' ' || r == '–' })
				m.known[row[0]] = metric{labels, strings.Contains(row[2], "(histogram)")}
			}
		}
	}
	if len(m.known) < 40 {
		t.Fatalf("docs/metrics.md has only %d metrics", len(m.known))
	}
	return m
}

// find returns the metric of a sample's name and the name of that metric.
func (m *metrics) find(sample string) (metric, string, bool) {
	if one, ok := m.known[sample]; ok {
		return one, sample, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		name, has := strings.CutSuffix(sample, suffix)
		if one, ok := m.known[name]; has && ok && one.histogram {
			return one, name, true
		}
	}
	return metric{}, "", false
}

// unknownIn names what is no metric in a text.
func (m *metrics) unknownIn(name, text string) (problems []string) {
	for i, line := range strings.Split(text, "\n") {
		for _, at := range metricName.FindAllStringIndex(line, -1) {
			sample := line[at[0]:at[1]]
			if strings.HasPrefix(line[at[1]:], "*") { // all that begin so
				continue
			}
			if _, _, ok := m.find(sample); !ok {
				problems = append(problems, fmt.Sprintf("%s:%d: there is no metric %s", name, i+1, sample))
			}
		}
	}
	return problems
}

// targetLabels are those that Prometheus adds.
var targetLabels = []string{"job", "instance", "le"}

// expression names what is wrong with a PromQL expression that uses metrics of ours.
func (m *metrics) expression(expr string) (problems []string) {
	uses := metricUse.FindAllStringSubmatch(expr, -1)
	allowed := slices.Clone(targetLabels)
	for _, use := range uses {
		one, name, ok := m.find(use[1])
		if !ok {
			problems = append(problems, fmt.Sprintf("there is no metric %s", use[1]))
			continue
		}
		allowed = append(allowed, one.labels...)
		if one.histogram == (use[1] == name) {
			problems = append(problems, fmt.Sprintf("%s is a histogram: use _bucket, _sum or _count", name))
		}
		counts := one.histogram || strings.HasSuffix(name, "_total")
		if counts && use[3] == "" {
			problems = append(problems, fmt.Sprintf("%s counts since the start: take its rate or increase", use[1]))
		}
		for _, match := range labelMatch.FindAllStringSubmatch(use[2], -1) {
			problems = append(problems, m.matcher(name, one, match[1], match[3])...)
		}
	}
	for _, group := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			if label = strings.TrimSpace(label); label != "" && len(uses) > 0 && !slices.Contains(allowed, label) {
				problems = append(problems, fmt.Sprintf("no metric in it has the label %s", label))
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		problems = append(problems, "its brackets do not match")
	}
	return problems
}

// matcher checks one matcher of a selector, whose values must stand in the code.
func (m *metrics) matcher(name string, one metric, label, value string) (problems []string) {
	if slices.Contains(targetLabels, label) {
		return nil
	}
	if !slices.Contains(one.labels, label) {
		return []string{fmt.Sprintf("%s has no label %s", name, label)}
	}
	for v := range strings.SplitSeq(value, "|") {
		if label != "code" && !strings.Contains(m.source, `"`+v+`"`) {
			problems = append(problems, fmt.Sprintf("no code gives the label %s of %s the value %q", label, name, v))
		}
	}
	return problems
}

func TestMetrics(t *testing.T) {
	m := readMetrics(t)
	for _, p := range pages(t) {
		report(t, m.unknownIn(p.name, string(p.source)))
	}
}

// sampleMetrics are for samples.
var sampleMetrics = &metrics{map[string]metric{
	"roost_now":          {},
	"roost_closed_total": {labels: []string{"reason"}},
	"roost_seconds":      {labels: []string{"event"}, histogram: true},
}, `"panic" "rpc"`}

func TestMetricsAreChecked(t *testing.T) {
	refuses(t, []wrong{
		{"`roost_now`, roost_seconds_bucket and all of `roost_clo*`", ""},
		{"\n`roost_noww`", "page.md:2: there is no metric roost_noww"},
		{"roost_now_bucket", "no metric roost_now_bucket"},
	}, func(sample string) []string { return sampleMetrics.unknownIn("page.md", sample) })

	refuses(t, []wrong{
		{`roost_now > 3`, ""},
		{`sum by (reason, job) (rate(roost_closed_total{reason="panic",job="x"}[5m]))`, ""},
		{`histogram_quantile(0.5, sum by (le) (rate(roost_seconds_bucket{event=~"rpc"}[5m])))`, ""},
		{`up == 0`, ""},
		{`roost_noww`, "no metric roost_noww"},
		{`roost_closed_total > 1`, "take its rate"},
		{`rate(roost_seconds[5m])`, "is a histogram"},
		{`sum by (kind) (rate(roost_closed_total[5m]))`, "no metric in it has the label kind"},
		{`rate(roost_closed_total{kind="panic"}[5m])`, "roost_closed_total has no label kind"},
		{`rate(roost_closed_total{reason=~"panic|slow"}[5m])`, `the value "slow"`},
		{`sum(rate(roost_closed_total[5m])`, "brackets"},
	}, sampleMetrics.expression)
}

const rulesFile = "deploy/prometheus/roost.rules.yaml"

// ruleFile is what Prometheus reads.
type ruleFile struct {
	Groups []struct {
		Name     string
		Interval string `yaml:",omitempty"`
		Rules    []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

var (
	duration = regexp.MustCompile(`^([0-9]+(ms|s|m|h|d))+$`)
	alert    = regexp.MustCompile(`^Roost[A-Za-z]+$`)
)

// rules names what is wrong with a file of alerts, of which page must tell.
func (m *metrics) rules(text string, page *page) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var file ruleFile
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return []string{err.Error()}
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] || !alert.MatchString(r.Alert) {
				bad("the name %q is taken, or not Roost and letters", r.Alert)
			}
			seen[r.Alert] = true
			if !slices.ContainsFunc(page.spans, func(s spot) bool { return s.text == r.Alert }) {
				bad("%s does not tell of the alert %s", page.name, r.Alert)
			}
			if r.For != "" && !duration.MatchString(r.For) {
				bad("%s: %q is no duration", r.Alert, r.For)
			}
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				bad("%s: severity is %q, must be warning or critical", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				bad("%s needs a summary and a description", r.Alert)
			}
			if !strings.ContainsAny(r.Expr, "<>=") && !strings.Contains(r.Expr, "absent(") {
				bad("%s compares with nothing", r.Alert)
			}
			for _, problem := range m.expression(r.Expr) {
				bad("%s: %s", r.Alert, problem)
			}
		}
	}
	if len(seen) == 0 {
		bad("there is no alert")
	}
	return problems
}

func TestAlerts(t *testing.T) {
	text := string(read(t, rulesFile))
	page := parse("docs/observability.md", read(t, "docs/observability.md"))
	report(t, readMetrics(t).rules(text, page))
	for _, s := range page.spans {
		if alert.MatchString(s.text) && !strings.Contains(text, "alert: "+s.text+"\n") {
			t.Errorf("%sthere is no alert %s", page.at(s.line), s.text)
		}
	}
	if there(t, "promtool") {
		if out, err := exec.Command("promtool", "check", "rules", filepath.Join(root, rulesFile)).CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
}

func TestAlertsAreChecked(t *testing.T) {
	page := parse("docs/observability.md", []byte("`RoostX`"))
	file := func(rule string) string { return "groups:\n  - name: x\n    rules:\n      - " + rule + "\n" }
	const rest = "labels: {severity: warning}, annotations: {summary: s, description: d}}"
	refuses(t, []wrong{
		{file("{alert: RoostX, expr: roost_now > 1, for: 5m, " + rest), ""},
		{file("{alert: RoostY, expr: roost_now > 1, " + rest), "does not tell of the alert RoostY"},
		{file("{alert: RoostX, expr: roost_noww > 1, " + rest), "RoostX: there is no metric roost_noww"},
		{file("{alert: RoostX, expr: roost_now, " + rest), "compares with nothing"},
		{file("{alert: RoostX, expr: roost_now > 1, for: 5x, " + rest), "is no duration"},
		{file("{alert: RoostX, expr: roost_now > 1, labels: {severity: bad}}"), "severity is"},
		{file("{alert: RoostX, expr: roost_now > 1, labels: {severity: warning}}"), "needs a summary"},
		{file("{alert: RoostX, exp: roost_now > 1, " + rest), "field exp not found"},
		{"groups: []\n", "there is no alert"},
	}, func(sample string) []string { return sampleMetrics.rules(sample, page) })
}
