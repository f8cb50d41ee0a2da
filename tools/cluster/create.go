package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// create makes the cluster from nothing and waits until it is ready. A cluster
// that Kind could not make is removed again; one that was made and did not
// become ready stays for a look, and the next Up makes it again.
func (c Cluster) create(ctx context.Context, p plan, spec Spec, outcome Outcome, reason string) (State, error) {
	if err := c.portsFree(ctx, p, spec.PortHolder); err != nil {
		return State{}, err
	}
	k, err := c.library()
	if err != nil {
		return State{}, err
	}
	if err := c.spareForeign(); err != nil { // before the record claims the path
		return State{}, err
	}
	if err := c.writeRecord(false, nil); err != nil {
		return State{}, fmt.Errorf("remember cluster %q: %w", c.Name, err)
	}
	within, cancel := context.WithTimeoutCause(ctx, or(spec.CreateTimeout, 10*time.Minute),
		fmt.Errorf("not done after %s", or(spec.CreateTimeout, 10*time.Minute)))
	defer cancel()
	done, err := c.createNodes(within, k, p)
	if err != nil {
		err = lostOutput(fmt.Errorf("create cluster %q: %w", c.Name, err))
		if ctx.Err() == nil {
			err = c.withJournal(ctx, k, err)
		}
		if ctx.Err() == nil && spec.BeforeDelete != nil {
			spec.BeforeDelete(ctx, err.Error())
		}
		after, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer stop()
		if done == nil {
			return State{}, err
		}
		if left := c.settle(after, k, done); left != nil {
			return State{}, errors.Join(err, left)
		}
		return State{}, errors.Join(err, c.forget())
	}
	if err := c.exportKubeconfig(ctx); err != nil {
		return State{}, err
	}
	client, err := c.client()
	if err != nil {
		return State{}, err
	}
	version, err := serverVersion(ctx, client)
	if err != nil {
		return State{}, err
	}
	if want := spec.ExpectedVersion; want != "" && trimV(want) != trimV(version) {
		return State{}, failure.New(failure.VersionMismatch,
			fmt.Sprintf("cluster %q runs Kubernetes %s, its node image was said to hold %s", c.Name, version, want),
			"set E2E_NODE_IMAGE to an image of one version", nil)
	}
	if err := c.mark(ctx, client, p); err != nil {
		return State{}, err
	}
	if err := c.waitReady(ctx, client, p, or(spec.ReadyTimeout, 3*time.Minute)); err != nil {
		return State{}, c.withJournal(ctx, k, err)
	}
	made, err := c.containers(ctx)
	if err != nil {
		return State{}, err
	}
	if err := c.writeRecord(true, made); err != nil {
		return State{}, fmt.Errorf("remember cluster %q: %w", c.Name, err)
	}
	return State{Outcome: outcome, Reason: reason, Nodes: p.nodes, Kubeconfig: c.Kubeconfig, Version: version}, nil
}

// lostOutput recognises what Kind says when Podman's remote client took a
// command in a node for done that it lost sight of, its output with it: under
// load, where the command ends before the client has attached to it, or with
// the connection cut. Kind goes on and fails at the next command: the file that
// it reads is empty, or the node's own administrator may do nothing yet, because
// kubeadm is still at work.
func lostOutput(err error) error {
	text, cause := err.Error(), ""
	switch {
	case strings.Contains(text, "file should only be one line, got 0 lines"):
		cause = "the engine lost the output of a command in a node"
	case strings.Contains(text, "--kubeconfig=/etc/kubernetes/admin.conf") && (strings.Contains(text, "(Forbidden)") || strings.Contains(text, "(Unauthorized)")):
		cause = "the engine lost sight of kubeadm in a node, which was not done when Kind went on"
	default:
		return err
	}
	e := failure.New(failure.EngineConnection, cause, "run again", err)
	e.Retry = failure.RetryNow
	return e
}

// discard takes evidence of a cluster that cannot be used and deletes it.
func (c Cluster) discard(ctx context.Context, spec Spec, reason string) error {
	if spec.BeforeDelete != nil {
		spec.BeforeDelete(ctx, reason)
	}
	k, err := c.library()
	if err != nil {
		return err
	}
	return c.deleteNodes(ctx, k)
}

// Down deletes the cluster and its kubeconfig, and succeeds if there is none.
// It refuses a cluster that this project did not make.
func (c Cluster) Down(ctx context.Context) error {
	c = c.withDefaults()
	release, err := c.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	found, err := c.containers(ctx)
	if err != nil {
		return err
	}
	if err := c.refuseForeign(found); err != nil {
		return err
	}
	if len(found) > 0 {
		k, err := c.library()
		if err != nil {
			return err
		}
		if err := c.deleteNodes(ctx, k); err != nil {
			return err
		}
	}
	return c.forget()
}

// forget removes what is remembered of the cluster on this host, its record
// last: without it, a kubeconfig of ours that is corrupt is somebody else's.
func (c Cluster) forget() error {
	if c.replaceable() {
		if err := remove(c.Kubeconfig); err != nil {
			return err
		}
	}
	return remove(recordPath(c.StateDir, c.Name, c.Provider))
}

// ExportLogs writes the nodes' logs below dir. When ctx ends it returns, and
// what was written until then stays.
func (c Cluster) ExportLogs(ctx context.Context, dir string) error {
	k, err := c.withDefaults().library()
	if err != nil {
		return err
	}
	if _, err := inBackground(ctx, func() error { return kindError(k.CollectLogs(c.Name, dir)) }); err != nil {
		return fmt.Errorf("collect the logs of cluster %q: %w", c.Name, err)
	}
	return nil
}
