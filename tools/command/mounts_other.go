//go:build !linux

package command

import "syscall"

func ownMounts(*syscall.SysProcAttr) {}
