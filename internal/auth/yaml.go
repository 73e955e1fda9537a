package auth

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// node is a value in a YAML file and the way to it, for errors. Its methods take
// nothing that they don't know.
type node struct {
	*yaml.Node
	file string
	path string // "principals[0].tokens[1]"
}

// rootOf reads a file of one document.
func rootOf(file, text string) (node, error) {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return node{}, fmt.Errorf("%s: is empty; give at least one principal", file)
	} else if err != nil {
		return node{}, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return node{}, fmt.Errorf("%s: has more than one YAML document; give one", file)
	}
	return node{doc.Content[0], file, ""}.resolved(), nil
}

// resolved is what an alias stands for.
func (n node) resolved() node {
	for n.Node.Kind == yaml.AliasNode {
		n.Node = n.Alias
	}
	return n
}

func (n node) errorf(format string, args ...any) error {
	path := n.path
	if path == "" {
		path = "the file"
	}
	return fmt.Errorf("%s:%d: %s %w", n.file, n.Line, path, fmt.Errorf(format, args...))
}

func (n node) mapping() bool { return n.Kind == yaml.MappingNode }

// what is the kind of a value, for people.
func (n node) what() string {
	switch n.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	}
	return n.ShortTag()[2:]
}

// fields are the values of a mapping by their names, all of which are allowed and
// none of which comes twice.
func (n node) fields(allowed ...string) (map[string]node, error) {
	if !n.mapping() {
		return nil, n.errorf("is %s; want the fields %s", n.what(), strings.Join(allowed, ", "))
	}
	found := map[string]node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		field := node{n.Content[i+1], n.file, strings.TrimPrefix(n.path+"."+key.Value, ".")}.resolved()
		if key.Kind != yaml.ScalarNode || !slices.Contains(allowed, key.Value) {
			n.Node = key // its line
			return nil, n.errorf("has an unknown field %.40q; known are %s", key.Value, strings.Join(allowed, ", "))
		}
		if first, twice := found[key.Value]; twice {
			field.Node = key
			return nil, field.errorf("is there twice, first at line %d", first.Line)
		}
		found[key.Value] = field
	}
	return found, nil
}

// list are the values of a list.
func (n node) list() ([]node, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, n.errorf("is %s; want a list, such as [a, b]", n.what())
	}
	values := make([]node, len(n.Content))
	for i, v := range n.Content {
		values[i] = node{v, n.file, fmt.Sprintf("%s[%d]", n.path, i)}.resolved()
	}
	return values, nil
}

// text is a value as it is written; a number is text too.
func (n node) text() (string, error) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
			if n.Value != "" {
				return n.Value, nil
			}
			return "", n.errorf("is empty")
		}
	}
	return "", n.errorf("is %s; want text", n.what())
}

func (n node) yes() (bool, error) {
	var b bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
		return false, n.errorf("is %s; want true or false", n.what())
	}
	return b, nil
}

// count is a whole number from 0 to most.
func (n node) count(most int64) (int64, error) {
	var i int64
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&i) != nil || i < 0 || i > most {
		return 0, n.errorf("is %s; want a whole number from 0 to %d", n.shown(), most)
	}
	return i, nil
}

// rate is a number from 0 to most.
func (n node) rate(most float64) (float64, error) {
	var f float64
	number := n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float")
	if !number || n.Decode(&f) != nil || !(f >= 0 && f <= most) { // not: f < 0, for NaN
		return 0, n.errorf("is %s; want a number from 0 to %.0f", n.shown(), most)
	}
	return f, nil
}

// time is a moment.
func (n node) time() (time.Time, error) {
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return t, n.errorf("is %s; want a time such as 2027-01-01T00:00:00Z", n.shown())
	}
	return t, nil
}

// shown is the start of a value that is no secret.
func (n node) shown() string {
	if n.Kind == yaml.ScalarNode && n.Value != "" {
		return fmt.Sprintf("%.40q", n.Value)
	}
	return n.what()
}
