package pipeline

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// pastLimit bounds one call of podman past its service.
const pastLimit = 45 * time.Second

// clearPast removes the nodes of a Podman on this host whose service is gone:
// they go on without it and hold the ports that the other engine needs. Podman
// itself works on its storage without the service. Only containers that are
// remembered by their identifiers and carry our label are removed. An empty
// action means that there was nothing to do.
func (s *session) clearPast(ctx context.Context) (run.Heal, error) {
	if s.suite == nil || s.connection.Provider != engine.Podman || !strings.HasPrefix(s.connection.URL, "unix://") {
		return run.Heal{}, nil
	}
	c := s.cluster(*s.suite)
	var removed []string
	for _, r := range cluster.Records(host.DefaultStateDir()) {
		if r.Name != c.Name || r.Provider != engine.Podman {
			continue
		}
		for _, id := range r.Nodes {
			said, err := s.podmanItself(ctx, "container", "inspect", "--format", `{{index .Config.Labels "`+settings.Label+`"}}/{{.Name}}`, id)
			label, name, _ := strings.Cut(strings.TrimSpace(said), "/")
			if err != nil || label == "" {
				continue // it is gone, or in another storage
			}
			if _, err := s.podmanItself(ctx, "rm", "--force", "--volumes", "--time=0", id); err != nil {
				return run.Heal{}, fmt.Errorf("remove node %s past the service: %w", name, err)
			}
			removed = append(removed, name)
		}
	}
	if len(removed) == 0 {
		return run.Heal{}, nil
	}
	return run.Heal{Action: "remove the nodes that outlive the engine's service",
		Effect: "their ports are free: " + strings.Join(removed, ", "), OK: true}, nil
}

// podmanItself runs podman on the storage of this host, as no client of any service.
func (s *session) podmanItself(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pastLimit)
	defer cancel()
	return command.Run(ctx, command.Command{Name: "podman", Args: args, Base: host.LocalPodman(os.Environ())})
}
