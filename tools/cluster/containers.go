package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

const (
	// KindLabel is Kind's own label of node containers, its value the cluster's
	// name (sigs.k8s.io/kind/pkg/cluster/constants).
	KindLabel = "io.x-k8s.kind.cluster"
	poll      = 250 * time.Millisecond
	// cleanUp bounds what is done after ctx has ended.
	cleanUp = 30 * time.Second
)

func (c Cluster) refuseForeign(found []engine.Container) error {
	if len(found) == 0 {
		return nil
	}
	for _, n := range found {
		if c.ours(n) {
			return nil
		}
	}
	return failure.New(failure.Configuration,
		fmt.Sprintf("a Kind cluster %q exists that this project did not make", c.Name),
		"set E2E_CLUSTER=<another name>, or remove it yourself: kind delete cluster --name "+c.Name, nil)
}

func (c Cluster) containers(ctx context.Context) ([]engine.Container, error) {
	found, err := c.Engine.Containers(ctx, KindLabel+"="+c.Name)
	if err != nil {
		return nil, fmt.Errorf("list the nodes of cluster %q: %w", c.Name, err)
	}
	return found, nil
}

// kubernetesNodes leaves out the load balancer that Kind puts before several
// control planes: it is a proxy, without containerd and without our label.
func kubernetesNodes(found []engine.Container) []engine.Container {
	return slices.DeleteFunc(slices.Clone(found), func(n engine.Container) bool {
		return n.Labels["io.x-k8s.kind.role"] == "external-load-balancer"
	})
}

func (c Cluster) ours(n engine.Container) bool {
	rec, _ := c.readRecord()
	return Ours(n, c.Network, rec)
}

// OursByName reports whether a network is this project's: it has the name, or
// one that begins with it, as two Podmans of one host need: they share the
// addresses of a network by its name, whatever their storage (NetworkRunDir in
// containers/common, libnetwork/network).
func OursByName(name, network string) bool {
	return name == network || strings.HasPrefix(name, network+"-")
}

// Ours reports whether a Kind node's container was made by this project: it is
// on this project's network, or remembered. The label alone proves nothing
// where the network is known, because a cluster that somebody else makes from
// our node image inherits it. Neither does the record of a cluster that was not
// finished: it knows a name, which somebody may have given to a cluster since.
// Together they do, for a node on a network that the user named.
func Ours(n engine.Container, network string, rec Record) bool {
	switch {
	case network != "" && slices.ContainsFunc(n.Networks, func(name string) bool { return OursByName(name, network) }):
		return true
	case rec.Name != "" && rec.Name == n.Labels[KindLabel]:
		if !rec.Complete {
			return n.Labels[settings.Label] != ""
		}
		return slices.Contains(rec.Nodes, n.ID)
	case network != "" && len(n.Networks) > 0:
		return false
	}
	return n.Labels[settings.Label] != ""
}

func (c Cluster) stopped(found []engine.Container) error {
	for _, n := range found {
		if !n.Running() {
			return fmt.Errorf("node %s is %s", n.Name, n.State)
		}
	}
	return nil
}

func (c Cluster) library() (kindLibrary, error) {
	if c.kind != nil {
		return c.kind, nil
	}
	return newKind(c.Provider, c.Log, "cluster "+c.Name, c.Progress)
}

func (c Cluster) withDefaults() Cluster {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Progress = c.Progress.Or()
	return c
}

func (c Cluster) say(line string) {
	c.Progress(progress.Update{What: "cluster " + c.Name, Line: line})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
