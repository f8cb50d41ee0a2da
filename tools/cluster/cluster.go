// Package cluster owns a suite's Kind cluster: making it, judging whether one
// that exists can be used again, repairing it, and taking it down.
//
// It uses Kind as a library with the provider always named, keeps the
// cluster's kubeconfig in a file of its own, and asks the API server, never a
// log line, whether the cluster is ready. It does not choose the node image,
// load images or apply manifests, and never touches a cluster it did not make.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Engine is the part of an engine this package uses.
type Engine interface {
	// Containers lists containers in every state that have every label ("key"
	// or "key=value"); without labels, all containers.
	Containers(ctx context.Context, labels ...string) ([]engine.Container, error)
	StartContainer(ctx context.Context, container string) error
	// Started is when the container was started last, by the clock of the
	// engine's host, which is its nodes' clock.
	Started(ctx context.Context, container string) (time.Time, error)
	// KillContainer sends a signal such as "KILL".
	KillContainer(ctx context.Context, container, signal string) error
}

// Cluster names one Kind cluster and what is needed to reach it.
type Cluster struct {
	Name       string
	Provider   string // podman or docker
	Engine     Engine
	Kubeconfig string // file that holds this cluster's credentials and no other's
	StateDir   string // per user, outlives a run: locks and records of clusters
	Network    string // engine network of this project's clusters; empty: not looked at
	Log        *slog.Logger
	Progress   progress.Func
	// Lock is the cluster's lock if the caller holds it already; nil: taken
	// for the length of each call.
	Lock *Lock

	kind kindLibrary // nil: Kind itself
}

// Spec is what a cluster shall be made of.
type Spec struct {
	Config          []byte // any Kind v1alpha4 document; empty: Kind's default
	ConfigName      string // what errors call Config, usually its path
	Workers         int    // worker nodes beside those of Config
	NodeImage       string // for nodes that name none themselves; empty: Kind's default
	ExpectedVersion string // of the API server, with or without v; empty: any
	CgroupV1        bool   // the engine's host runs cgroup v1 (legacy or hybrid)

	CreateTimeout time.Duration // for Kind's own work; 0: 10 minutes
	ReadyTimeout  time.Duration // from created to ready; 0: 3 minutes
	RepairTimeout time.Duration // for a cluster found broken; 0: 2 minutes
	// PortHolder names the program that holds a TCP port of this host; nil or
	// "" means unknown.
	PortHolder func(ctx context.Context, port int) string
	// BeforeDelete is called before a cluster that failed is deleted, so that
	// evidence can be taken. nil: nothing is.
	BeforeDelete func(ctx context.Context, reason string)
}

// Outcome is what Up had to do.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Reused    Outcome = "reused"
	Repaired  Outcome = "repaired"
	Recreated Outcome = "recreated"
)

// State is the cluster after Up.
type State struct {
	Outcome    Outcome  `json:"outcome"`
	Reason     string   `json:"reason,omitempty"` // why it was repaired or recreated
	Nodes      []string `json:"nodes"`            // container names, load balancers excluded
	Kubeconfig string   `json:"kubeconfig"`
	Version    string   `json:"version"` // of the API server
}

// Up makes the cluster exist, ready and made of exactly spec, doing as little
// as that takes. A cluster of the same name that this project did not make is
// refused, untouched. When ctx ends during creation, the half-made cluster is
// removed within a bounded time; where that fails, the next Up does it.
func (c Cluster) Up(ctx context.Context, spec Spec) (State, error) {
	return c.held(ctx, spec, func(c Cluster, p plan, found []engine.Container) (State, error) {
		if len(found) == 0 {
			return c.create(ctx, p, spec, Created, "")
		}
		state, reason, err := c.use(ctx, p, spec, found)
		if err != nil || reason == "" {
			return state, err
		}
		c.say("making the cluster again: " + reason)
		if err := c.discard(ctx, spec, reason); err != nil {
			return State{}, err
		}
		return c.create(ctx, p, spec, Recreated, reason)
	})
}

