package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// runBudget bounds a whole run; the budgets of its steps lie within it.
const runBudget = 85 * time.Minute

// target opens a session, runs what steps gives and finishes with a verdict.
func target(ctx context.Context, name string, steps func(s *session) ([][]run.Step, error)) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	budget := runBudget
	if name == chaosName {
		budget = chaosBudget // a hundred runs of a suite
	}
	ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("%w of %s", run.ErrOutOfTime, budget))
	defer cancel()
	s, err := open(name)
	if err != nil {
		return err
	}
	stages, err := steps(s)
	if err != nil {
		// A definition that is wrong is a failed run too: its files say so.
		stages = [][]run.Step{{{Name: "settings", Phase: failure.Preflight, Budget: time.Second,
			Do: func(context.Context, progress.Func) (run.Outcome, error) { return run.Outcome{}, err }}}}
	}
	result := s.fallback(ctx, s.runner.Run(ctx, name, stages), stages)
	s.afterwards(ctx, &result)
	return s.finish(result)
}

// Setup makes the host able to run the rest.
func Setup(ctx context.Context) error {
	return target(ctx, "setup", func(s *session) ([][]run.Step, error) {
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}}, nil
	})
}

// ClusterUp makes the default suite's cluster ready.
func ClusterUp(ctx context.Context) error {
	return target(ctx, "clusterUp", func(s *session) ([][]run.Step, error) {
		def, err := s.defaultSuite()
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}, {s.lockStep(def)}, {s.clusterStep(def)}}, err
	})
}

// BuildHAPI builds the default suite's HAPI image and prints its reference.
func BuildHAPI(ctx context.Context) error {
	var s *session
	err := target(ctx, "buildHAPI", func(opened *session) ([][]run.Step, error) {
		s = opened
		def, err := s.defaultSuite()
		if err != nil {
			return nil, err
		}
		for _, image := range def.Images {
			if image.Name == "hapi" {
				return [][]run.Step{{s.engineStep()}, {s.buildStep(image)}}, nil
			}
		}
		return nil, failure.New(failure.Configuration, "suite "+def.Name+" has no image called hapi", "add it to its "+settings.SuiteFile, nil)
	})
	if err == nil {
		fmt.Println(s.built()["hapi"].Ref)
	}
	return err
}

// LoadImage puts images on every node of the default suite's cluster. refs is
// REF[,REF...]; a REF may be a tarball.
func LoadImage(ctx context.Context, refs string) error {
	return target(ctx, "loadImage", func(s *session) ([][]run.Step, error) {
		def, err := s.defaultSuite()
		return [][]run.Step{{s.engineStep()}, {s.lockStep(def)}, {s.nodesStep(def)}, {s.loadStep(func() []string { return strings.Split(refs, ",") })}}, err
	})
}

// E2E runs one suite, from host set-up to verdict.
func E2E(ctx context.Context, name string) error {
	return target(ctx, name, func(s *session) ([][]run.Step, error) {
		def, err := settings.LoadSuite(s.root, name)
		if err != nil {
			return nil, err
		}
		prepare := []run.Step{s.clusterStep(def), s.compileStep(def)}
		for _, image := range def.Images {
			prepare = append(prepare, s.buildStep(image))
		}
		s.onFailure, s.movable = s.downAfterFailure(def), true
		return [][]run.Step{
			{s.engineStep()}, {s.nodeImageStep()}, {s.lockStep(def)}, prepare,
			{s.loadStep(s.builtRefs)}, {s.deployStep(def)}, {s.suiteStep(def)}, {s.downStep(def)},
		}, nil
	})
}

// All runs every suite, one after the other, and fails with the first failure's code.
func All(ctx context.Context) error {
	ctx, stop := interruptible(ctx) // what ends one run ends them all
	defer stop()
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	names := settings.Suites(root)
	if len(names) == 0 {
		return failure.New(failure.Configuration, "there is no suite", "create test/e2e/NAME/"+settings.SuiteFile, nil)
	}
	var first error
	for _, name := range names {
		if err := E2E(ctx, name); err != nil && first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

// defaultSuite is the suite that single targets are for: E2E_SUITE, or the
// only one there is, or the first by name.
func (s *session) defaultSuite() (settings.Suite, error) {
	name := s.settings.Suite
	if name == "" {
		names := settings.Suites(s.root)
		if len(names) == 0 {
			return settings.Suite{}, failure.New(failure.Configuration, "there is no suite", "create test/e2e/NAME/"+settings.SuiteFile, nil)
		}
		name = names[0]
	}
	return settings.LoadSuite(s.root, name)
}

// lockStep takes the cluster for this run. A second run waits and says for whom.
func (s *session) lockStep(def settings.Suite) run.Step {
	s.suite = &def
	return run.Step{Name: "lock", Phase: failure.Preflight, Budget: 30 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			name := s.cluster(def).Name
			lock, err := cluster.Acquire(ctx, host.DefaultStateDir(), name, report)
			if err != nil {
				return run.Outcome{}, err
			}
			s.lock = lock
			return run.Outcome{Detail: "cluster " + name + " is ours for this run"}, nil
		}}
}

// nodesStep finds the nodes of a cluster that must exist already.
func (s *session) nodesStep(def settings.Suite) run.Step {
	return run.Step{Name: "nodes", Phase: failure.Load, Budget: time.Minute,
		Do: func(ctx context.Context, _ progress.Func) (run.Outcome, error) {
			c := s.cluster(def)
			status, err := c.Status(ctx)
			if err != nil {
				return run.Outcome{}, err
			}
			if len(status.Nodes) == 0 {
				return run.Outcome{}, failure.New(failure.Configuration, fmt.Sprintf("there is no cluster %q on %s", c.Name, s.connection.Provider),
					"mage clusterUp, or name another by E2E_CLUSTER", nil)
			}
			var names []string
			for _, n := range status.Nodes {
				names = append(names, n.Name)
			}
			s.setNodes(names)
			return run.Outcome{Detail: strings.Join(names, ", ")}, nil
		}}
}

// afterwards does what follows the steps whatever they came to.
func (s *session) afterwards(ctx context.Context, result *run.Result) {
	s.proveCode(ctx, result)
	if result.Verdict != failure.Passed && s.onFailure != nil && context.Cause(ctx) == nil {
		s.onFailure(ctx)
	}
	s.unlock()
}

// unlock gives the cluster up. Where it is no more, neither is its lock's file.
func (s *session) unlock() {
	if s.lock == nil {
		return
	}
	give := s.lock.Release
	name, dir := s.cluster(*s.suite).Name, host.DefaultStateDir()
	if !slices.ContainsFunc(cluster.Records(dir), func(r cluster.Record) bool { return r.Name == name }) {
		give = s.lock.Discard
	}
	if err := give(); err != nil {
		s.log.Warn("release the cluster's lock", "error", err)
	}
	s.lock = nil
}

// downAfterFailure removes the cluster of a failed run only if that was asked for.
func (s *session) downAfterFailure(def settings.Suite) func(context.Context) {
	return func(ctx context.Context) {
		if s.settings.KeepCluster != "false" || s.engine == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		if err := s.cluster(def).Down(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Warn("remove the cluster of the failed run", "error", err)
		}
	}
}

// builtRefs are the images that this run built or found built.
func (s *session) builtRefs() []string {
	var refs []string
	for _, image := range s.built() {
		refs = append(refs, image.Ref)
	}
	return refs
}
