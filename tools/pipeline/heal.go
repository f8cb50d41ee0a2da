package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/deploy"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/heal"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// keepRuns is how many runs of each name stay when the disk is full.
const keepRuns = 3

// heal puts right what a diagnosis names and proves what the step stands on.
// Steps that run side by side are healed one after the other: the second finds
// what the first has put right.
func (s *session) heal(ctx context.Context, step run.Step, d failure.Diagnosis) ([]run.Heal, bool) {
	s.healing.Lock()
	defer s.healing.Unlock()
	if s.name == teardownName && d.Class == failure.EngineConnection {
		return s.awaitCleared(ctx)
	}
	if s.engine == nil && step.Name != engineStepName {
		return nil, d.Retry == failure.RetryNow // a target without an engine
	}
	actions, ok := heal.Heal(ctx, heal.Request{Diagnosis: d, Phase: step.Phase, Hands: s.hands(),
		Begin: func(do heal.Do) { s.console.Progress(progress.Update{What: "heal " + step.Name, Line: string(do)}) }})
	heals := make([]run.Heal, 0, len(actions))
	for _, a := range actions {
		heals = append(heals, run.Heal{Action: a.Name, Effect: a.Effect, OK: a.OK})
	}
	return heals, ok
}

// hands is what can be done on this engine and host.
func (s *session) hands() map[heal.Do]heal.Hand {
	hands := map[heal.Do]heal.Hand{
		heal.EngineAnswers: s.askEngine,
		heal.Reconnect:     s.awaitEngine,
		heal.RestartService: s.once(func(ctx context.Context) (string, error) {
			return s.restarted(host.RestartService(ctx, s.hostOptions()))
		}),
		heal.RestartMachine: s.once(s.restartMachine),
		heal.EndExecs:       s.endExecs,
		heal.Wait: func(ctx context.Context) (string, error) {
			select {
			case <-time.After(10 * time.Second):
				return "10s later", nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		},
	}
	if s.engine == nil {
		return hands
	}
	hands[heal.FreeSpace] = s.freeSpace
	if s.suite == nil {
		return hands
	}
	c := s.cluster(*s.suite)
	hands[heal.RemoveStale] = heal.Stale{Engine: s.engine, Provider: c.Provider, StateDir: c.StateDir, Network: c.Network, Current: c.Name}.Remove
	nodes := len(s.nodeNames())
	if nodes > 0 {
		hands[heal.ClusterAnswers] = s.repairCluster
	}
	if len(s.built()) > 0 && nodes > 0 {
		hands[heal.ReloadImages] = s.reload
		hands[heal.RebuildImages] = s.rebuild
		hands[heal.WorkloadRuns] = redo(s.deployStep(*s.suite))
	}
	return hands
}

// lately is how long what one step had healed counts for the steps beside it:
// they failed of the same, find nothing left to free, and another restart would
// strike the first one's next attempt.
const lately = time.Minute

// once is a restart that steps side by side share.
func (s *session) once(restart heal.Hand) heal.Hand {
	return func(ctx context.Context) (string, error) {
		if time.Since(s.restartedAt) < lately {
			return doneBeside, nil
		}
		effect, err := restart(ctx)
		if err == nil && effect != "" {
			s.restartedAt = time.Now()
		}
		return effect, err
	}
}

const doneBeside = "done a moment ago, for a step beside this one"

func (s *session) freeSpace(ctx context.Context) (string, error) {
	effect, err := heal.Space{Store: s.engine, Keep: append(s.builtRefs(), s.node.Ref), Since: s.started,
		State: s.settings.State, KeepRuns: keepRuns}.Free(ctx)
	switch {
	case err == nil && effect != "":
		s.freed = time.Now()
	case err == nil && time.Since(s.freed) < lately:
		effect = doneBeside
	}
	return effect, err
}

// redo makes a step a hand: steps look first, so that one with nothing to do
// proves that all is well.
func redo(step run.Step) heal.Hand {
	return func(ctx context.Context) (string, error) {
		out, err := step.Do(ctx, progress.Discard)
		if err != nil || out.Skipped {
			return "", err
		}
		return out.Detail, nil
	}
}

// lostExec remembers a command in a node that may still run.
func (s *session) lostExec(lost *engine.LostExec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, lost)
}

