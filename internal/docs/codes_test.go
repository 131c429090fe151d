package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"roost/proto/client"
)

// code is one of the protocol as the pages show it.
type code struct{ number, text, again string }

const codesFile = "proto/client/codes.go"

var (
	errorCode       = regexp.MustCompile(`(?m)^\s+Err\w+\s+= &Error\{(\d+), "([^"]+)", (true|false)\}`)
	disconnectCode  = regexp.MustCompile(`(?m)^\s+Disconnect\w+\s+= Disconnect\{(\d+), "([^"]+)"\}`)
	unsubscribeCode = regexp.MustCompile(`(?m)^\s+Unsubscribe\w+\s+= Unsubscribe\{(\d+), "([^"]+)"\}`)
)

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// codes reads those of the code by their section in docs/protocol.md.
func codes(t testing.TB) map[string][]code {
	t.Helper()
	source := string(read(t, codesFile))
	all := map[string][]code{}
	for _, m := range errorCode.FindAllStringSubmatch(source, -1) {
		all["Errors"] = append(all["Errors"], code{m[1], m[2], yes(m[3] == "true")})
	}
	for _, m := range disconnectCode.FindAllStringSubmatch(source, -1) {
		n, _ := strconv.ParseUint(m[1], 10, 32)
		all["Disconnects"] = append(all["Disconnects"], code{m[1], m[2], yes((&client.Disconnect{Code: uint32(n)}).Reconnect())})
	}
	for _, m := range unsubscribeCode.FindAllStringSubmatch(source, -1) {
		all["Unsubscribes"] = append(all["Unsubscribes"], code{m[1], m[2], yes(m[1] >= "2500")})
	}
	for section, least := range map[string]int{"Errors": 13, "Disconnects": 21, "Unsubscribes": 3} {
		if n := len(all[section]); n < least {
			t.Fatalf("%s: only %d %s were found", codesFile, n, section)
		}
	}
	return all
}

// section returns the part of a page under a heading of the second level.
func section(p *page, heading string) *page {
	_, text, _ := strings.Cut(string(p.source), "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return parse(p.name, []byte(text))
}

// wrongCodes compares the table of a section with the code, both ways and in order.
func wrongCodes(p *page, want []code) (problems []string) {
	if len(p.tables) != 1 {
		return []string{fmt.Sprintf("%s: %d tables of codes, not one", p.name, len(p.tables))}
	}
	var have []code
	for _, row := range p.tables[0].rows[1:] {
		have = append(have, code{row[0], row[1], row[2]})
	}
	for _, c := range want {
		if !slices.Contains(have, c) {
			problems = append(problems, fmt.Sprintf("%s has no row | %s | %s | %s |", p.name, c.number, c.text, c.again))
		}
	}
	for _, c := range have {
		if !slices.Contains(want, c) {
			problems = append(problems, fmt.Sprintf("%s has | %s | %s | %s |, the code has not", p.name, c.number, c.text, c.again))
		}
	}
	return problems
}

func TestCodes(t *testing.T) {
	p := parse("docs/protocol.md", read(t, "docs/protocol.md"))
	for heading, want := range codes(t) {
		report(t, wrongCodes(section(p, heading), want))
	}
	const head = "| code | reason | comes back | when |\n|---|---|---|---|\n"
	refuses(t, []wrong{
		{head + "| 3000 | closed | yes | x |\n| 3500 | bad | no | x |\n", ""},
		{head + "| 3000 | closed | yes | x |\n", "has no row | 3500 | bad | no |"},
		{head + "| 3000 | closed | no | x |\n| 3500 | bad | no | x |\n", "has | 3000 | closed | no |, the code has not"},
		{head + "| 3000 | closing | yes | x |\n| 3500 | bad | no | x |\n", "has no row | 3000 | closed | yes |"},
		{"no table", "0 tables"},
	}, func(sample string) []string {
		return wrongCodes(parse("page.md", []byte(sample)), []code{{"3000", "closed", "yes"}, {"3500", "bad", "no"}})
	})
}

// TestTroubleshootingHasAllCodes: every close code has a row there, and every reason of
// roost_closed_total.
func TestTroubleshootingHasAllCodes(t *testing.T) {
	p := parse("docs/troubleshooting.md", read(t, "docs/troubleshooting.md"))
	want := []string{"1000", "1001", "1002", "1006", "1007", "1008", "1009", "1011", "1013"}
	for _, c := range codes(t)["Disconnects"] {
		want = append(want, c.number)
	}
	report(t, missingRows(section(p, "Close codes"), want))

	var labels []string
	for _, m := range regexp.MustCompile(`(?m)^\s+(?:poller\.)?Reason\w+:\s+\{"(\w+)"`).FindAllStringSubmatch(string(read(t, "conn/reason.go")), -1) {
		if m[1] != "none" {
			labels = append(labels, m[1])
		}
	}
	if len(labels) < 15 {
		t.Fatalf("conn/reason.go: only %d reasons were found", len(labels))
	}
	report(t, missingRows(section(p, "Closed sockets by reason"), labels))

	refuses(t, []wrong{
		{"| code | x |\n|---|---|\n| 1000, `1001` | x |\n", ""},
		{"| code | x |\n|---|---|\n| 1000 | 1001 |\n", "no row for 1001"},
	}, func(sample string) []string {
		return missingRows(parse("page.md", []byte(sample)), []string{"1000", "1001"})
	})
}

// missingRows names the words that no row of the page's tables begins with.
func missingRows(p *page, want []string) (problems []string) {
	for _, w := range want {
		found := false
		for _, t := range p.tables {
			for _, row := range t.rows {
				found = found || slices.Contains(strings.Split(row[0], ", "), w)
			}
		}
		if !found {
			problems = append(problems, fmt.Sprintf("%s has no row for %s", p.name, w))
		}
	}
	return problems
}
