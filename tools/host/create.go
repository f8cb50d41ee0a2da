package host

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host/machine"
)

// A machine of ours: a node image build and a few clusters fit into it.
const (
	machineMinMemoryMB = 4096
	machineMaxMemoryMB = 8192
	machineDiskGB      = 80
	machineWait        = 10 * time.Minute
)

// startMachine starts the default Podman machine, and creates one of suitable
// size where there is none, rootful as Kind's documentation advises.
func (h *host) startMachine(ctx context.Context) (*endpoint, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, machineWait, fmt.Errorf("no podman machine within %s", machineWait))
	defer cancel()
	run := h.machineRun("podman machine")
	all, err := machine.List(ctx, run)
	if err != nil {
		return nil, fmt.Errorf("list podman machines: %w", err)
	}
	m := machine.Default(all)
	name := "podman-machine-default"
	if m != nil {
		name = m.Name
	} else if len(all) > 0 {
		return nil, failure.New(failure.Configuration, "several podman machines, and none is the default",
			"podman system connection default NAME", nil)
	}
	if m == nil {
		if !h.AllowInstall {
			return nil, failure.New(failure.Configuration, "there is no podman machine", "mage setup", nil)
		}
		cpus, memory := h.machineSize(ctx)
		if err := h.announce(Change{Kind: KindMachine, What: name, Why: fmt.Sprintf("%d CPUs, %d MB, %d GB disk", cpus, memory, machineDiskGB)}); err != nil {
			return nil, err
		}
		if _, err := run(ctx, "podman", "machine", "init", "--rootful", "--cpus", strconv.Itoa(cpus),
			"--memory", strconv.Itoa(memory), "--disk-size", strconv.Itoa(machineDiskGB), name); err != nil {
			return nil, fmt.Errorf("create podman machine: %w", err)
		}
	}
	h.Log.Info("starting podman machine", "name", name)
	if err := machine.Start(ctx, run, name); err != nil {
		return nil, failure.New(failure.EngineConnection, "podman machine "+name+" does not start",
			"podman machine stop "+name+" && podman machine start "+name, err)
	}
	return h.awaitConnection(ctx, name, "")
}

// awaitConnection waits until the engine behind a machine's connection answers;
// without a name, behind the default one. The connection is found by its name,
// as a machine that starts may listen on another port than before.
func (h *host) awaitConnection(ctx context.Context, name, connection string) (*endpoint, error) {
	var last error
	for {
		for _, c := range h.connections(ctx) {
			if connection != "" && c.Name != connection || connection == "" && !c.Default {
				continue
			}
			e := c.endpoint("podman machine " + name)
			if last = h.ping(ctx, e); last == nil {
				return &e, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, failure.New(failure.EngineConnection, "podman machine "+name+" runs, but its engine does not answer",
				"podman machine stop "+name+" && podman machine start "+name, last)
		case <-time.After(time.Second):
		}
	}
}

// machineSize is half of the computer, within what a node image build needs and
// what a laptop can spare.
func (h *host) machineSize(ctx context.Context) (cpus, memoryMB int) {
	cpus = max(2, runtime.NumCPU()/2)
	memoryMB = machineMinMemoryMB
	if out, err := h.output(ctx, "sysctl", "-n", "hw.memsize"); err == nil {
		if bytes, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64); err == nil {
			memoryMB = min(machineMaxMemoryMB, max(machineMinMemoryMB, int(bytes>>20)/2))
		}
	}
	return cpus, memoryMB
}

// machineRun runs podman without the variables that point it elsewhere.
func (h *host) machineRun(what string) machine.Run {
	return func(ctx context.Context, name string, args ...string) (string, error) {
		return h.stream(ctx, what, command.Command{Name: name, Args: args,
			Base: LocalPodman(h.environ())})
	}
}
