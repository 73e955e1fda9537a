package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Config is the flags --config and --print-config: a YAML file whose keys are the
// names of the command's flags. A flag that is given goes before its variable in
// the environment, that before the file, and that before the default.
type Config struct {
	path    string
	print   bool
	args    []string
	origins map[string]string // by the flag's name; absent: default
	values  map[string]string // what the flags were set to; the command may use them otherwise
}

// AddConfigFlags gives a command --config and --print-config. What they ask for is
// done before the command runs.
func AddConfigFlags(flags *pflag.FlagSet) *Config {
	c := &Config{origins: map[string]string{}, values: map[string]string{}}
	flags.Var(c, "config", "YAML file with the flags' names as keys; flags and environment go before it")
	flags.BoolVar(&c.print, "print-config", false, "print what is in force as such a file, each with where it comes from, and end")
	return c
}

// String and the two below make Config the value of --config.
func (c *Config) String() string { return c.path }

func (c *Config) Set(path string) error {
	c.path = path
	return nil
}

func (*Config) Type() string { return "FILE" }

// configOf returns a command's Config, nil when it has none.
func configOf(flags *pflag.FlagSet) *Config {
	if f := flags.Lookup("config"); f != nil {
		c, _ := f.Value.(*Config)
		return c
	}
	return nil
}

// inFile says whether a flag may come from the file.
func inFile(f *pflag.Flag) bool {
	return fromEnv(f) && f.Name != "config"
}

// resolve sets the flags that args did not set, from the environment and from the
// file.
func resolve(flags *pflag.FlagSet) error {
	c := configOf(flags)
	if c == nil {
		return applyEnv(flags)
	}
	note := func(origin string) {
		flags.Visit(func(f *pflag.Flag) {
			if c.origins[f.Name] == "" {
				c.origins[f.Name] = origin
			}
		})
	}
	note("flag")
	if err := applyEnv(flags); err != nil {
		return err
	}
	note("environment")
	defer flags.VisitAll(func(f *pflag.Flag) { c.values[f.Name] = f.Value.String() })
	if c.path == "" {
		return nil
	}
	raw, err := os.ReadFile(c.path)
	if err != nil {
		return Exit(Usage, fmt.Errorf("--config: %w", err))
	}
	if err := applyFile(flags, c.path, raw); err != nil {
		return Exit(Usage, err)
	}
	note("file")
	return nil
}

// applyFile sets from a file the flags that were not given.
func applyFile(flags *pflag.FlagSet, path string, raw []byte) error {
	wrong := func(n *yaml.Node, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", path, n.Line, fmt.Sprintf(format, args...))
	}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // an empty file
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil // nothing but comments
	}
	if top.Kind != yaml.MappingNode {
		return wrong(top, "want lines of KEY: VALUE")
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: has a second document after ---; want one", path)
	}
	first := map[string]int{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		if line, twice := first[name]; twice {
			return wrong(key, "%s is given a second time; the first is in line %d", name, line)
		}
		first[name] = key.Line
		f := flags.Lookup(name)
		if f == nil || !inFile(f) {
			return wrong(key, "there is no key %s%s", strconv.Quote(name), nearest(flags, name))
		}
		values, err := valuesOf(f, value)
		if err != nil {
			return wrong(value, "%s %v", name, err)
		}
		if f.Changed { // the command line or the environment says otherwise
			continue
		}
		if err := setAll(flags, f, values); err != nil {
			return wrong(value, "%s: %v", name, err)
		}
	}
	return nil
}

// valuesOf are a key's values as they would stand on the command line.
func valuesOf(f *pflag.Flag, n *yaml.Node) ([]string, error) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	scalar := func(n *yaml.Node) (string, error) {
		if n.Kind != yaml.ScalarNode {
			return "", errors.New("holds more than single values")
		}
		if n.Tag == "!!null" {
			return "", errors.New("has no value; write '' for an empty one")
		}
		return n.Value, nil
	}
	_, pairs := f.Value.(*Pairs)
	switch {
	case n.Kind == yaml.SequenceNode && repeatable(f) && !pairs:
		values := []string{}
		for _, item := range n.Content {
			v, err := scalar(item)
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		return values, nil
	case n.Kind == yaml.MappingNode && pairs:
		var values []string
		for i := 0; i < len(n.Content); i += 2 {
			v, err := scalar(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			values = append(values, n.Content[i].Value+"="+v)
		}
		return values, nil
	case pairs:
		return nil, errors.New("wants lines of KEY: VALUE below it")
	case n.Kind != yaml.ScalarNode:
		return nil, errors.New("wants one value")
	}
	v, err := scalar(n)
	return []string{v}, err
}

// setAll gives a flag its values, in place of its default.
func setAll(flags *pflag.FlagSet, f *pflag.Flag, values []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		f.Changed = true
		return list.Replace(values)
	}
	for _, v := range values {
		if err := flags.Set(f.Name, v); err != nil {
			return fmt.Errorf("%q: %w", v, errors.Unwrap(err))
		}
	}
	f.Changed = true
	return nil
}

// nearest names the key that was perhaps meant. cobra knows which names are near.
func nearest(flags *pflag.FlagSet, name string) string {
	keys := &cobra.Command{SuggestionsMinimumDistance: 3}
	flags.VisitAll(func(f *pflag.Flag) {
		if inFile(f) {
			keys.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	if near := keys.SuggestionsFor(name); len(near) > 0 {
		return "; is " + near[0] + " meant?"
	}
	return "; the keys are the names of the flags, without dashes in front"
}

// write prints what is in force, as a file that can be read again.
func (c *Config) write(w io.Writer, flags *pflag.FlagSet) error {
	top := &yaml.Node{Kind: yaml.MappingNode}
	flags.VisitAll(func(f *pflag.Flag) {
		if !inFile(f) {
			return
		}
		origin := c.origins[f.Name]
		if origin == "" {
			origin = "default"
		}
		key, value := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}, nodeOf(f)
		if value.Kind == yaml.ScalarNode {
			value.LineComment = origin
		} else {
			key.HeadComment = origin
		}
		top.Content = append(top.Content, key, value)
	})
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(top); err != nil {
		return err
	}
	return e.Close()
}

// nodeOf is a flag's value in YAML.
func nodeOf(f *pflag.Flag) *yaml.Node {
	text := func(s string) *yaml.Node {
		n := &yaml.Node{}
		n.SetString(s)
		return n
	}
	switch v := f.Value.(type) {
	case pflag.SliceValue:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, s := range v.GetSlice() {
			n.Content = append(n.Content, text(s))
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case *Pairs:
		n := &yaml.Node{Kind: yaml.MappingNode}
		var keys []string
		for k := range *v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			n.Content = append(n.Content, text(k), text((*v)[k]))
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	}
	switch f.Value.Type() {
	case "bool", "int", "int64", "float64", "uint", "uint64":
		return &yaml.Node{Kind: yaml.ScalarNode, Value: f.Value.String()}
	}
	return text(f.Value.String())
}
