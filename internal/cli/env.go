package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envName is the environment variable for a flag: --drain-timeout is
// REPARTO_DRAIN_TIMEOUT.
func envName(flag string) string {
	return "REPARTO_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnv says whether a flag may come from the environment. Some are for
// the moment.
func fromEnv(f *pflag.Flag) bool { return !momentary[f.Name] && !f.Hidden }

var momentary = map[string]bool{"help": true, "version": true, "print-config": true}

// repeatable says whether a flag may be given several times; in its variable,
// each is a line.
func repeatable(f *pflag.Flag) bool {
	_, slice := f.Value.(pflag.SliceValue)
	_, pairs := f.Value.(*Pairs)
	return slice || pairs
}

// applyEnv sets the flags that were not given from the environment. A variable
// that is set counts, even to nothing.
func applyEnv(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		value, ok := os.LookupEnv(envName(f.Name))
		if !ok || f.Changed || err != nil || !fromEnv(f) {
			return
		}
		values := []string{value}
		if repeatable(f) {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })
		}
		for _, v := range values {
			if e := flags.Set(f.Name, v); e != nil {
				// What the flag says of itself is about --name; it came from elsewhere.
				e = f.Value.Set(v)
				err = fmt.Errorf("the environment variable %s is %q: %w", envName(f.Name), v, e)
			}
		}
	})
	return err
}

// describeEnv has --help name the variables.
func describeEnv(c *cobra.Command) {
	each := func(f *pflag.Flag) {
		if fromEnv(f) && !strings.Contains(f.Usage, "$"+envName(f.Name)) {
			f.Usage += " [$" + envName(f.Name) + "]"
		}
	}
	c.LocalFlags().VisitAll(each)
}

// Pairs is a flag of KEY=VALUE that may be given several times.
type Pairs map[string]string

// String and the two below make Pairs a pflag.Value.
func (p *Pairs) String() string {
	if p == nil || len(*p) == 0 {
		return ""
	}
	return fmt.Sprint(map[string]string(*p))
}

func (p *Pairs) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not KEY=VALUE", s)
	}
	if _, twice := (*p)[key]; twice {
		return fmt.Errorf("%q is given twice", key)
	}
	if *p == nil {
		*p = Pairs{}
	}
	(*p)[key] = value
	return nil
}

func (*Pairs) Type() string { return "KEY=VALUE" }

// Choice is a flag that is one of a few words.
type Choice struct {
	Value   string
	Allowed []string
}

// String and the two below make Choice a pflag.Value.
func (c *Choice) String() string { return c.Value }

func (c *Choice) Set(s string) error {
	for _, a := range c.Allowed {
		if s == a {
			c.Value = s
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(c.Allowed, ", "))
}

func (c *Choice) Type() string { return strings.Join(c.Allowed, "|") }
