// Package facts reads what a host is: its limits, capabilities and cgroups. It
// only reads; what to do about a fact is package host's decision.
package facts

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// The cgroup layouts of a Linux host.
const (
	CgroupV1     = "v1"
	CgroupHybrid = "hybrid" // v1 controllers with a v2 hierarchy beside them
	CgroupV2     = "v2"
	CgroupNone   = "none"
)

// capSysResource is CAP_SYS_RESOURCE's bit, from linux/capability.h.
const capSysResource = 24

// rlimitNproc is RLIMIT_NPROC on Linux, which package syscall does not name.
const rlimitNproc = 6

// Unlimited stands for RLIM_INFINITY.
const Unlimited = ^uint64(0)

// Facts is what was read. On anything but Linux only OS, Arch and UID are set.
type Facts struct {
	OS, Arch       string
	UID            int
	CapSysResource bool   // in this process's bounding set
	NoFile, NProc  uint64 // hard limits
	Cgroup         string
	Systemd        bool // is PID 1
	LibModules     bool // /lib/modules is a folder
}

// Read returns the facts of the host whose file system begins at root
// ("/" but in tests); limits are this process's own.
func Read(root string) Facts {
	f := Facts{OS: runtime.GOOS, Arch: runtime.GOARCH, UID: os.Getuid()}
	if f.OS != "linux" {
		return f
	}
	f.CapSysResource = boundingSet(filepath.Join(root, "proc/self/status"))&(1<<capSysResource) != 0
	f.NoFile = hardLimit(syscall.RLIMIT_NOFILE)
	f.NProc = hardLimit(rlimitNproc)
	f.Cgroup = cgroup(filepath.Join(root, "sys/fs/cgroup"))
	f.Systemd = isDir(filepath.Join(root, "run/systemd/system")) // sd_booted(3)
	f.LibModules = isDir(filepath.Join(root, "lib/modules"))
	return f
}

func boundingSet(status string) uint64 {
	data, err := os.ReadFile(status)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				return 0
			}
			return set
		}
	}
	return 0
}

func hardLimit(which int) uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(which, &l); err != nil {
		return Unlimited
	}
	return l.Max
}

// cgroup tells the layout from the files that only one of them has.
func cgroup(dir string) string {
	switch {
	case exists(filepath.Join(dir, "cgroup.controllers")):
		return CgroupV2
	case exists(filepath.Join(dir, "unified", "cgroup.controllers")), exists(filepath.Join(dir, "unified", "cgroup.procs")):
		return CgroupHybrid
	case isDir(filepath.Join(dir, "memory")), isDir(filepath.Join(dir, "cpu")), isDir(filepath.Join(dir, "cpu,cpuacct")):
		return CgroupV1
	default:
		return CgroupNone
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
