package functions

import "syscall"

// dieWithParent has the shell killed when the worker dies by kill -9 and can't
// do it. It is tied to the thread that started it; the runtime ends a thread
// only when a goroutine locked to it ends, and none is locked here.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
