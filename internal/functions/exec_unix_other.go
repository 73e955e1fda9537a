//go:build unix && !linux

package functions

import "syscall"

// dieWithParent does nothing: only Linux has it.
func dieWithParent(*syscall.SysProcAttr) {}
