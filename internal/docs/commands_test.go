package docs

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vocabulary is what pages may name.
type vocabulary struct {
	programs map[string]program
	env      map[string]bool
	targets  map[string]bool // of make
}

// foreignFlags are those of other programs that pages write by themselves. Together with the
// program, as in `docker run --ulimit`, they need no entry.
var foreignFlags = []string{"--help", "--version"}

// testVariables are read by tests only.
var testVariables = []string{"ROOST_BENCH_DATA", "ROOST_E2E_BINARY"}

var (
	envName    = regexp.MustCompile(`\bROOST_[A-Z0-9_]*[A-Z0-9]\b`)
	makeTarget = regexp.MustCompile(`(?:^|[\s;])make ([a-z][a-z-]*)`)
	makeRule   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	separators = regexp.MustCompile(`\|\||&&|[|;&()]|\$\(`)
	assignment = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_]*|ExecStart(?:Pre)?)=`)
)

// before are words that stand before a command.
var before = []string{"sudo", "exec", "nohup", "time", "RUN", "ENTRYPOINT", "CMD"}

// commandProblems names what one of our programs does not know of a piece of shell.
func (v *vocabulary) commandProblems(shell string) (problems []string) {
	shell = strings.ReplaceAll(shell, "\\\n", " ")
	for line := range strings.Lines(shell) {
		line, _, _ = strings.Cut(" "+line, " #")
		for _, command := range separators.Split(line, -1) {
			problems = append(problems, v.oneCommand(strings.Fields(command))...)
		}
	}
	return problems
}

func (v *vocabulary) oneCommand(words []string) (problems []string) {
	for len(words) > 0 && (slices.Contains(before, words[0]) || assignment.MatchString(words[0])) {
		rest := assignment.ReplaceAllString(words[0], "")
		if strings.HasPrefix(words[0], "ExecStart") {
			words = append([]string{rest}, words[1:]...)
			continue
		}
		words = words[1:]
	}
	if len(words) == 0 || strings.Contains(words[0], "=") {
		return nil
	}
	p, ours := v.programs[path.Base(words[0])]
	if !ours || len(words) == 1 {
		return nil
	}
	flags, known := p.commands[words[1]]
	if words[1] == "--help" || words[1] == "--version" || words[1] == strings.ToUpper(words[1]) { // a placeholder
		flags, known = p.flags, true
	}
	if !known {
		return []string{fmt.Sprintf("%s has no command %s", p.name, words[1])}
	}
	for _, w := range words[2:] {
		name, _, _ := strings.Cut(strings.Trim(w, "[]\"'"), "=")
		if flag, ok := strings.CutPrefix(name, "--"); ok && flag != "" && !flags[flag] {
			problems = append(problems, fmt.Sprintf("%s %s has no flag --%s", p.name, words[1], flag))
		}
	}
	return problems
}

// spanProblems names what is wrong with a piece of inline code.
func (v *vocabulary) spanProblems(span string) []string {
	first, _, _ := strings.Cut(span, " ")
	name, isFlag := strings.CutPrefix(first, "--")
	if !isFlag {
		return v.commandProblems(span)
	}
	name, _, _ = strings.Cut(name, "=")
	name = strings.TrimRight(name, ",")
	for _, p := range v.programs {
		if p.flags[name] {
			return nil
		}
	}
	if slices.Contains(foreignFlags, "--"+name) {
		return nil
	}
	return []string{fmt.Sprintf("neither program has a flag --%s", name)}
}

// shellLanguages are those of blocks that are read as shell.
var shellLanguages = []string{"", "sh", "bash", "console", "ini", "dockerfile", "containerfile"}

// unknownNames names the commands, flags, variables and targets of a page that there are not.
func (v *vocabulary) unknownNames(p *page) (problems []string) {
	for _, b := range p.blocks {
		if !slices.Contains(shellLanguages, b.language) {
			continue
		}
		for _, problem := range v.commandProblems(b.text) {
			problems = append(problems, p.at(b.line)+problem)
		}
		problems = append(problems, v.unknownTargets(p, spot{b.text, b.line})...)
	}
	for _, s := range p.spans {
		for _, problem := range v.spanProblems(s.text) {
			problems = append(problems, p.at(s.line)+problem)
		}
		problems = append(problems, v.unknownTargets(p, s)...)
	}
	return append(problems, v.unknownVariables(p.name, p.source)...)
}

func (v *vocabulary) unknownTargets(p *page, s spot) (problems []string) {
	for _, m := range makeTarget.FindAllStringSubmatch(s.text, -1) {
		if !v.targets[m[1]] {
			problems = append(problems, fmt.Sprintf("%sthere is no make %s", p.at(s.line), m[1]))
		}
	}
	return problems
}

func (v *vocabulary) unknownVariables(name string, source []byte) (problems []string) {
	for i, line := range strings.Split(string(source), "\n") {
		for _, variable := range envName.FindAllString(line, -1) {
			if !v.env[variable] {
				problems = append(problems, fmt.Sprintf("%s:%d: no setting has the variable %s", name, i+1, variable))
			}
		}
	}
	return problems
}

// words gathers what pages may name from the programs and from what is generated.
func words(t testing.TB) *vocabulary {
	t.Helper()
	v := &vocabulary{programs: programs(t), env: map[string]bool{}, targets: map[string]bool{}}
	for flag := range v.programs["roost"].commands["serve"] {
		v.env["ROOST_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))] = true
	}
	for _, name := range envName.FindAllString(string(read(t, "docs/configuration.md")), -1) {
		v.env[name] = true // the blocks, which are no flags
	}
	for _, name := range testVariables {
		v.env[name] = true
	}
	for name := range v.programs["roost-load"].env {
		v.env[name] = true
	}
	for _, m := range makeRule.FindAllStringSubmatch(string(read(t, "Makefile")), -1) {
		v.targets[m[1]] = true
	}
	return v
}

func TestNames(t *testing.T) {
	v := words(t)
	for _, p := range pages(t) {
		report(t, v.unknownNames(p))
	}
	for _, name := range []string{"deploy/roost.service", "deploy/roost.yaml"} {
		report(t, v.unknownVariables(name, read(t, name)))
	}
}

func TestNamesAreChecked(t *testing.T) {
	v := &vocabulary{
		programs: map[string]program{"roost": {
			name:     "roost",
			commands: map[string]map[string]bool{"serve": {"address": true}, "token": {"user": true}},
			flags:    map[string]bool{"address": true, "user": true},
		}},
		env:     map[string]bool{"ROOST_ADDRESS": true},
		targets: map[string]bool{"build": true},
	}
	refuses(t, []wrong{
		{"    bin/roost serve --address 127.0.0.1:1 \\\n        --address=x   # --nothing\n    sudo roost token --user ann | roost serve\n", ""},
		{"`--address` `roost serve --address` `docker run --ulimit` `--version` `pgrep -f 'roost x'` `make build` `ROOST_ADDRESS`", ""},
		{"    install bin/roost /usr/local/bin\n    ROOST_ADDRESS=x roost serve\n", ""},
		{"    bin/roost serve --adress x\n", "docs/page.md:1: roost serve has no flag --adress"},
		{"    bin/roost serve \\\n        --adress=x\n", "no flag --adress"},
		{"    cat x | roost token --address x\n", "roost token has no flag --address"},
		{"    A=b /usr/bin/roost start\n", "roost has no command start"},
		{"    ExecStart=/usr/bin/roost serve --user x\n", "roost serve has no flag --user"},
		{"```sh\nroost sirve\n```\n", "docs/page.md:2: roost has no command sirve"},
		{"Give `--adress`.", "neither program has a flag --adress"},
		{"Give `roost serve --adress`.", "no flag --adress"},
		{"Set\n`ROOST_ADRESS`.", "docs/page.md:2: no setting has the variable ROOST_ADRESS"},
		{"Run `make it`.", "there is no make it"},
		{"    make buidl\n", "there is no make buidl"},
	}, func(sample string) []string { return v.unknownNames(parse("docs/page.md", []byte(sample))) })
}
