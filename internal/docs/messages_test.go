package docs

import (
	"fmt"
	"strings"
	"testing"
)

// unsaid names the messages in tables whose first column is "message" that no code says. An
// ellipsis stands for what differs from time to time.
func unsaid(p *page, source string) (problems []string) {
	for _, t := range p.tables {
		if t.rows[0][0] != "message" {
			continue
		}
		for _, row := range t.rows[1:] {
			for part := range strings.SplitSeq(row[0], "…") {
				if part = strings.TrimSpace(part); !strings.Contains(source, part) {
					problems = append(problems, fmt.Sprintf("%sno code says %q", p.at(t.line), part))
				}
			}
		}
	}
	return problems
}

func TestMessages(t *testing.T) {
	source := sources(t)
	for _, p := range pages(t) {
		report(t, unsaid(p, source))
	}
	const head = "| message | meaning |\n|---|---|\n"
	refuses(t, []wrong{
		{head + "| `bad flag …: not a number` | x |\n", ""},
		{"| word | meaning |\n|---|---|\n| `good flag` | x |\n", ""},
		{head + "| `good flag` | x |\n", `no code says "good flag"`},
		{head + "| `bad flag … is odd` | x |\n", `no code says "is odd"`},
	}, func(sample string) []string {
		return unsaid(parse("docs/page.md", []byte(sample)), `fmt.Errorf("bad flag %s: not a number")`)
	})
}
