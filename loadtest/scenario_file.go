package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// ScenarioFile turns a scenario file into command lines, one per step. The file is a YAML list of steps; each has
// the key "scenario" and any flags of that command under their own names:
//
//   - scenario: echo
//     connections: 1000
//     duration: 10s
//
// A list of values repeats the flag. Names and values are checked where those of the command line are.
func ScenarioFile(text []byte) ([][]string, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var steps []map[string]yaml.Node
	if err := dec.Decode(&steps); errors.Is(err, io.EOF) {
		return nil, errors.New("no steps: the file must be a list, each item with the key scenario")
	} else if err != nil {
		return nil, err
	}
	lines := make([][]string, 0, len(steps))
	for i, step := range steps {
		name := step["scenario"]
		if name.Kind != yaml.ScalarNode || name.Value == "run" || name.Value == ChildCommand {
			return nil, fmt.Errorf("step %d: give it scenario: idle, echo, fanout, storm, soak, clients, join, publish or reconnect", i+1)
		}
		line := []string{name.Value}
		keys := make([]string, 0, len(step))
		for key := range step {
			if key != "scenario" {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			node := step[key]
			values := []*yaml.Node{&node}
			if node.Kind == yaml.SequenceNode {
				values = node.Content
			}
			for _, v := range values {
				if v.Kind != yaml.ScalarNode {
					return nil, fmt.Errorf("line %d: %s: give a plain value or a list of them", v.Line, key)
				}
				line = append(line, "--"+key+"="+v.Value)
			}
		}
		lines = append(lines, line)
	}
	return lines, nil
}