func (s *session) endExecs(ctx context.Context) (string, error) {
	s.mu.Lock()
	lost := s.lost
	s.lost = nil
	s.mu.Unlock()
	var names []string
	var errs error
	for _, l := range lost {
		if err := s.engine.EndExec(ctx, l); err != nil && !errors.Is(err, engine.ErrNotFound) && s.containerRuns(ctx, l.Container) {
			errs = errors.Join(errs, err)
			continue
		}
		names = append(names, fmt.Sprintf("%s in %s", l.Cmd[0], l.Container))
	}
	if len(names) == 0 {
		return "", errs
	}
	return "none is left of " + strings.Join(names, ", "), errs
}

// containerRuns says whether a container may still run something.
func (s *session) containerRuns(ctx context.Context, name string) bool {
	all, err := s.engine.Containers(ctx)
	if err != nil {
		return true // nobody can say
	}
	return !slices.ContainsFunc(all, func(c engine.Container) bool { return c.Name == name && !c.Running() })
}

// repairCluster starts stopped nodes, renews the kubeconfig and waits for the
// API, and never makes the cluster anew: what is on it is needed.
func (s *session) repairCluster(ctx context.Context) (string, error) {
	c := s.cluster(*s.suite)
	if s.node.Ref == "" { // a target that takes the cluster as it is
		return s.startNodes(ctx)
	}
	spec, err := s.spec(*s.suite)
	if err != nil {
		return "", err
	}
	state, err := c.Repair(ctx, spec)
	if err != nil || state.Outcome == cluster.Reused {
		return "", err
	}
	return fmt.Sprintf("%d node(s) run and Kubernetes %s answers again: %s", len(state.Nodes), state.Version, state.Reason), s.refresh(ctx)
}

// rebuild builds what the engine no longer has.
func (s *session) rebuild(ctx context.Context) (string, error) {
	var built []string
	for _, image := range s.suite.Images {
		out, err := s.buildStep(image).Do(ctx, progress.Discard)
		if err != nil {
			return "", err
		}
		if !out.Skipped {
			built = append(built, out.Detail)
		}
	}
	return strings.Join(built, ", "), nil
}

// reload puts lost images back and has the pods made anew that wait for them.
func (s *session) reload(ctx context.Context) (string, error) {
	repaired, err := s.repairCluster(ctx)
	if err != nil {
		return "", err
	}
	out, err := s.loadStep(s.builtRefs).Do(ctx, progress.Discard)
	if err != nil {
		return "", err
	}
	if repaired != "" {
		return repaired + "; " + out.Detail, nil
	}
	return out.Detail, s.refresh(ctx)
}

// refresh has the workload's pods made anew after a repair: what the node's end
// did to them would be taken for crashes of the code.
func (s *session) refresh(ctx context.Context) error {
	_, err := deploy.Refresh(ctx, s.cluster(*s.suite).Kubeconfig, s.suite.Namespace)
	return err
}

func (s *session) startNodes(ctx context.Context) (string, error) {
	status, err := s.cluster(*s.suite).Status(ctx)
	if err != nil {
		return "", err
	}
	var started []string
	for _, n := range status.Nodes {
		if n.Running() {
			continue
		}
		if err := s.engine.StartContainer(ctx, n.ID); err != nil {
			return "", fmt.Errorf("start node %q: %w", n.Name, err)
		}
		started = append(started, n.Name)
	}
	if len(started) == 0 {
		return "", nil
	}
	return "started " + strings.Join(started, ", "), nil
}
