package build

import "syscall"

// privateMounts gives a process a mount namespace of its own.
func privateMounts(a *syscall.SysProcAttr) { a.Unshareflags |= syscall.CLONE_NEWNS }
