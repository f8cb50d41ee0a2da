package host

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// engineInfo is what both engines say about themselves.
type engineInfo struct {
	version, arch, cgroup, runtime, root string
	memory                               uint64
	free                                 uint64 // of the store; 0: not told
	rootless                             bool
}

// engine checks the engine through its own command, as Kind will call it.
func (d *doctor) engine(ctx context.Context, conn Connection) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := d.run.LookPath(conn.Provider); err != nil {
		d.bad(Block, "engine", fmt.Sprintf("%s answers at %s, but its command, which Kind calls, is not installed", conn.Provider, settings.Shown(conn.URL)), "mage setup")
		return
	}
	env := d.environ(conn.Env...)
	info, err := d.info(ctx, conn.Provider, env)
	if err != nil {
		d.bad(Block, "engine", fmt.Sprintf("%s at %s answers a ping, but not `%s info`: %v", conn.Provider, settings.Shown(conn.URL), conn.Provider, hidePassword(err, conn.URL)), "restart the engine")
		return
	}
	d.ok("engine", "%s %s at %s", conn.Provider, info.version, settings.Shown(conn.URL))
	d.ok("engine runtime", "%s, cgroups %s", info.runtime, info.cgroup)
	d.engineSize(conn, info)
	d.containers, err = d.host.containers(ctx, conn.Provider, env)
	if d.listed = err == nil; !d.listed {
		d.bad(Warn, "containers", "cannot be listed: "+hidePassword(err, conn.URL).Error(), conn.Provider+" ps -a")
	}
	d.versions(ctx, conn.Provider, env, info)
}

func (d *doctor) engineSize(conn Connection, info engineInfo) {
	switch {
	case info.memory < memoryBlock:
		d.bad(Block, "engine memory", humanize.IBytes(info.memory), "give the engine's machine at least 4 GiB: podman machine set --memory 4096")
	case info.memory < memoryWarn:
		d.bad(Warn, "engine memory", humanize.IBytes(info.memory), "give the engine's machine at least 4 GiB: podman machine set --memory 4096")
	default:
		d.ok("engine memory", "%s", humanize.IBytes(info.memory))
	}
	switch {
	case strings.HasPrefix(conn.URL, "unix://") && fileExists(info.root):
		d.disk("engine disk", info.root) // what the engine says counts blocks that only root may fill
	case info.free > 0:
		d.space("engine disk", info.root, info.free)
	default:
		d.bad(Warn, "engine disk", "the engine does not say how much is free in "+info.root, "df "+info.root+" where the engine runs")
	}
}

// versions reports what works together, and blocks what is known not to.
func (d *doctor) versions(ctx context.Context, provider string, env []string, info engineInfo) {
	kind := kindVersion()
	d.ok("versions", "Kind library %s, %s %s, %s", orUnknown(kind), provider, info.version, info.runtime)
	if provider == Podman && major(info.version) >= 6 && kind != "" && older(kind, 0, 32) {
		d.bad(Block, "versions", fmt.Sprintf("Kind %s does not know Podman %s's labels", kind, info.version), "use Kind 0.32 or later")
	}
	if info.cgroup == "v1" && info.rootless {
		d.bad(Block, "versions", "a rootless engine on cgroup v1 cannot run Kind's nodes", "use a rootful engine, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	for _, c := range d.containers {
		if c.ours() && c.Running && c.cluster() != "" {
			said, err := d.outputEnv(ctx, env, provider, "exec", c.Name, "sh", "-c", "kubelet --version; containerd --version; runc --version | head -1")
			if err == nil {
				d.ok("versions", "node %s: %s", c.Name, strings.Join(strings.Split(strings.TrimSpace(said), "\n"), ", "))
			}
			break
		}
	}
	if d.NodeImage == "" {
		return
	}
	out, err := d.outputEnv(ctx, env, provider, "image", "inspect", "--format", "{{.Architecture}}", d.NodeImage)
	arch := strings.TrimSpace(out)
	switch {
	case err != nil:
		d.bad(Warn, "node image", d.NodeImage+" is not on the engine", "mage setup pulls or builds it")
	case arch != info.arch:
		d.bad(Block, "node image", fmt.Sprintf("%s is for %s, the engine runs %s", d.NodeImage, arch, info.arch), "set E2E_NODE_IMAGE to an image for "+info.arch)
	default:
		d.ok("node image", "%s (%s)", d.NodeImage, arch)
	}
}

func (d *doctor) info(ctx context.Context, provider string, env []string) (engineInfo, error) {
	if provider == Docker {
		out, err := d.outputEnv(ctx, env, "docker", "info", "--format", "{{json .}}")
		if err != nil {
			return engineInfo{}, err
		}
		var i struct {
			ServerVersion, Architecture, CgroupVersion, CgroupDriver, DefaultRuntime, DockerRootDir string
			MemTotal                                                                                uint64
			SecurityOptions                                                                         []string
			ServerErrors                                                                            []string
		}
		if err := json.Unmarshal([]byte(out), &i); err != nil {
			return engineInfo{}, err
		}
		if len(i.ServerErrors) > 0 {
			return engineInfo{}, fmt.Errorf("%s", strings.Join(i.ServerErrors, "; "))
		}
		return engineInfo{version: i.ServerVersion, arch: goArch(i.Architecture), cgroup: "v" + i.CgroupVersion,
			runtime: i.DefaultRuntime, root: i.DockerRootDir, memory: i.MemTotal,
			rootless: strings.Contains(strings.Join(i.SecurityOptions, " "), "rootless")}, nil
	}
	out, err := d.outputEnv(ctx, env, "podman", "info", "--format", "json")
	if err != nil {
		return engineInfo{}, err
	}
	var i struct {
		Host struct {
			Arch, CgroupVersion string
			MemTotal            uint64
			OCIRuntime          struct{ Name, Version string }
			Security            struct{ Rootless bool }
		}
		Store struct {
			GraphRoot                         string
			GraphRootAllocated, GraphRootUsed uint64
		}
		Version struct{ Version string }
	}
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		return engineInfo{}, err
	}
	first, _, _ := strings.Cut(i.Host.OCIRuntime.Version, "\n")
	e := engineInfo{version: i.Version.Version, arch: goArch(i.Host.Arch), cgroup: i.Host.CgroupVersion, runtime: first,
		root: i.Store.GraphRoot, memory: i.Host.MemTotal, rootless: i.Host.Security.Rootless}
	if i.Store.GraphRootAllocated > i.Store.GraphRootUsed {
		e.free = i.Store.GraphRootAllocated - i.Store.GraphRootUsed
	}
	return e, nil
}

// goArch turns the kernel's name, which Docker gives, into Go's.
func goArch(arch string) string {
	switch arch {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return arch
}

func orUnknown(v string) string {
	if v == "" {
		return "(version unknown)"
	}
	return v
}

func major(version string) int {
	n, _ := strconv.Atoi(strings.Split(strings.TrimPrefix(version, "v"), ".")[0])
	return n
}

func older(version string, maj, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a < maj || a == maj && b < minor
}
