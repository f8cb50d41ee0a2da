package service

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// startTime returns a value that two processes with the same pid cannot share,
// or "" if no live process has it. A zombie is not live.
func startTime(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err == nil {
		// proc_pid_stat(5): the name in parentheses may hold anything, so count
		// from its end; field 3 is the state, field 22 the start time.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
			return ""
		}
		return fields[19]
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		return "" // there is a /proc, so the process is gone
	}
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// findByArgs returns a process with exactly these arguments after its name that
// sees the same files as this one, or 0: the same socket path names another
// service in a container or chroot. It needs /proc.
func findByArgs(args []string) int {
	want := strings.Join(args, "\x00") + "\x00"
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		if _, rest, ok := strings.Cut(string(data), "\x00"); !ok || rest != want {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && sameFiles(filepath.Dir(f)) && startTime(pid) != "" {
			return pid
		}
	}
	return 0
}

// sameFiles reports whether the process of that folder in /proc has this
// process's mount name space and root. It is false where that may not be asked,
// which is so for another user's process.
func sameFiles(process string) bool {
	theirs, err := os.Readlink(filepath.Join(process, "ns", "mnt"))
	if err != nil {
		return false
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil || ours != theirs {
		return false
	}
	theirRoot, err := os.Stat(filepath.Join(process, "root"))
	if err != nil {
		return false
	}
	ourRoot, err := os.Stat("/")
	return err == nil && os.SameFile(theirRoot, ourRoot)
}
