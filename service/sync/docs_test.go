package sync

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The page has every operation and every code.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/sync.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, c := range Codes {
		if line := fmt.Sprintf("| %d | %s |", c.Code, c.Text); !strings.Contains(page, line) {
			t.Errorf("docs/sync.md lacks %q", line)
		}
	}
	for _, op := range Described {
		if !strings.Contains(page, "`"+op.Name+"`") {
			t.Errorf("docs/sync.md lacks the operation %s", op.Name)
		}
		for _, f := range op.Fields {
			if !strings.Contains(page, "`"+f.Name+"`") {
				t.Errorf("docs/sync.md lacks the parameter %s of %s", f.Name, op.Name)
			}
		}
	}
	for name := range writes {
		if takes[name] == nil {
			t.Errorf("%s is not described", name)
		}
	}
}
