package pipeline

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/evidence"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// codeLimit bounds the evidence of a failure of the code: its answer must not
// take much longer than the failure itself.
const codeLimit = 5 * time.Second

// evidence takes down the state of things before anything is healed or removed.
func (s *session) evidence(ctx context.Context, step run.Step, err error) {
	d := s.diagnosed(step.Name)
	code := d.Verdict(step.Phase) != failure.Infrastructure
	if code && step.Phase != failure.Deploy && step.Phase != failure.Suite {
		return // the output of the compiler or build says it all
	}
	limit := evidence.DefaultLimit
	if code {
		limit = codeLimit
	}
	s.collect(ctx, step.Name, limit, !code)
}

// collect takes what can be had now. Bytes are bounded for each of the few
// failures of a run so that all of them keep within the whole's bound.
func (s *session) collect(ctx context.Context, name string, limit time.Duration, nodeLogs bool) {
	s.mu.Lock()
	s.collected++
	n := s.collected
	s.mu.Unlock()
	var items []evidence.Item
	if s.engine != nil {
		items = append(items, evidence.OfEngine(s.engine)...)
		items = append(items, evidence.OfNodes(s.engine, s.nodeNames())...)
	}
	if s.suite != nil && s.engine != nil {
		c := s.cluster(*s.suite)
		if _, err := os.Stat(c.Kubeconfig); err == nil {
			items = append(items, evidence.OfCluster(c.Kubeconfig, s.suite.Namespace)...)
		}
		if nodeLogs && s.clusterMayExist(ctx) {
			items = append(items, evidence.OfKind(c.ExportLogs))
		}
	}
	if len(items) == 0 {
		return
	}
	err := evidence.Collect(ctx, evidence.Request{Root: s.folder.File("evidence"), Name: fmt.Sprintf("%02d-%s", n, name),
		Limit: limit, Bytes: evidence.DefaultBytes >> min(n, 5), Items: items})
	if err != nil {
		s.log.Debug("some evidence could not be had", "step", name, "error", err)
	}
}

// statusLimit bounds asking for the cluster before its logs are taken.
const statusLimit = 5 * time.Second

// clusterMayExist says whether there is a cluster, or nobody can tell.
func (s *session) clusterMayExist(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	found, err := s.cluster(*s.suite).Status(ctx)
	return err != nil || found.Exists
}

// beforeDelete takes the evidence that goes away with a cluster.
func (s *session) beforeDelete(ctx context.Context, _ string) {
	s.collect(ctx, "before-delete", 10*time.Second, true)
}
