package command

import "syscall"

func ownMounts(a *syscall.SysProcAttr) { a.Unshareflags |= syscall.CLONE_NEWNS }