// held calls do with what is there of the cluster, under its lock. A spec that
// cannot be and a cluster that is not ours are refused before.
func (c Cluster) held(ctx context.Context, spec Spec, do func(c Cluster, p plan, found []engine.Container) (State, error)) (State, error) {
	c = c.withDefaults()
	p, err := newPlan(c.Name, spec)
	if err != nil {
		return State{}, err
	}
	release, err := c.hold(ctx)
	if err != nil {
		return State{}, err
	}
	defer release()

	found, err := c.containers(ctx)
	if err != nil {
		return State{}, err
	}
	if err := c.refuseForeign(found); err != nil {
		return State{}, err
	}
	return do(c, p, found)
}

// use tries to take the existing cluster as it is, or repaired. A reason means
// that it cannot be used.
func (c Cluster) use(ctx context.Context, p plan, spec Spec, found []engine.Container) (State, string, error) {
	if rec, ok := c.readRecord(); ok && !rec.Complete {
		return State{}, "an earlier run was ended while it made the cluster", nil
	}
	if reason := p.compareNodes(found); reason != "" {
		return State{}, reason, nil
	}
	state := State{Outcome: Reused, Nodes: p.nodes, Kubeconfig: c.Kubeconfig}
	problem := c.stopped(found)
	if problem == nil {
		state.Version, problem = c.check(ctx, p, spec)
	}
	var unusable *unusableError
	switch {
	case problem == nil:
		return state, "", nil
	case ctx.Err() != nil:
		return State{}, "", fmt.Errorf("check cluster %q: %w", c.Name, context.Cause(ctx))
	case errors.As(problem, &unusable):
		return State{}, unusable.Error(), nil
	}
	c.say("repairing the cluster: " + problem.Error())
	version, err := c.repair(ctx, p, spec, found)
	if ctx.Err() != nil {
		return State{}, "", fmt.Errorf("repair cluster %q: %w", c.Name, context.Cause(ctx))
	}
	if err != nil {
		return State{}, fmt.Sprintf("%v; repairing did not help: %v", problem, err), nil
	}
	state.Outcome, state.Reason, state.Version = Repaired, problem.Error(), version
	return state, "", nil
}

// repair starts stopped nodes, fetches the kubeconfig again and waits until
// the cluster passes the same check as one that is reused. After a restart the
// controllers need a moment to see what changed, so then the check has to pass
// for some time.
func (c Cluster) repair(ctx context.Context, p plan, spec Spec, found []engine.Container) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, or(spec.RepairTimeout, 2*time.Minute))
	defer cancel()
	restarted := false
	for _, n := range found {
		if n.Running() {
			continue
		}
		c.say("starting node " + n.Name)
		if err := c.Engine.StartContainer(ctx, n.ID); err != nil {
			return "", fmt.Errorf("start node %q: %w", n.Name, err)
		}
		restarted = true
	}
	var last error
	var exported, steady time.Time
	for {
		if time.Since(exported) > 5*time.Second {
			if err := c.exportKubeconfig(ctx); err != nil {
				last = err
			}
			exported = time.Now()
		}
		version, err := c.check(ctx, p, spec)
		restarted = restarted || errors.Is(err, errSilent)
		var unusable *unusableError
		switch {
		case errors.As(err, &unusable):
			return "", err
		case err != nil:
			steady = time.Time{}
		case steady.IsZero():
			steady = time.Now()
		}
		if err == nil && (!restarted || time.Since(steady) > 2*time.Second) {
			return version, nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if err := pause(ctx, poll); err != nil {
			return "", last
		}
	}
}

// Status tells what is there without changing anything.
func (c Cluster) Status(ctx context.Context) (Status, error) {
	c = c.withDefaults()
	found, err := c.containers(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Exists: len(found) > 0, Ours: c.refuseForeign(found) == nil, Nodes: kubernetesNodes(found)}
	if !s.Exists || !s.Ours {
		return s, nil
	}
	if err := c.stopped(found); err != nil {
		s.Problem = err.Error()
		return s, nil
	}
	client, err := c.client()
	if err == nil {
		s.Version, err = serverVersion(ctx, client)
	}
	if err == nil {
		err = notReady(ctx, client, false)
	}
	if err != nil {
		s.Problem = err.Error()
	}
	return s, nil
}

// Status is a look at a cluster.
type Status struct {
	Exists  bool               `json:"exists"`
	Ours    bool               `json:"ours"` // false: a cluster of this name that this project did not make
	Nodes   []engine.Container `json:"nodes"`
	Version string             `json:"version"`
	Problem string             `json:"problem,omitempty"` // why it is not ready; empty: it is
}
