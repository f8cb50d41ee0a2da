package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/containersconf"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

// Limits below which a run is known to suffer.
const (
	freeKeys    = 100     // a container takes one, a busy node some dozens
	diskBlock   = 3 << 30 // a cluster alone needs about this
	diskWarn    = 12 << 30
	memoryBlock = 2 << 30
	memoryWarn  = 4 << 30
)

// tools checks what must be on PATH.
func (d *doctor) tools() {
	if _, err := d.run.LookPath("go"); err != nil {
		d.bad(Block, "go", "the go command is not on PATH", "install Go from https://go.dev/dl and add its bin folder to PATH")
	} else {
		d.ok("go", "%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	if _, err := d.run.LookPath("gcc"); err != nil {
		if _, err := d.run.LookPath("clang"); err != nil {
			d.bad(Warn, "c compiler", "none: `go test -race` cannot run", "mage setup")
		}
	}
}

// kernel checks what the kernel gives to engines of this host.
func (d *doctor) kernel() {
	d.ok("architecture", "%s/%s", d.facts.OS, d.facts.Arch)
	if d.facts.OS != "linux" {
		return
	}
	switch d.facts.Cgroup {
	case facts.CgroupNone:
		d.bad(Block, "cgroups", "none are mounted at /sys/fs/cgroup", "mount cgroups, or run with access to the host's")
	case facts.CgroupV2:
		d.ok("cgroups", "v2")
	default:
		if d.facts.UID != 0 {
			d.bad(Warn, "cgroups", d.facts.Cgroup+": a rootless engine of this host cannot run Kind's nodes", "run as root, or boot with systemd.unified_cgroup_hierarchy=1")
		} else {
			d.ok("cgroups", "%s: works with runc; Kubernetes 1.35 and later need failCgroupV1: false", d.facts.Cgroup)
		}
	}
	d.capability()
	if d.facts.LibModules {
		d.ok("/lib/modules", "there")
	} else {
		d.bad(Warn, "/lib/modules", "missing, and Kind mounts it", "mage setup creates it")
	}
	d.keys()
	d.inotify()
}

func (d *doctor) capability() {
	if d.facts.UID != 0 || d.facts.CapSysResource {
		d.ok("limits", "nofile %s, processes %s", amount(d.facts.NoFile), amount(d.facts.NProc))
		return
	}
	getenv := func(string) string { return "" }
	conf, err := containersconf.Read(append(containersconf.Chain(d.root, 0, getenv), d.confFile()))
	if err == nil && len(containersconf.Adapt(conf, d.facts)) == 0 {
		d.ok("limits", "no CAP_SYS_RESOURCE, and the engine's configuration keeps within nofile %s, processes %s", amount(d.facts.NoFile), amount(d.facts.NProc))
		return
	}
	d.bad(Warn, "limits", "no CAP_SYS_RESOURCE: containers cannot raise limits above nofile "+amount(d.facts.NoFile), "mage setup configures a Podman service of its own")
}

// keys compares this user's kernel keys with the quota: where it is used up,
// containers fail with "disk quota exceeded". The columns are those of
// proc_key-users(5): uid, usage, alive/instantiated, keys/maxkeys, bytes/maxbytes.
func (d *doctor) keys() {
	const check = "kernel keys"
	name := "kernel.keys.maxkeys"
	if d.facts.UID == 0 {
		name = "kernel.keys.root_maxkeys"
	}
	data, err := os.ReadFile(filepath.Join(d.root, "proc/key-users"))
	if err != nil {
		limit, limitErr := d.sysctl(name)
		if limitErr != nil {
			d.bad(Warn, check, "the quota cannot be read: "+err.Error(), "mount /proc")
			return
		}
		d.ok(check, "%s is %d", name, limit)
		return
	}
	used, limit := int64(0), int64(-1)
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != strconv.Itoa(d.facts.UID)+":" {
			continue
		}
		u, l, _ := strings.Cut(f[3], "/")
		used, _ = strconv.ParseInt(u, 10, 64)
		limit, _ = strconv.ParseInt(l, 10, 64)
	}
	if limit < 0 {
		if limit, err = d.sysctl(name); err != nil {
			d.bad(Warn, check, "the quota cannot be read: "+err.Error(), "mount /proc")
			return
		}
	}
	detail := fmt.Sprintf("%d of %d used (%s)", used, limit, name)
	switch {
	case limit-used < 10:
		d.bad(Block, check, detail, "sudo sysctl -w "+name+"=20000")
	case limit-used < freeKeys:
		d.bad(Warn, check, detail, "sudo sysctl -w "+name+"=20000")
	default:
		d.ok(check, "%s", detail)
	}
}

