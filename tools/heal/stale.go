package heal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// Stale is where leftovers of earlier runs are looked for.
type Stale struct {
	Engine   cluster.Engine
	Provider string // podman or docker
	StateDir string // records and locks of clusters
	Network  string // of this project's clusters
	Current  string // cluster of this run, which its own step sees to
}

// Remove takes down clusters of this project whose making was cut off and that
// no other process is at work on. Complete ones are somebody's, kept on
// purpose, and stay.
func (s Stale) Remove(ctx context.Context) (effect string, err error) {
	found, err := s.Engine.Containers(ctx, cluster.KindLabel)
	if err != nil {
		return "", fmt.Errorf("list clusters: %w", err)
	}
	var removed []string
	for _, r := range cluster.Records(s.StateDir) {
		if r.Provider != s.Provider || r.Complete || r.Name == s.Current || !exists(found, r.Name) {
			continue
		}
		did, downErr := s.down(ctx, r)
		err = errors.Join(err, downErr)
		if did {
			removed = append(removed, r.Name)
		}
	}
	if len(removed) == 0 {
		return "", err
	}
	return "half-made clusters removed: " + strings.Join(removed, ", "), err
}

func exists(found []engine.Container, name string) bool {
	for _, c := range found {
		if c.Labels[cluster.KindLabel] == name {
			return true
		}
	}
	return false
}

// down removes a cluster unless its lock is held: then it is being made now.
func (s Stale) down(ctx context.Context, r cluster.Record) (did bool, err error) {
	brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	lock, err := cluster.Acquire(brief, s.StateDir, r.Name, nil)
	if err != nil {
		return false, nil //nolint:nilerr // held, and so not stale
	}
	err = cluster.Cluster{Name: r.Name, Provider: r.Provider, Engine: s.Engine, Kubeconfig: r.Kubeconfig,
		StateDir: s.StateDir, Network: s.Network, Lock: lock}.Down(ctx)
	if err != nil {
		return false, errors.Join(err, lock.Release())
	}
	return true, lock.Discard()
}
