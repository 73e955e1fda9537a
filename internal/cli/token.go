package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// TokenVariable is the environment variable that holds a token itself.
const TokenVariable = "REPARTO_TOKEN"

// token shows a token with each call, as "authorization: Bearer TOKEN". Its file
// is looked at before each call, and read when it has changed. It is gRPC's
// credentials.PerRPCCredentials.
type token struct {
	from   string // the flag or the variable, for people
	secure bool   // TLS is in use, and the token must not pass without
	file   string // empty: the value never changes
	log    *slog.Logger

	mu    sync.Mutex
	value string
	read  time.Time // the file's time when it was read
	size  int64
	told  bool // the log knows that the file can't be used
}

// openToken returns the token that the file has or, if none is named, value;
// nil without either. Errors do not show it.
func openToken(file, value string, log *slog.Logger) (*token, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &token{from: "--token-file", file: file, log: log}
	if file == "" {
		if value == "" {
			return nil, nil
		}
		t.from = "the environment variable " + TokenVariable
		var err error
		if t.value, err = checkToken(value); err != nil {
			return nil, fmt.Errorf("%s: %w", t.from, err)
		}
		return t, nil
	}
	if err := t.refresh(); err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	return t, nil
}

// refresh reads the file if it has changed.
func (t *token) refresh() error {
	info, err := os.Stat(t.file)
	if err != nil {
		return err
	}
	if info.ModTime().Equal(t.read) && info.Size() == t.size {
		return nil
	}
	text, err := os.ReadFile(t.file)
	if err != nil {
		return err
	}
	t.read, t.size = info.ModTime(), info.Size()
	value, err := checkToken(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", t.file, err)
	}
	t.value = value
	return nil
}

// checkToken returns a token without the white space around it.
func checkToken(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", errors.New("there is no token in it")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return "", fmt.Errorf("what is in it is no token: character %d is white space or not ASCII; it is to hold one token and nothing else", i+1)
	}
	return s, nil
}

// GetRequestMetadata and RequireTransportSecurity make token a
// credentials.PerRPCCredentials. A file that can't be read any more leaves the
// token as it was: the balancer knows whether it still counts.
func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != "" {
		err := t.refresh()
		if err != nil && !t.told {
			t.log.Warn("the token's file can't be used; the token read before stays", "error", err)
		}
		t.told = err != nil
	}
	return map[string]string{"authorization": "Bearer " + t.value}, nil
}

func (t *token) RequireTransportSecurity() bool { return t.secure }
