package pipeline

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// diagnose says what an error means, with what can be found out besides its
// text: whether the engine answers and the nodes run now, and whether the step
// ended in the same way before.
func (s *session) diagnose(ctx context.Context, step run.Step, err error) failure.Diagnosis {
	facts := failure.Facts{Step: step.Name, AttemptsWithSameText: s.sameText(step.Name, err)}
	if s.engine != nil && failure.As(err) == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		reachable := s.engine.Ping(ctx) == nil
		facts.EngineReachable = &reachable
		if running, known := s.nodesRun(ctx); reachable && known {
			facts.NodesRunning = &running
		}
	}
	d := failure.Of(err, step.Phase, facts)
	if ref := s.ownImageIn(err); d.Class == failure.ImageReference && step.Phase == failure.Load && ref != "" {
		d = failure.Diagnosis{Class: failure.StaleState, Retry: failure.HealThenRetry, Signature: "image-lost", Confidence: "high",
			Cause: "image " + ref + " was built by this run and is not in the engine any more", Remedy: "run again; do not remove images during a run"}
	}
	if d.Signature == "memory-killed-build" && step.Phase == failure.ClusterCreate && facts.AttemptsWithSameText < 2 {
		// SIGKILL is also how a node container that somebody ends takes its processes along.
		d.Retry, d.Confidence = failure.RetryNow, "medium"
		d.Cause = "what ran in a node was killed: the node was ended from outside, or memory is short"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.diagnoses == nil {
		s.diagnoses = map[string]failure.Diagnosis{}
	}
	s.diagnoses[step.Name] = d
	return d
}

// ownImageIn returns the image of this run that the error is about, or nothing.
func (s *session) ownImageIn(err error) string {
	for _, ref := range s.builtRefs() {
		if strings.Contains(err.Error(), ref) {
			return ref
		}
	}
	return ""
}

// diagnosed is the last diagnosis of a step.
func (s *session) diagnosed(step string) failure.Diagnosis {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.diagnoses[step]
}

// varying is what differs between two outputs of the same failure: times,
// durations, identifiers, ports.
var varying = regexp.MustCompile(`[0-9a-f]{12,}|[0-9]+`)

// sameText counts the attempts of a step, this one included, that ended with
// the same text.
func (s *session) sameText(step string, err error) int {
	key := step + "\x00" + varying.ReplaceAllString(err.Error(), "#")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts = map[string]int{}
	}
	s.texts[key]++
	return s.texts[key]
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
