package host

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/service"
)

// dockerService is a dockerd of ours. Its arguments name a configuration that
// names all else.
func (h *host) dockerService() daemon {
	sock := filepath.Join(h.RuntimeDir, "docker.sock")
	d := daemon{service.Service{
		Dir: h.RuntimeDir, Name: "docker", Path: "dockerd",
		Args: []string{"--config-file", filepath.Join(h.RuntimeDir, "daemon.json")},
		Env:  h.environ("DOCKER_HOST=", "DOCKER_CONTEXT="), Sock: sock, Wait: serviceWait,
		Grace: time.Minute, // it stops its containers first
	}}
	d.Ready = func(ctx context.Context) error {
		return h.ping(ctx, endpoint{provider: Docker, url: d.url(), source: "service of kubernaut-e2e"})
	}
	return d
}

// dockerCandidates lists where Docker may listen; see candidates.
func (h *host) dockerCandidates(ctx context.Context) (list []endpoint, named bool) {
	own := endpoint{provider: Docker, url: h.dockerService().url(), source: "service of kubernaut-e2e"}
	if u := h.getenv("DOCKER_HOST"); u != "" && u != own.url {
		return []endpoint{{provider: Docker, url: u, source: h.namedBy("DOCKER_HOST", u)}}, true
	}
	if h.facts.OS == "linux" {
		list = append(list, own)
	}
	// The context's endpoint; DOCKER_HOST would override it, so it is left out.
	if _, err := h.run.LookPath("docker"); err == nil {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		out, err := h.outputEnv(ctx, h.environ("DOCKER_HOST="), "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
		if u := strings.TrimSpace(out); err == nil && u != "" {
			e := endpoint{provider: Docker, url: u, source: "docker context"}
			if name := h.getenv("DOCKER_CONTEXT"); name != "" {
				e.source = "DOCKER_CONTEXT"
				return []endpoint{e}, true
			}
			return append(list, e), false
		}
	}
	return append(list, endpoint{provider: Docker, url: "unix://" + filepath.Join(h.root, "var/run/docker.sock"), source: "default socket"}), false
}

// dockerData is where our dockerd keeps images, and its runtime: not in the
// runtime folder, which may be small and mounted noexec.
func (h *host) dockerData() string { return filepath.Join(h.StateDir, "docker") }

// dockerRoot is our dockerd's data-root.
func (h *host) dockerRoot() string { return filepath.Join(h.dockerData(), "data") }

// dockerBridge is the bridge every dockerd makes for its default network.
const dockerBridge = "docker0"

func (h *host) daemonJSON() string { return filepath.Join(h.RuntimeDir, "daemon.json") }

// startDocker starts a dockerd of ours where Docker is installed or may be, and
// does not run.
func (h *host) startDocker(ctx context.Context) (*endpoint, error) {
	if err := h.ensureDockerd(ctx); err != nil {
		return nil, err
	}
	// A package that brings its own service may have started it.
	if found, err := h.find(ctx, []string{Docker}); err != nil || found != nil {
		return found, err
	}
	return h.startDockerd(ctx)
}

// startDockerd ends the dockerd of ours, if one runs, and starts it where nothing
// else (systemd, Docker Desktop) is there to start Docker.
func (h *host) startDockerd(ctx context.Context) (*endpoint, error) {
	switch {
	case h.facts.OS != "linux":
		return nil, failure.New(failure.EngineConnection, "Docker is not running", "start Docker Desktop", nil)
	case h.facts.Systemd:
		return nil, failure.New(failure.EngineConnection, "Docker is installed but not running", "sudo systemctl start docker", nil)
	case h.facts.UID != 0:
		return nil, failure.New(failure.EngineConnection, "Docker is installed but not running, and starting dockerd needs root", "sudo dockerd &, or KIND_EXPERIMENTAL_PROVIDER=podman", nil)
	}
	d := h.dockerService()
	if len(d.Sock) > maxSocketPath {
		return nil, failure.New(failure.Configuration, "socket path is too long: "+d.Sock, "set XDG_RUNTIME_DIR to a shorter path", nil)
	}
	if err := d.Stop(ctx); err != nil {
		return nil, fmt.Errorf("end our dockerd: %w", err)
	}
	if err := h.writeDaemonJSON(ctx); err != nil {
		return nil, err
	}
	path, err := h.run.LookPath(d.Path)
	if err != nil {
		return nil, err
	}
	d.Path = path
	if err := h.announce(Change{Kind: KindService, What: d.url(), Why: "Docker is installed but not running; log in " + d.LogFile()}); err != nil {
		return nil, err
	}
	if !fileExists(filepath.Join(h.root, "sys/class/net", dockerBridge)) {
		if err := h.announce(Change{Kind: KindBridge, What: dockerBridge, Why: "dockerd makes it"}); err != nil {
			return nil, err
		}
	}
	if _, err := d.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, failure.New(failure.EngineBroken, "dockerd does not start", "see "+d.LogFile(), err)
	}
	return &endpoint{provider: Docker, url: d.url(), source: "service of kubernaut-e2e"}, nil
}

// ensureDockerd installs Docker only for those who asked for it by name.
func (h *host) ensureDockerd(ctx context.Context) error {
	if _, err := h.run.LookPath("dockerd"); err == nil || h.facts.OS != "linux" {
		return h.ensureCLI(ctx, Docker)
	}
	if h.Provider != Docker {
		return failure.New(failure.EngineConnection, "Docker is not running", "KIND_EXPERIMENTAL_PROVIDER=docker mage setup", nil)
	}
	if err := h.installPackages(ctx, dockerPackages); err != nil {
		return err
	}
	return h.ensureCLI(ctx, Docker)
}
