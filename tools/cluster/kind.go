package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	kind "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/exec"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// kindLibrary is the part of Kind's Provider used here.
type kindLibrary interface {
	Create(name string, options ...kind.CreateOption) error
	Delete(name, explicitKubeconfigPath string) error
	KubeConfig(name string, internal bool) (string, error)
	CollectLogs(name, dir string) error
	ListInternalNodes(name string) ([]nodes.Node, error)
}

// newKind returns Kind with the provider named: left to itself the library
// takes Docker wherever a docker command is installed.
func newKind(provider string, l *slog.Logger, what string, report progress.Func) (kindLibrary, error) {
	logger := kind.ProviderWithLogger(kindLogger{log: l, what: what, report: report.Or()})
	switch provider {
	case "podman":
		return kind.NewProvider(logger, kind.ProviderWithPodman()), nil
	case "docker":
		return kind.NewProvider(logger, kind.ProviderWithDocker()), nil
	}
	return nil, failure.New(failure.Configuration, fmt.Sprintf("provider %q is not known", provider),
		"KIND_EXPERIMENTAL_PROVIDER=podman (or docker)", nil)
}

// inBackground runs f, which takes no context, and returns when f or ctx ends.
// f goes on after ctx has ended; done receives its result then.
func inBackground(ctx context.Context, f func() error) (done <-chan error, err error) {
	c := make(chan error, 1)
	go func() { c <- f() }()
	select {
	case err := <-c:
		c <- err
		return c, err
	case <-ctx.Done():
		return c, context.Cause(ctx)
	}
}

// createNodes has Kind make the cluster. Kind's Create takes no context: when
// ctx ends, or Create fails, the caller must remove what is there by settle.
func (c Cluster) createNodes(ctx context.Context, k kindLibrary, p plan) (done <-chan error, err error) {
	// Kind insists on writing a kubeconfig. It gets a file that nobody reads,
	// so that neither KUBECONFIG nor ~/.kube/config is ever its target.
	scratch, err := os.MkdirTemp("", "kubernaut-e2e-kind-")
	if err != nil {
		return nil, err
	}
	return inBackground(ctx, func() error {
		defer func() { _ = os.RemoveAll(scratch) }()
		return kindError(k.Create(c.Name,
			kind.CreateWithV1Alpha4Config(p.config),
			kind.CreateWithRetain(true),
			kind.CreateWithWaitForReady(0),
			kind.CreateWithKubeconfigPath(filepath.Join(scratch, "config")),
			kind.CreateWithDisplayUsage(false),
			kind.CreateWithDisplaySalutation(false),
		))
	})
}

// deleteNodes has Kind remove the cluster's containers and their volumes, and
// proves by listing that they are gone.
func (c Cluster) deleteNodes(ctx context.Context, k kindLibrary) error {
	scratch, err := os.MkdirTemp("", "kubernaut-e2e-kind-")
	if err != nil {
		return err
	}
	// Kind removes containers after asking them to stop, which a node in the
	// middle of its start ignores for ten seconds. Nothing in it is wanted.
	killing, stop := context.WithCancel(ctx)
	var killer sync.WaitGroup
	killer.Go(func() {
		for pause(killing, poll) == nil {
			c.killNodes(killing)
		}
	})
	c.killNodes(ctx)
	_, err = inBackground(ctx, func() error {
		defer func() { _ = os.RemoveAll(scratch) }()
		return kindError(k.Delete(c.Name, filepath.Join(scratch, "config")))
	})
	stop()
	killer.Wait()
	if err != nil {
		return fmt.Errorf("delete cluster %q: %w", c.Name, err)
	}
	left, err := c.containers(ctx)
	if err != nil {
		return fmt.Errorf("make sure that cluster %q is gone: %w", c.Name, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("delete cluster %q: container %q is still there", c.Name, left[0].Name)
	}
	return nil
}

// killNodes kills what runs of the cluster. It may fail: a container's state
// changes while it is looked at.
func (c Cluster) killNodes(ctx context.Context) {
	found, err := c.containers(ctx)
	for _, n := range found {
		if n.Running() {
			err = errors.Join(err, c.Engine.KillContainer(ctx, n.ID, "KILL"))
		}
	}
	if err != nil && ctx.Err() == nil {
		c.Log.Debug("kill nodes before their removal", "cluster", c.Name, "error", err)
	}
}

// settle removes a half-made cluster while Kind may still be working on it:
// with its containers gone, the commands Kind waits for fail and it gives up.
// It is over when Kind has ended and nothing has appeared for a while, because
// an engine may finish making a container whose client was stopped.
func (c Cluster) settle(ctx context.Context, k kindLibrary, done <-chan error) error {
	const quiet = time.Second
	var last error
	ended, since := false, time.Now()
	for {
		select {
		case <-done: //nolint:errcheck // that Kind ended counts, not how
			ended, done = true, nil
		default:
		}
		found, err := c.containers(ctx)
		if err != nil {
			last = err
		}
		if len(found) > 0 {
			last = c.deleteNodes(ctx, k)
			since = time.Now()
		} else if err == nil && ended && time.Since(since) >= quiet {
			return nil
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("remove half-made cluster %q (the next run removes it): %w", c.Name, errors.Join(err, last))
		}
	}
}

// kindError adds what the command that Kind ran said: Kind's own text has only
// the command and its exit status.
func kindError(err error) error {
	if err == nil {
		return nil
	}
	run := exec.RunErrorForError(err)
	if run == nil || len(run.Output) == 0 {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(run.Output)), "\n")
	const last = 30 // kubeadm writes hundreds
	return fmt.Errorf("%w\n%s", err, strings.Join(lines[max(0, len(lines)-last):], "\n"))
}
