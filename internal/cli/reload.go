package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reloader puts a changed configuration in force while a command runs.
type Reloader struct {
	// Running is the command that runs; it has a Config.
	Running *cobra.Command
	// Fresh makes the command again, and what puts its flags in force, which must
	// either do that or change nothing.
	Fresh func() (c *cobra.Command, apply func() error)
	// Reloadable are the flags that Fresh's apply takes.
	Reloadable []string
	Log        *slog.Logger
}

// Beside runs do, reloads at each SIGHUP until that returns, and returns its error.
// Where there is no such signal, nothing is reloaded.
func (r *Reloader) Beside(ctx context.Context, do func(context.Context) error) error {
	signals, stop := hangups()
	defer stop()
	waiting, end := context.WithCancel(ctx)
	var reloading sync.WaitGroup
	reloading.Go(func() {
		for {
			select {
			case <-signals:
				r.Reload()
			case <-waiting.Done():
				return
			}
		}
	})
	defer reloading.Wait()
	defer end()
	return do(ctx)
}

// Reload reads command line, environment and file again, and puts in force what may
// change. A configuration that is wrong is told, and changes nothing.
func (r *Reloader) Reload() {
	running := configOf(r.Running.Flags())
	c, apply := r.Fresh()
	err := c.ParseFlags(running.args)
	if err == nil {
		err = resolve(c.Flags())
	}
	if err == nil {
		err = apply()
	}
	if err != nil {
		r.Log.Error("the configuration was read again and is wrong: nothing has changed", "error", err)
		return
	}
	changed := 0
	c.Flags().VisitAll(func(f *pflag.Flag) {
		before, now := running.values[f.Name], configOf(c.Flags()).values[f.Name]
		if before == now || !inFile(f) {
			return
		}
		changed++
		if !slices.Contains(r.Reloadable, f.Name) {
			r.Log.Warn("a changed key needs a restart", "key", f.Name, "running", before, "configured", now)
			return
		}
		running.values[f.Name] = now
		r.Log.Info("a key has changed", "key", f.Name, "from", before, "to", now)
	})
	r.Log.Info("the configuration was read again", "file", running.path, "changed", changed)
}

// ConfigTable describes the keys of a command, for its documentation.
func ConfigTable(c *cobra.Command, reloadable []string) string {
	table := "| key | default | reload | |\n|---|---|---|---|\n"
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !inFile(f) {
			return
		}
		again, def := "", f.DefValue
		if slices.Contains(reloadable, f.Name) {
			again = "yes"
		}
		if def != "" && def != "[]" {
			def = "`" + def + "`"
		} else {
			def = ""
		}
		_, usage := pflag.UnquoteUsage(&pflag.Flag{Usage: f.Usage, Value: f.Value})
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.Name, def, again, usage)
	})
	return table
}
