package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// The parts of the file that are no flags.
const (
	channelsKey = "channels"
	backendsKey = "backends"
	rawKey      = "raw"
)

var blockKeys = []string{channelsKey, backendsKey, rawKey}

// block returns what a part of the file is read into.
func (c *Config) block(key string) any {
	switch key {
	case channelsKey:
		return &c.Channels
	case backendsKey:
		return &c.Backends
	}
	return &c.Raw
}

// BeforeResolve reads the file, if there is one, and the blocks of the environment, and
// gives kong the values of the flags. What is wrong in them is kept for Problems,
// so that all of it is told at once.
func (c *Config) BeforeResolve(k *kong.Context) error {
	if c.read { // kong finds the hook in the command and once more in what it embeds
		return nil
	}
	c.read = true
	flags := map[string]*kong.Flag{}
	for _, f := range k.Flags() {
		flags[f.Name] = f
	}
	c.given, c.blocks = map[string]bool{}, map[string]*yaml.Node{}
	for _, p := range k.Path {
		if p.Flag != nil {
			c.given[p.Flag.Name] = true
		}
	}
	c.lookAround(flags)
	path, _ := k.FlagValue(flags["config"]).(string)
	if path != "" {
		f := file{path: path, flags: flags, values: map[string]any{}}
		f.read(c)
		c.problems = f.problems
		k.AddResolver(kong.ResolverFunc(f.resolve))
	}
	for _, key := range blockKeys {
		if text, ok := os.LookupEnv(envName(key)); ok {
			f := file{path: envName(key)}
			f.block(c, key, text)
			c.problems = append(c.problems, f.problems...)
		}
	}
	return nil
}

// lookAround notes variables of the environment that look like a slip. Others may be
// there for good reasons: Kubernetes sets some for every service called roost.
func (c *Config) lookAround(flags map[string]*kong.Flag) {
	var known []string
	for _, key := range blockKeys {
		known = append(known, envName(key))
	}
	for _, f := range flags {
		known = append(known, f.Envs...)
	}
	slices.Sort(known)
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, envPrefix+"SERVICE_") || slices.Contains(known, name) {
			continue
		}
		if near := suggestion(name, known); near != "" {
			c.Warnings = append(c.Warnings, fmt.Sprintf("the environment has %s, which means nothing%s", name, near))
		}
	}
}

// file is one configuration file while it is read.
type file struct {
	path     string
	flags    map[string]*kong.Flag
	values   map[string]any // for kong, by flag
	problems []error
}

func (f *file) problem(line int, format string, args ...any) {
	f.problems = append(f.problems, placed{f.path, line, fmt.Errorf(format, args...)})
}

// resolve implements kong.ResolverFunc. kong would let it override the environment.
func (f *file) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	return f.values[flag.Name], nil
}

func (f *file) read(c *Config) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		f.problems = append(f.problems, fmt.Errorf("configuration file: %w", err))
		c.unread = true
		return
	}
	f.parsed(b, c)
}

func (f *file) parsed(b []byte, c *Config) {
	root, ok := f.parse(b)
	if !ok {
		c.unread = len(f.problems) > 0
		return
	}
	c.file = source{f.path, root}
	known := slices.Sorted(maps.Keys(f.flags))
	known = slices.DeleteFunc(known, func(name string) bool {
		return name == "help" || name == "config" || f.flags[name].Tag.Has("env")
	})
	known = append(known, blockKeys...)
	f.eachKey(root, known, func(key string, value *yaml.Node) {
		if slices.Contains(blockKeys, key) {
			f.decode(c, key, value)
			return
		}
		f.flag(f.flags[key], value)
	})
}

// block reads one block alone, from the environment. JSON is YAML, too.
func (f *file) block(c *Config, key, text string) {
	if root, ok := f.parse([]byte(text)); ok {
		c.blocks[key] = root
		reflect.ValueOf(c.block(key)).Elem().SetZero() // what the file says of it does not hold
		f.decode(c, key, root)
	}
}

// parse returns the mapping a document holds; false if it is empty or none.
func (f *file) parse(b []byte) (*yaml.Node, bool) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		f.notYAML("it is no YAML: ", err)
		return nil, false
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, false
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		f.problem(root.Line, "must be names with values")
		return nil, false
	}
	return root, true
}

// yamlPlace is how the parser begins what it says.
var yamlPlace = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// notYAML tells what the parser says, with its line in the place of all others.
func (f *file) notYAML(what string, err error) {
	texts := []string{err.Error()}
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		texts = wrong.Errors
	}
	for _, text := range texts {
		at := yamlPlace.FindStringSubmatch(text)
		line, _ := strconv.Atoi(at[1])
		f.problem(max(line, 1), "%s%s", what, text[len(at[0]):])
	}
}

