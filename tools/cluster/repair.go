package cluster

import (
	"context"
	"fmt"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Repair is Up for a cluster whose contents are still needed: it starts stopped
// nodes, fetches the kubeconfig again and waits until the cluster is ready, but
// never makes it anew. One that cannot be repaired is left as it is.
func (c Cluster) Repair(ctx context.Context, spec Spec) (State, error) {
	return c.held(ctx, spec, func(c Cluster, p plan, found []engine.Container) (State, error) {
		reason := "it is gone"
		if len(found) > 0 {
			state, why, err := c.use(ctx, p, spec, found)
			if err != nil || why == "" {
				return state, err
			}
			reason = why
		}
		return State{}, failure.New(failure.ClusterUnready, fmt.Sprintf("cluster %q cannot be used as it is: %s", c.Name, reason),
			"run again: the next run makes it anew", nil)
	})
}
