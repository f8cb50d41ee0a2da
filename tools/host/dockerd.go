package host

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

//go:embed runtimewrapper/main.go
var wrapperSource []byte

// ulimit is an entry of default-ulimits in daemon.json.
type ulimit struct {
	Name string
	Soft uint64
	Hard uint64
}

// writeDaemonJSON writes the configuration of our dockerd: places of its own, so
// that it stands beside any other, and on a bounded host limits and a runtime
// that ask for nothing the host cannot give.
func (h *host) writeDaemonJSON(ctx context.Context) error {
	run := filepath.Join(h.RuntimeDir, "docker")
	conf := map[string]any{
		"hosts":     []string{h.dockerService().url()},
		"data-root": h.dockerRoot(),
		"exec-root": run,
		"pidfile":   filepath.Join(run, "dockerd.pid"),
	}
	why := "dockerd of ours, apart from any other"
	if err := h.announce(Change{Kind: KindData, What: h.dockerData(), Why: "images of our dockerd"}); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(run, 0o700), os.MkdirAll(filepath.Join(h.dockerData(), "bin"), 0o700)); err != nil {
		return fmt.Errorf("folders for dockerd: %w", err)
	}
	if !h.facts.CapSysResource {
		limits := map[string]ulimit{}
		for name, hard := range map[string]uint64{"nofile": min(h.facts.NoFile, 1<<20), "nproc": min(h.facts.NProc, 4<<20)} {
			limits[name] = ulimit{name, hard, hard}
		}
		wrapper := filepath.Join(h.dockerData(), "bin", "bounded-runc")
		if err := h.buildWrapper(ctx, wrapper); err != nil {
			return err
		}
		conf["default-ulimits"] = limits
		conf["runtimes"] = map[string]any{"bounded": map[string]string{"path": wrapper}}
		conf["default-runtime"] = "bounded"
		why += "; without CAP_SYS_RESOURCE its containers must not ask for it, nor for limits above the host's"
	}
	data, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	if err := h.announce(Change{Kind: KindConfig, What: h.daemonJSON(), Why: why}); err != nil {
		return err
	}
	// A pid file of a dockerd that was killed would keep the next one from starting.
	if err := removeIfThere(filepath.Join(run, "dockerd.pid")); err != nil {
		return err
	}
	return os.WriteFile(h.daemonJSON(), append(data, '\n'), 0o600)
}

// buildWrapper compiles the OCI runtime wrapper, which is one file of the
// standard library, apart from this module: the run's folder does not matter.
func (h *host) buildWrapper(ctx context.Context, out string) error {
	dir, err := os.MkdirTemp("", "kubernaut-e2e-wrapper-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, wrapperSource, 0o600); err != nil {
		return err
	}
	if _, err := h.outputEnv(ctx, h.environ("CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"), "go", "build", "-trimpath", "-o", out+".new", source); err != nil {
		return fmt.Errorf("compile the runtime wrapper: %w", err)
	}
	return os.Rename(out+".new", out)
}

// clearDocker removes what our dockerd, stopped by now, leaves behind: its
// containerd if it was killed, its configuration, its data.
func (h *host) clearDocker(ctx context.Context) ([]string, error) {
	var done []string
	run := filepath.Join(h.RuntimeDir, "docker")
	if fileExists(h.daemonJSON()) {
		if err := os.Remove(h.daemonJSON()); err != nil {
			return done, err
		}
		done = append(done, "removed "+h.daemonJSON())
	}
	for _, dir := range []string{run, h.dockerData()} {
		if !fileExists(dir) {
			continue
		}
		h.unmountOwn(ctx, dir)
		if m := mountsBelow(mountTable, dir); len(m) > 0 {
			return done, failure.New(failure.StaleState, fmt.Sprintf("containers of our dockerd still use %s (%d mounts)", dir, len(m)),
				"mage setup, then mage teardown, so that dockerd itself ends them", nil)
		}
		if err := os.RemoveAll(dir); err != nil {
			return done, fmt.Errorf("remove %s: %w", dir, err)
		}
		done = append(done, "removed "+dir)
	}
	return done, nil
}

// unmountOwn undoes the mounts that dockerd makes for itself and that a killed
// one leaves, sometimes twice: its data folder on itself, its network name
// spaces. A container's mounts are not touched.
func (h *host) unmountOwn(ctx context.Context, dir string) {
	for _, m := range mountsBelow(mountTable, dir) {
		if m != h.dockerRoot() && filepath.Dir(m) != filepath.Join(h.RuntimeDir, "docker", "netns") {
			continue
		}
		if _, err := h.output(ctx, "umount", m); err != nil {
			h.Log.Warn("cannot unmount what dockerd left", "mount", m, "error", err)
		}
	}
}

// mountTable is this process's view, proc_pid_mounts(5).
const mountTable = "/proc/self/mounts"

// mountsBelow lists the mount points inside dir.
func mountsBelow(table, dir string) []string {
	data, err := os.ReadFile(table)
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			list = append(list, f[1])
		}
	}
	return list
}
