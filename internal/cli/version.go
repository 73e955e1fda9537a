package cli

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// version and commit are set by a release:
//
//	go build -ldflags '-X reparto/internal/cli.version=v1.2.3 -X reparto/internal/cli.commit=…' ./cmd/...
var version, commit string

// Version is the program's version for people: what the release or the build
// says, the commit, and the Go that it was built with.
func Version() string {
	about := []string{runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if c := Commit(); c != "" {
		hash, dirty, is := strings.Cut(c, "-")
		if hash = hash[:min(len(hash), 12)]; is {
			hash += "-" + dirty
		}
		about = append([]string{"commit " + hash}, about...)
	}
	return ShortVersion() + " (" + strings.Join(about, ", ") + ")"
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

// Commit is what the program was built from; empty if nobody knows. It ends with
// "-dirty" when there were changes beside.
func Commit() string {
	if commit != "" {
		return commit
	}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	found, dirty := "", ""
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			found = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if found == "" {
		return ""
	}
	return found + dirty
}
