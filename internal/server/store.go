package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"reparto/internal/dispatch"
	"reparto/internal/store/file"
	"reparto/internal/store/memory"
)

// ErrStore says that the store can't be opened, though its name is one.
var ErrStore = errors.New("the store can't be opened")

// openStore opens what keeps durable tasks: "file:DIRECTORY", which is made when
// missing, or "memory:" for none that outlives the process. The function it
// returns closes it, once the dispatcher is closed.
func openStore(name string, log *slog.Logger) (dispatch.Store, func() error, error) {
	technology, where, named := strings.Cut(name, ":")
	switch {
	case technology == "file" && where != "":
		s, err := file.Open(where, file.Options{Log: log})
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrStore, err)
		}
		return s, s.Close, nil
	case technology == "memory" && named && where == "":
		return memory.New(), func() error { return nil }, nil
	}
	return nil, nil, fmt.Errorf("store %q: want file:DIRECTORY, such as file:reparto-data, or memory: for none", name)
}
