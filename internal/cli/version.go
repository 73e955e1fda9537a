package cli

import (
	"runtime"
	"runtime/debug"
)

// version is set by a release:
//
//	go build -ldflags '-X reparto/internal/cli.version=v1.2.3' ./cmd/...
var version string

// Version is the program's version for people: what the release or the build
// says, and the Go that it was built with.
func Version() string {
	return ShortVersion() + " (" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + ")"
}

// ShortVersion is Version without what it was built with; "devel" if nobody
// knows.
func ShortVersion() string {
	if version != "" {
		return version
	}
	// Since Go 1.24 the module's version carries the commit.
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}
