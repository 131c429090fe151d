package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"roost/auth"
)

// signers run the recipes of docs/auth.md.
var signers = map[string]struct {
	file string
	run  []string
}{
	"go":     {"main.go", []string{"go", "run"}},
	"js":     {"sign.cjs", []string{"node"}},
	"python": {"sign.py", []string{"python3"}},
	"php":    {"sign.php", []string{"php"}},
}

// there tells whether a program that a test runs is installed. In CI it must be.
func there(t *testing.T, program string) bool {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "true" {
		t.Error(err)
	} else if err != nil {
		t.Log("not run:", err)
	}
	return err == nil
}

// TestSigning lets the gateway's own code verify what the recipes sign.
func TestSigning(t *testing.T) {
	const secret = "a secret of the tests"
	verifier, err := auth.New(auth.Options{HMACSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer verifier.Close()
	done := map[string]bool{}
	for _, b := range section(parse("docs/auth.md", read(t, "docs/auth.md")), "Make a token").blocks {
		s, ok := signers[b.language]
		if !ok || done[b.language] {
			continue
		}
		done[b.language] = true
		t.Run(b.language, func(t *testing.T) {
			if !there(t, s.run[0]) {
				return
			}
			file := filepath.Join(t.TempDir(), s.file)
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(s.run[0], append(s.run[1:], file)...)
			cmd.Dir = root // the module that has the library
			cmd.Env = append(os.Environ(), "ROOST_HMAC_SECRET_KEY="+secret)
			cmd.Stderr = os.Stderr
			token, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			claims, err := verifier.Connect(context.Background(), string(token[:max(0, len(token)-1)]))
			if err != nil || claims.User != "ann" || claims.IssuedAt == 0 || claims.ExpireAt != claims.IssuedAt+3600 || len(claims.Info) == 0 {
				t.Errorf("%+v, %v", claims, err)
			}
			if _, err := verifier.Connect(context.Background(), string(token[:max(0, len(token)-4)])); err == nil {
				t.Error("a token cut short is taken")
			}
		})
	}
	for language := range signers {
		if !done[language] {
			t.Errorf("docs/auth.md has no recipe in %s", language)
		}
	}
}
