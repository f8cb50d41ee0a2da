package host

import (
	"context"
	"path/filepath"
	"strings"

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
		return []endpoint{{provider: Docker, url: u, source: "DOCKER_HOST"}}, true
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

func (h *host) startDocker(context.Context) (*endpoint, error) {
	return nil, failure.New(failure.EngineConnection, "Docker does not answer", "start Docker, or set KIND_EXPERIMENTAL_PROVIDER=podman", nil)
}

func (h *host) clearDocker() ([]string, error) { return nil, nil }
