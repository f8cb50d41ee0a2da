//go:build !linux

package build

import "syscall"

// privateMounts does nothing: builds run on Linux only.
func privateMounts(*syscall.SysProcAttr) {}
