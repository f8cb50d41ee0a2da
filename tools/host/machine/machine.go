// Package machine knows Podman machines: which there are, whether they run, and
// how one is started or restarted without hurting anybody else's containers.
//
// It speaks to `podman machine` alone, whose documented output it reads
// (podman-machine-list(1), podman-machine-inspect(1), Podman 4 and 5).
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Restart policies, as E2E_MACHINE_RESTART names them.
const (
	Auto   = "auto" // only if nobody else's containers run in it
	Always = "always"
	Never  = "never"
)

// Run calls a program and returns its standard output; its error carries what
// was run and what it said.
type Run func(ctx context.Context, name string, args ...string) (string, error)

// Machine is one Podman machine.
type Machine struct {
	Name     string
	Default  bool
	Running  bool
	Starting bool
	CPUs     int
	Memory   int64 // bytes
	Disk     int64 // bytes
	VMType   string
}

// listed is an entry of `podman machine list --format json`: sizes are decimal
// strings of bytes.
type listed struct {
	Name              string
	Default           bool
	Running, Starting bool
	CPUs              int
	Memory, DiskSize  string
	VMType            string
}

// List returns the machines of this user.
func List(ctx context.Context, run Run) ([]Machine, error) {
	out, err := run(ctx, "podman", "machine", "list", "--format", "json")
	if err != nil {
		return nil, err
	}
	var all []listed
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("read the list of podman machines: %w", err)
	}
	machines := make([]Machine, 0, len(all))
	for _, l := range all {
		machines = append(machines, Machine{
			Name: strings.TrimSuffix(l.Name, "*"), Default: l.Default, Running: l.Running, Starting: l.Starting,
			CPUs: l.CPUs, Memory: number(l.Memory), Disk: number(l.DiskSize), VMType: l.VMType,
		})
	}
	return machines, nil
}

// Default returns the default machine, or the only one, or nil.
func Default(machines []Machine) *Machine {
	for i := range machines {
		if machines[i].Default {
			return &machines[i]
		}
	}
	if len(machines) == 1 {
		return &machines[0]
	}
	return nil
}

// State returns what `podman machine inspect` says: running, stopped, starting
// or unknown.
func State(ctx context.Context, run Run, name string) (string, error) {
	out, err := run(ctx, "podman", "machine", "inspect", name)
	if err != nil {
		return "", err
	}
	var all []struct{ State string }
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		return "", fmt.Errorf("read the state of podman machine %q: %w", name, errors.Join(err, fmt.Errorf("%d entries", len(all))))
	}
	return strings.ToLower(all[0].State), nil
}

// Start starts a stopped machine and waits until it says it runs. Podman takes
// no two starts at once, so a machine that is starting is waited for.
func Start(ctx context.Context, run Run, name string) error {
	state, err := State(ctx, run, name)
	if err != nil {
		return err
	}
	if state != "running" && state != "starting" {
		if _, err := run(ctx, "podman", "machine", "start", name); err != nil {
			return fmt.Errorf("start podman machine %q: %w", name, err)
		}
	}
	return waitRunning(ctx, run, name, time.Second)
}

func waitRunning(ctx context.Context, run Run, name string, every time.Duration) error {
	for {
		state, err := State(ctx, run, name)
		if err == nil && state == "running" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("podman machine %q is %q: %w", name, state, errors.Join(context.Cause(ctx), err))
		case <-time.After(every):
		}
	}
}

// Restart stops and starts a machine as the policy allows and waits until it
// runs; that its engine answers is the caller's proof to take. label marks our
// own containers. lastSeen is who else's containers ran when the engine last
// answered, asked of when it no longer does; nil means unknown.
//
// A refusal is of class engine-connection and names the setting that lifts it.
func Restart(ctx context.Context, run Run, name, policy, label string, lastSeen []string) error {
	state, err := State(ctx, run, name)
	if err != nil {
		return err
	}
	if state == "running" || state == "starting" {
		if err := allowed(ctx, run, name, policy, label, lastSeen); err != nil {
			return err
		}
		if _, err := run(ctx, "podman", "machine", "stop", name); err != nil {
			return fmt.Errorf("stop podman machine %q: %w", name, err)
		}
	} else if policy == Never {
		return refusal(name, "E2E_MACHINE_RESTART=never", nil)
	}
	if _, err := run(ctx, "podman", "machine", "start", name); err != nil {
		return fmt.Errorf("start podman machine %q: %w", name, err)
	}
	return waitRunning(ctx, run, name, time.Second)
}

func allowed(ctx context.Context, run Run, name, policy, label string, lastSeen []string) error {
	switch policy {
	case Always:
		return nil
	case Never:
		return refusal(name, "E2E_MACHINE_RESTART=never", nil)
	}
	foreign, err := Foreign(ctx, run, name, label)
	if err != nil {
		if lastSeen == nil {
			return refusal(name, "nobody can say whether other people's containers run in it", err)
		}
		foreign = lastSeen
	}
	if len(foreign) > 0 {
		return refusal(name, "other containers run in it: "+strings.Join(foreign, ", "), nil)
	}
	return nil
}

func refusal(name, why string, err error) error {
	return failure.New(failure.EngineConnection, fmt.Sprintf("podman machine %q needs a restart, but %s", name, why),
		fmt.Sprintf("podman machine stop %s && podman machine start %s, or E2E_MACHINE_RESTART=always", name, name), err)
}

// Foreign names the running containers in a machine that do not carry label. A
// machine has two engines, its user's and root's, with a connection for each
// (NAME and NAME-root); both go down with it. Where one does not answer, it
// asks inside the machine.
func Foreign(ctx context.Context, run Run, name, label string) ([]string, error) {
	foreign, err := running(ctx, run, label, []string{"--connection", name}, []string{"--connection", name + "-root"})
	if err == nil {
		return foreign, nil
	}
	inside := []string{"machine", "ssh", name}
	foreign, sshErr := running(ctx, run, label, slices.Concat(inside, []string{"sudo", "podman"}), slices.Concat(inside, []string{"podman"}))
	if sshErr != nil {
		return nil, errors.Join(err, sshErr)
	}
	return foreign, nil
}

// running names the containers without label that run in the engines which
// podman reaches with each of the arguments.
func running(ctx context.Context, run Run, label string, engines ...[]string) ([]string, error) {
	foreign := []string{}
	for _, reach := range engines {
		out, err := bounded(ctx, run, slices.Concat(reach, []string{"ps", "--format", "json"})...)
		if err != nil {
			return nil, err
		}
		some, err := without(out, label)
		if err != nil {
			return nil, err
		}
		foreign = append(foreign, some...)
	}
	return foreign, nil
}

func bounded(ctx context.Context, run Run, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("no answer within 15s"))
	defer cancel()
	return run(ctx, "podman", args...)
}

func without(out, label string) ([]string, error) {
	var all []struct {
		Names  []string
		Labels map[string]string
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("read the list of containers: %w", err)
	}
	foreign := []string{}
	for _, c := range all {
		if _, ours := c.Labels[label]; !ours {
			foreign = append(foreign, strings.Join(c.Names, "/"))
		}
	}
	return foreign, nil
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
