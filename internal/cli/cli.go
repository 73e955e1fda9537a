// Package cli is what our commands have in common: exit codes, flags that may
// come from the environment, logs, signals, the version, and how to dial.
//
// A command is a cobra.Command and a run that tests call as main does:
//
//	func main() { os.Exit(cli.Main(run)) }
//
//	func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
//		return cli.Run(ctx, newCommand(), args, stdin, stdout, stderr)
//	}
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exit codes. Scripts rely on them.
const (
	// OK means that all went well; for a server, that it was asked to stop.
	OK = 0
	// Failed means that a task failed, or something broke.
	Failed = 1
	// Usage means that the command line or the environment is wrong.
	Usage = 2
	// NoConnection means that there was nobody to talk to: connection refused or
	// lost, or the port to listen on is in use.
	NoConnection = 3
	// Interrupted means that a signal ended it before it was done, as shells have
	// it: 128 and SIGINT's number.
	Interrupted = 130
)

// exitError carries an exit code. A nil err means that everything was said
// already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Exit makes a command end with code and the message of err, or, if that is nil,
// without any.
func Exit(code int, err error) error { return &exitError{code, err} }

// Usagef makes a command end with the code Usage and a message that points to
// --help.
func Usagef(format string, args ...any) error {
	return Exit(Usage, fmt.Errorf(format, args...))
}

// Run runs the command or the subcommand that line names, and returns the exit
// code. Each flag that line does not set is taken from the environment, if it is
// there (see envName), or from the file of --config where a command has that. An error becomes one line on stderr.
//
// What a command's RunE returns decides the code: what Exit says, else
// NoConnection for an error of the network, else Failed. Every other error,
// about flags, arguments or names of subcommands, is one of Usage.
func Run(ctx context.Context, root *cobra.Command, line []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root.SetArgs(line)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = Version()
	root.AddCommand(manCommand(root)) // and so completion, which cobra gives to whoever has subcommands
	root.CompletionOptions.HiddenDefaultCmd = true
	root.InitDefaultVersionFlag()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")

	started := false
	everyCommand(root, func(c *cobra.Command) {
		describeEnv(c)
		run := c.RunE
		if run == nil {
			return
		}
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := resolve(c.Flags()); err != nil {
				return err
			}
			if config := configOf(c.Flags()); config != nil {
				config.args = line
				if config.print {
					return config.write(c.OutOrStdout(), c.Flags())
				}
			}
			started = true
			return run(c, args)
		}
	})

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	code := Usage
	if started {
		code = codeOf(err)
	}
	complain(stderr, cmd, code, err)
	return code
}

func everyCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, do)
	}
}

func complain(stderr io.Writer, cmd *cobra.Command, code int, err error) {
	if e, ok := errors.AsType[*exitError](err); ok && e.err == nil {
		return
	}
	line := cmd.CommandPath() + ": " + oneLine(err.Error())
	if code == Usage {
		line += fmt.Sprintf(" (see '%s --help')", cmd.CommandPath())
	}
	// There is nobody to tell when this fails.
	_, _ = fmt.Fprintln(stderr, line)
}

func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}

// codeOf is the exit code that err leads to.
func codeOf(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	_, network := errors.AsType[*net.OpError](err)
	if network || status.Code(err) == codes.Unavailable {
		return NoConnection
	}
	return Failed
}

// IsClosedOutput reports whether err is about output that nobody reads any more,
// such as a pipe into head. It is a reason to end, not to complain.
func IsClosedOutput(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}

// CheckNoneNegative refuses a number or a duration below 0, for commands to which it
// would mean nothing.
func CheckNoneNegative(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "int", "int64", "float64", "duration":
			if v := f.Value.String(); err == nil && strings.HasPrefix(v, "-") {
				err = fmt.Errorf("--%s is %s; give 0 or more", f.Name, v)
			}
		}
	})
	return err
}
