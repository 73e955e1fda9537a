//go:build !linux || race

package socket

import "net"

// Conn returns c as Listener would have accepted it.
func Conn(c net.Conn) net.Conn { return c }
