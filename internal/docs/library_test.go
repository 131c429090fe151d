package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrograms compiles every Go program of the pages for those who embed roost.
func TestPrograms(t *testing.T) {
	for _, page := range []string{"README.md", "docs/library.md", "client/README.md"} {
		count := 0
		for _, b := range parse(page, read(t, page)).blocks {
			if b.language != "go" {
				continue
			}
			count++
			if !strings.HasPrefix(b.text, "package main\n") {
				t.Errorf("%s: a Go block is no whole program, so nobody knows whether it compiles:\n%s", page, b.text)
				continue
			}
			file := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"vet", file}, {"build", "-o", os.DevNull, file}} {
				cmd := exec.Command("go", args...)
				cmd.Dir = root
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: go %s: %v\n%s", page, args[0], err, out)
				}
			}
			if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: a Go block is not as gofmt has it: %s %v", page, out, err)
			}
		}
		if count == 0 {
			t.Errorf("%s has no Go program", page)
		}
	}
}