func (d *doctor) inotify() {
	for _, l := range kernelLimits {
		check := strings.NewReplacer("fs.", "", ".", " ").Replace(l.name)
		have, err := d.sysctl(l.name)
		switch {
		case err != nil:
			d.bad(Warn, check, err.Error(), "mount /proc")
		case have < l.wanted:
			d.bad(Warn, check, fmt.Sprintf("%d: clusters of several nodes may run out", have), fmt.Sprintf("sudo sysctl -w %s=%d", l.name, l.wanted))
		default:
			d.ok(check, "%d", have)
		}
	}
}

// leftovers looks for what an earlier run left in the way.
func (d *doctor) leftovers() {
	found := false
	for _, s := range []daemon{d.podmanService(), d.dockerService()} {
		if s.Stale() {
			found = true
			d.bad(Warn, "leftovers", "socket or pid file of a "+s.Name+" service that no longer runs in "+d.RuntimeDir, "mage setup starts it again, mage teardown removes them")
		}
	}
	for _, c := range d.containers {
		if c.ours() && !c.Running {
			found = true
			d.bad(Warn, "leftovers", fmt.Sprintf("container %s of cluster %s is %s", c.Name, c.cluster(), c.State), "the next run repairs it; mage teardown removes it")
		}
	}
	for _, path := range d.Locks {
		if !fileExists(path) {
			continue
		}
		l := flock.New(path, flock.SetFlag(os.O_RDONLY)) // an flock ends with its process: a file alone is never stale
		if free, err := l.TryRLock(); err == nil && !free {
			found = true
			d.bad(Warn, "lock", path+" is held: a run is under way", "wait for it to end")
		} else if err == nil {
			_ = l.Unlock()
		} else if !errors.Is(err, fs.ErrNotExist) {
			d.bad(Warn, "lock", err.Error(), "make the file readable for this user")
		}
	}
	if !found {
		d.ok("leftovers", "none")
	}
}

func (d *doctor) disk(check, path string) {
	free, err := DiskFree(path)
	if err != nil {
		d.bad(Warn, check, err.Error(), "df "+path)
		return
	}
	d.space(check, path, free)
}

// DiskFree is the room, bytes, that anybody but root has on the disk of path.
func DiskFree(path string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (d *doctor) space(check, path string, free uint64) {
	detail := fmt.Sprintf("%s free in %s", humanize.IBytes(free), path)
	const remedy = "mage teardown frees what this project holds; then remove what you do not need"
	switch {
	case free < diskBlock:
		d.bad(Block, check, detail, remedy)
	case free < diskWarn:
		d.bad(Warn, check, detail+"; building a node image takes about "+humanize.IBytes(diskWarn), remedy)
	default:
		d.ok(check, "%s", detail)
	}
}

// kindVersion is the version of the Kind library in this very program.
func kindVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == "sigs.k8s.io/kind" {
			return dep.Version
		}
	}
	return ""
}

func firstExisting(paths ...string) string {
	for _, p := range paths {
		if p != "" && fileExists(p) {
			return p
		}
	}
	return "/"
}

func amount(n uint64) string {
	if n == facts.Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}
