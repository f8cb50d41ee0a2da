package cluster

import (
	"context"
	"fmt"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Repair is Up for a cluster whose contents are still needed: it starts stopped
// nodes, fetches the kubeconfig again and waits until the cluster is ready, but
// never makes it anew. One that cannot be repaired is left as it is.
func (c Cluster) Repair(ctx context.Context, spec Spec) (State, error) {
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
	reason := "it is gone"
	var state State
	if len(found) > 0 {
		state, reason, err = c.use(ctx, p, spec, found)
	}
	if err != nil || reason == "" {
		return state, err
	}
	return State{}, failure.New(failure.ClusterUnready, fmt.Sprintf("cluster %q cannot be used as it is: %s", c.Name, reason),
		"run again: the next run makes it anew", nil)
}
