package pipeline

import (
	"context"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// diagnose says what an error means, with what can be found out besides its
// text: whether the engine answers and the nodes run now.
func (s *session) diagnose(ctx context.Context, step run.Step, err error) failure.Diagnosis {
	facts := failure.Facts{Step: step.Name}
	if s.engine != nil && failure.As(err) == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		reachable := s.engine.Ping(ctx) == nil
		facts.EngineReachable = &reachable
		if running, known := s.nodesRun(ctx); reachable && known {
			facts.NodesRunning = &running
		}
	}
	return failure.Of(err, step.Phase, facts)
}

// nodesRun says whether every node of the cluster runs; known is false where
// that cannot be told.
func (s *session) nodesRun(ctx context.Context) (running, known bool) {
	if len(s.nodes) == 0 {
		return false, false
	}
	found, err := s.engine.Containers(ctx)
	if err != nil {
		return false, false
	}
	up := map[string]bool{}
	for _, c := range found {
		up[c.Name] = c.Running()
	}
	for _, n := range s.nodes {
		if !up[n] {
			return false, true
		}
	}
	return true, true
}
