package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reparto/internal/auth"
	"reparto/internal/cli"
)

func newToken() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make a token by which a balancer knows a client or a worker", Args: cobra.NoArgs}
	c.AddCommand(newTokenNew())
	return c
}

func newTokenNew() *cobra.Command {
	var expires string
	output := cli.Choice{Value: "text", Allowed: []string{"text", "json"}}
	cmd := &cobra.Command{
		Use: "new [flags]", Short: "Make a token, and the line by which a balancer's auth file knows it", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Long: `Make a token, and the line by which a balancer's auth file knows it.

The token is for the client or the worker, and is shown only now. The other
line is for the "tokens" of a principal in the auth file; nobody can get the
token from it. No balancer is needed.`,
		Example: `  client token new
  client token new --expires 90d
  client token new --output json > shop.json`,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&expires, "expires", "", "the `TIME` for which the token is good, such as 90d or 36h (default for ever)")
	f.Var(&output, "output", "text, or json: an object with token, hash, expires and line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var until time.Time
		if expires != "" {
			d, err := days(expires)
			if err != nil {
				return cli.Usagef("--expires is %q: %w", expires, err)
			}
			until = time.Now().Add(d).UTC().Truncate(time.Second)
		}
		out := &watched{w: cmd.OutOrStdout()}
		err := printToken(out, output.Value == "json", until)
		if cli.IsClosedOutput(out.failed()) { // nobody reads any more
			return nil
		}
		return err
	}
	return cmd
}

// days reads a duration, which may be in days.
func days(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var whole int
		whole, err = strconv.Atoi(n)
		if whole > 36500 {
			return 0, errors.New("give a hundred years at most, or leave it out for a token that is good for ever")
		}
		d = time.Duration(whole) * 24 * time.Hour
	}
	if err != nil || d < time.Second {
		return 0, errors.New("give a time such as 90d or 36h, of a second at least")
	}
	return d, nil
}

// tokenObject is a new token as --output json has it.
type tokenObject struct {
	Token   string     `json:"token"`
	Hash    string     `json:"hash"`
	Expires *time.Time `json:"expires,omitempty"`
	Line    string     `json:"line"` // for the auth file
}

func printToken(out *watched, asJSON bool, until time.Time) error {
	o := &tokenObject{}
	o.Token, o.Hash = auth.NewToken()
	o.Line = strconv.Quote(o.Hash)
	if !until.IsZero() {
		o.Expires = &until
		o.Line = fmt.Sprintf("{hash: %q, expires: %s}", o.Hash, until.Format(time.RFC3339))
	}
	if asJSON {
		return json.NewEncoder(out).Encode(o)
	}
	_, err := fmt.Fprintf(out, "token:     %s\nauth file: %s\n", o.Token, o.Line)
	return err
}
