package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/containersconf"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/service"
)

// serviceWait is how long a service of ours may take until it answers: Podman
// checks its whole storage at the first start.
const serviceWait = 60 * time.Second

// maxSocketPath is what fits into sockaddr_un on every system we run on (104 on
// macOS, 108 on Linux), with its final zero.
const maxSocketPath = 103

// daemon is a service of ours behind a socket.
type daemon struct{ service.Service }

func (d daemon) url() string { return "unix://" + d.Sock }

func (h *host) podmanService() daemon {
	sock := filepath.Join(h.RuntimeDir, "podman.sock")
	var env []string
	if fileExists(h.confFile()) {
		env = append(env, "CONTAINERS_CONF="+h.confFile())
	}
	d := daemon{service.Service{
		Dir: h.RuntimeDir, Name: "podman", Path: "podman",
		Args: []string{"system", "service", "--time=0", "unix://" + sock},
		Env:  LocalPodman(h.environ(env...)), Sock: sock, Wait: serviceWait, Grace: 10 * time.Second,
	}}
	d.Ready = func(ctx context.Context) error {
		return h.ping(ctx, endpoint{provider: Podman, url: d.url(), source: "service of kubernaut-e2e"})
	}
	return d
}

func (h *host) confFile() string { return filepath.Join(h.RuntimeDir, "containers.conf") }

// podmanConf composes the configuration this host needs and says why; without a
// reason the user's own files do.
func (h *host) podmanConf() (containersconf.Conf, []string, error) {
	getenv := func(name string) string {
		v := h.getenv(name)
		if name == "CONTAINERS_CONF" && v == h.confFile() {
			return "" // ours, from an earlier call in this environment
		}
		return v
	}
	conf, err := containersconf.Read(containersconf.Chain(h.root, h.facts.UID, getenv))
	if err != nil {
		return nil, nil, failure.New(failure.Configuration, "Podman's configuration cannot be read", "correct that file", err)
	}
	return conf, containersconf.Adapt(conf, h.facts), nil
}

// startEngine starts, or installs and starts, an engine where none answers.
func (h *host) startEngine(ctx context.Context) (*endpoint, error) {
	if h.Provider == Docker {
		return h.startDocker(ctx)
	}
	if err := h.ensureCLI(ctx, Podman); err != nil {
		return nil, err
	}
	if h.facts.OS != "linux" {
		return h.startMachine(ctx)
	}
	return h.startPodman(ctx)
}

// startPodman starts our service with the configuration this host needs.
func (h *host) startPodman(ctx context.Context) (*endpoint, error) {
	d := h.podmanService()
	if len(d.Sock) > maxSocketPath {
		return nil, failure.New(failure.Configuration, "socket path is too long: "+d.Sock, "set XDG_RUNTIME_DIR to a shorter path", nil)
	}
	// It does not answer, or not as it should: end it before a new one.
	if err := d.Stop(ctx); err != nil {
		return nil, fmt.Errorf("end unresponsive service: %w", err)
	}
	if err := h.writeConf(); err != nil {
		return nil, err
	}
	d = h.podmanService() // its environment names the configuration only now
	path, err := h.run.LookPath(d.Path)
	if err != nil {
		return nil, err
	}
	d.Path = path
	spool, err := h.newSpool(ctx)
	if err != nil {
		return nil, err
	}
	d.Env = append(d.Env, "TMPDIR="+spool)
	if err := h.announce(Change{Kind: KindService, What: d.url(), Why: "no Podman service answers; log in " + d.LogFile()}); err != nil {
		return nil, err
	}
	if _, err := d.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, failure.New(failure.EngineBroken, "Podman's service does not start",
			fmt.Sprintf("see %s; try `podman info`", d.LogFile()), err)
	}
	return &endpoint{provider: Podman, url: d.url(), source: "service of kubernaut-e2e"}, nil
}

// newSpool makes the folder that a service of ours is to use for temporary
// files. A service that is killed leaves whole layers there: the folder of the
// one before goes.
func (h *host) newSpool(ctx context.Context) (string, error) {
	all, err := h.readRecord()
	if err != nil {
		return "", err
	}
	var errs []error
	all = slices.DeleteFunc(all, func(c Change) bool {
		if c.Kind != KindSpool {
			return false
		}
		_, keep, err := h.undo(ctx, c)
		errs = append(errs, err)
		return !keep
	})
	if err := errors.Join(append(errs, h.writeRecord(all))...); err != nil {
		return "", err
	}
	// Podman's own choice of a parent: layers are large, and /tmp may be memory.
	dir := filepath.Join(cmp.Or(h.getenv("TMPDIR"), filepath.Join(h.root, "var/tmp")), fmt.Sprintf("kubernaut-e2e-%d", time.Now().UnixNano()))
	if err := h.announce(Change{Kind: KindSpool, What: dir, Why: "temporary files of our Podman service"}); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// outdated says that our service runs with a configuration that an earlier
// version of this project, or this host before it changed, called for.
func (h *host) outdated(e endpoint) bool {
	if e.provider != Podman || e.url != h.podmanService().url() {
		return false
	}
	conf, why, err := h.podmanConf()
	if err != nil || len(why) == 0 {
		return err == nil && fileExists(h.confFile())
	}
	same, err := containersconf.Same(h.confFile(), conf)
	return err == nil && !same
}

// writeConf puts our configuration in place, or removes one that is not needed.
func (h *host) writeConf() error {
	conf, why, err := h.podmanConf()
	if err != nil {
		return err
	}
	if len(why) == 0 {
		return removeIfThere(h.confFile())
	}
	if err := h.announce(Change{Kind: KindConfig, What: h.confFile(), Why: strings.Join(why, "; ")}); err != nil {
		return err
	}
	return containersconf.Write(h.confFile(), conf)
}

// LocalPodman is an environment without what makes podman the client of a
// service: it then works on the storage of this host by itself.
func LocalPodman(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "CONTAINER_HOST" || name == "CONTAINER_CONNECTION" || name == "CONTAINER_SSHKEY"
	})
}

// prepareModules makes /lib/modules for engines of this host: Kind mounts it
// into every node and fails where it is missing.
func (h *host) prepareModules(ctx context.Context, e endpoint) error {
	if h.facts.OS != "linux" || h.facts.LibModules || !strings.HasPrefix(e.url, "unix://") {
		return nil
	}
	dir := filepath.Join(h.root, "lib/modules")
	if err := h.announce(Change{Kind: KindDirectory, What: dir, Why: "Kind mounts it"}); err != nil {
		return err
	}
	err := os.MkdirAll(dir, 0o755)
	if errors.Is(err, os.ErrPermission) {
		_, err = h.asRoot(ctx, "mkdir", "-p", dir)
	}
	if err != nil {
		return failure.New(failure.Configuration, "cannot create "+dir+", which Kind mounts", "sudo mkdir -p "+dir, err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