// eachKey calls use for the keys of a mapping that are known, once each.
func (f *file) eachKey(m *yaml.Node, known []string, use func(key string, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i].Value, m.Content[i+1]
		line := m.Content[i].Line
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch first, again := seen[key]; {
		case again:
			f.problem(line, "%q is there already, in line %d", key, first)
		case !slices.Contains(known, key):
			f.problem(line, "unknown name %q%s", key, suggestion(key, known))
		case value.Tag != "!!null":
			use(key, value)
		}
		seen[key] = line
	}
}

// flag keeps a value for kong, if kong will take it.
func (f *file) flag(flag *kong.Flag, value *yaml.Node) {
	var v any = value.Value
	switch {
	case value.Kind == yaml.ScalarNode:
		if flag.IsSlice() { // or a comma would part it
			v = []any{value.Value}
		}
	case value.Kind == yaml.SequenceNode && flag.IsSlice():
		items := []any{}
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				f.problem(item.Line, "%s: must be a list of plain values", flag.Name)
				return
			}
			items = append(items, item.Value)
		}
		v = items
	default:
		f.problem(value.Line, "%s: must be a plain value", flag.Name)
		return
	}
	scratch := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(v, kong.FlagValueToken)}, scratch); err != nil {
		f.problem(value.Line, "%s: %v", flag.Name, err)
		return
	}
	if flag.Enum != "" && !flag.EnumMap()[value.Value] {
		f.problem(value.Line, "%s: %q is none of %s", flag.Name, value.Value, strings.ReplaceAll(strings.Trim(flag.Enum, ","), ",", ", "))
		return
	}
	f.values[flag.Name] = v
}

// decode reads a block.
func (f *file) decode(c *Config, key string, value *yaml.Node) {
	c.opened = c.opened || key == channelsKey
	block := c.block(key)
	before := len(f.problems)
	f.inspect(key, value, reflect.TypeOf(block).Elem())
	if err := value.Decode(block); err != nil && len(f.problems) == before {
		f.notYAML("", err)
	}
}

// inspect looks for keys that the type does not have, and for values of another type;
// YAML would take durations without unit for nanoseconds. name is the value's own.
func (f *file) inspect(name string, value *yaml.Node, t reflect.Type) {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	kind := map[reflect.Kind]yaml.Kind{reflect.Map: yaml.MappingNode, reflect.Struct: yaml.MappingNode, reflect.Slice: yaml.SequenceNode}[t.Kind()]
	switch {
	case kind == 0 && value.Kind != yaml.ScalarNode:
		f.problem(value.Line, "%s: must be a plain value", name)
	case kind == 0:
		f.scalar(name, value, t)
	case value.Kind != kind && kind == yaml.SequenceNode:
		f.problem(value.Line, "%s: must be a list", name)
	case value.Kind != kind:
		f.problem(value.Line, "%s: must be names with values", name)
	case t.Kind() == reflect.Map:
		var names []string
		for i := 0; i < len(value.Content); i += 2 {
			names = append(names, value.Content[i].Value)
		}
		f.eachKey(value, names, func(key string, v *yaml.Node) { f.inspect(key, v, t.Elem()) })
	case t.Kind() == reflect.Slice:
		for _, item := range value.Content {
			f.inspect(name, item, t.Elem())
		}
	default:
		fields := map[string]reflect.Type{}
		for i := range t.NumField() {
			if name := t.Field(i).Tag.Get("yaml"); name != "" && name != "-" {
				fields[name] = t.Field(i).Type
			}
		}
		f.eachKey(value, slices.Sorted(maps.Keys(fields)), func(key string, v *yaml.Node) { f.inspect(key, v, fields[key]) })
	}
}

// scalar tells of a plain value that is not of the type. Nothing is to follow from it, so
// that it is left out, or mended.
func (f *file) scalar(name string, value *yaml.Node, t reflect.Type) {
	is := func(tag string) bool { return value.Tag == tag }
	leaveOut := func(format string, args ...any) {
		f.problem(value.Line, format, args...)
		value.Tag, value.Value = "!!null", ""
	}
	switch {
	case t == reflect.TypeFor[time.Duration]() && (is("!!int") && value.Value != "0" || is("!!float")):
		f.problem(value.Line, "%s: %s needs a unit, as in %ss", name, value.Value, value.Value)
		value.Tag, value.Value = "!!str", value.Value+"s"
	case t == reflect.TypeFor[time.Duration]() && !is("!!int"):
		if _, err := time.ParseDuration(value.Value); err != nil {
			leaveOut("%s: %q is no time, must be like 500ms, 10s or 24h", name, value.Value)
		}
	case t.Kind() == reflect.Bool && !is("!!bool"):
		leaveOut("%s: %q must be true or false", name, value.Value)
	case t.Kind() != reflect.Bool && t.Kind() != reflect.String && !is("!!int"):
		leaveOut("%s: %q must be a whole number", name, value.Value)
	}
}
