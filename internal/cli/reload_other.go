//go:build !unix

package cli

import "os"

// hangups never brings anything: there is no SIGHUP here.
func hangups() (<-chan os.Signal, func()) { return nil, func() {} }
