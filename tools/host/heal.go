package host

import (
	"context"
	"fmt"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host/machine"
)

// RestartService ends the engine service of ours, if it runs, and starts it
// anew. Podman's containers go on running; a dockerd stops its own when it ends.
// Where the engine in use is not ours it does nothing and returns false.
func RestartService(ctx context.Context, o Options) (bool, error) {
	if o.Provider == "" {
		return false, nil // no engine was found yet
	}
	h := newHost(o)
	d, err := h.ours(o.Provider)
	if err != nil || d == nil {
		return false, err
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if o.Provider == Docker {
		return h.restartDocker(ctx, d.url())
	}
	_, err = h.startPodman(ctx)
	return err == nil, err
}

// restartDocker is for the dockerd at own, which is ours. Unless the environment
// names it, another Docker may be the one that is used: what is left of ours
// does not tell.
func (h *host) restartDocker(ctx context.Context, own string) (bool, error) {
	if h.getenv("DOCKER_HOST") != own {
		found, err := h.find(ctx, []string{Docker})
		if err != nil || found != nil && found.url != own {
			return false, err
		}
	}
	_, err := h.startDockerd(ctx)
	return err == nil, err
}

// ours returns the service of ours for that provider if this host uses it: it
// runs, or left a trace, or the environment names it.
func (h *host) ours(provider string) (*daemon, error) {
	var d daemon
	variable := "CONTAINER_HOST"
	switch provider {
	case Podman:
		d = h.podmanService()
	case Docker:
		d, variable = h.dockerService(), "DOCKER_HOST"
	default:
		return nil, failure.New(failure.Configuration, fmt.Sprintf("unknown engine %q", provider), "name podman or docker", nil)
	}
	named := h.getenv(variable)
	if named != "" && named != d.url() {
		return nil, nil
	}
	if _, runs := d.Find(); runs || d.Stale() || named == d.url() {
		return &d, nil
	}
	return nil, nil
}

// RestartMachine restarts the Podman machine that the engine in use is in, as
// the policy (E2E_MACHINE_RESTART) allows, waits for that engine, and says how it
// is reached now. It returns nil where no machine is in use. label and lastSeen
// are as in [machine.Restart].
func RestartMachine(ctx context.Context, o Options, policy, label string, lastSeen []string) (*Connection, error) {
	return newHost(o).restartMachine(ctx, policy, label, lastSeen)
}

func (h *host) restartMachine(ctx context.Context, policy, label string, lastSeen []string) (*Connection, error) {
	name, used := h.machineInUse(ctx)
	if name == "" {
		return nil, nil
	}
	h.Log.Info("restarting podman machine", "name", name, "policy", policy)
	if err := machine.Restart(ctx, h.machineRun("podman machine"), name, policy, label, lastSeen); err != nil {
		return nil, err
	}
	e, err := h.awaitConnection(ctx, name, used)
	if err != nil {
		return nil, err
	}
	c := h.connect(*e)
	return &c, nil
}

// MachineForeign names the running containers in the machine in use that do not
// carry label; nil where none is in use. Asked while the engine answers, it is
// the lastSeen of a later RestartMachine.
func MachineForeign(ctx context.Context, o Options, label string) ([]string, error) {
	h := newHost(o)
	name, _ := h.machineInUse(ctx)
	if name == "" {
		return nil, nil
	}
	return machine.Foreign(ctx, h.machineRun("podman machine"), name, label)
}

// machineInUse returns the machine that CONTAINER_HOST, or CONTAINER_CONNECTION,
// or without them the default connection, leads to, and that connection's name.
// A machine's connections are named after it: NAME, and NAME-root for its
// rootful engine.
func (h *host) machineInUse(ctx context.Context) (name, used string) {
	all, err := machine.List(ctx, h.machineRun("podman machine"))
	if err != nil {
		return "", ""
	}
	address, named := h.getenv("CONTAINER_HOST"), h.getenv("CONTAINER_CONNECTION")
	for _, c := range h.connections(ctx) {
		switch {
		case address != "" && c.URI != address,
			address == "" && named != "" && c.Name != named,
			address == "" && named == "" && !c.Default:
			continue
		}
		for _, m := range all {
			if c.Name == m.Name || strings.TrimSuffix(c.Name, "-root") == m.Name {
				return m.Name, c.Name
			}
		}
	}
	return "", ""
}
