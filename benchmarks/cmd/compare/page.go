package main

import (
	"fmt"
	"strings"
)

// page is the result as Markdown.
func (r *result) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Side by side, %s\n\n", r.Date)
	if r.Quick {
		b.WriteString("**A quick run: it shows that everything works. Its figures mean nothing.**\n\n")
	}
	fmt.Fprintf(&b, "- Command: `%s`\n- Machine: %s\n", r.Command, r.Machine)
	b.WriteString("- Every run is a fresh process over loopback, the servers taking turns. Figures are medians of the " +
		"repetitions, with the least and the most in brackets. × floor (or × something else) is the median of the ratios to its " +
		"run in the same repetition.\n\n")
	for _, s := range r.Scenarios {
		r.section(&b, s)
	}
	b.WriteString("## Settings\n\nGo servers run with the runtime's defaults (GOGC, GOMAXPROCS).\n\n| server | what it is |\n|---|---|\n")
	for _, server := range r.order {
		fmt.Fprintf(&b, "| %s | %s |\n", server.Name, server.Settings)
	}
	return b.String()
}

func (r *result) section(b *strings.Builder, s *scenarioResult) {
	columns := s.scenario.columns
	fmt.Fprintf(b, "## %s\n\n%s.\n%s\n\n| server | %s |", s.scenario.title, s.Parameters, s.scenario.text, columns[0].title)
	if s.scenario.ratio {
		fmt.Fprintf(b, " × %s |", s.scenario.against().title)
	}
	for _, column := range columns[1:] {
		fmt.Fprintf(b, " %s |", column.title)
	}
	b.WriteString("\n|---|")
	for range columns {
		b.WriteString("--:|")
	}
	if s.scenario.ratio {
		b.WriteString("--:|")
	}
	b.WriteString("\n")
	for _, server := range r.order {
		if !server.TakesPart(s.Name) {
			continue
		}
		fmt.Fprintf(b, "| %s | %s |", server.Name, s.cell(server.Name, columns[0].key, columns[0].format, true))
		if s.scenario.ratio {
			fmt.Fprintf(b, " %s |", s.cell(server.Name, ratioKey, "%.2f", true))
		}
		for _, column := range columns[1:] {
			fmt.Fprintf(b, " %s |", s.cell(server.Name, column.key, column.format, false))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "\n![%s](%s-%s.png)\n\n", s.scenario.title, r.Date, s.Name)
	for _, run := range s.Runs {
		if run.Error != "" {
			fmt.Fprintf(b, "- %s, repetition %d, failed and is not counted: `%s`\n", run.Server, run.Repetition,
				strings.Join(strings.Fields(strings.ReplaceAll(run.Error, "`", "'")), " "))
		}
	}
	b.WriteString("\n")
}

// cell is a figure with, where there are several and they are asked for, its least and most.
func (r *scenarioResult) cell(server, key, format string, bounds bool) string {
	values := r.spread(server, key)
	if values.count == 0 {
		return "–"
	}
	text := fmt.Sprintf(format, values.median)
	if bounds && values.count > 1 {
		text += fmt.Sprintf(" ("+format+"–"+format+")", values.least, values.most)
	}
	return text
}
