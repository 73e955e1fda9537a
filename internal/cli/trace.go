package cli

import (
	"context"
	"log/slog"

	"reparto/internal/trace"
)

// Traces returns what sends a command's traces to a collector: nil, and well, where
// OpenTelemetry's variables ask for none. command is its name, such as "balancer".
// Close it once all spans have ended; that takes 5 s at most. An error is one of
// Usage.
func Traces(ctx context.Context, command string, log *slog.Logger) (*trace.Provider, error) {
	p, err := trace.Open(ctx, trace.Options{Service: "reparto-" + command, Version: ShortVersion(), Log: log})
	if err != nil {
		return nil, Exit(Usage, err)
	}
	return p, nil
}
