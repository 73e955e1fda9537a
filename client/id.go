package client

import "reparto/internal/ids"

var source ids.Source

// newID makes a UUIDv7.
func newID() string { return source.New() }
