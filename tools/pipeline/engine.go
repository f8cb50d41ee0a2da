package pipeline

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

const engineStepName = "engine"

// engineStep finds or starts the engine and connects to it.
func (s *session) engineStep() run.Step {
	return run.Step{Name: engineStepName, Phase: failure.Preflight, Budget: 10 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			if err := s.connect(ctx, report); err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%s at %s, %s/%s", s.describeEngine(), settings.Shown(s.connection.URL), s.info.OS, s.info.Arch)
			return run.Outcome{Skipped: !s.connection.Started && len(s.connection.Changes) == 0, Detail: detail,
				Works: []run.Work{{What: "the engine answers", Evidence: detail}}}, nil
		}}
}

// connectLimit bounds connecting to an engine that answered a moment ago, and
// the first question to it: a connection that stands still says nothing at all.
const connectLimit = 20 * time.Second

// connect makes s.engine an engine that answered a moment ago. Its environment
// becomes this process's own, because Kind calls the engine's program.
func (s *session) connect(ctx context.Context, report progress.Func) error {
	provider := s.settings.Provider
	if s.connection.Provider != "" {
		provider = s.connection.Provider // chosen once in a run
	}
	connection, err := host.EnsureEngine(ctx, host.Options{Provider: provider, AllowInstall: true, Found: s.connection.URL, Log: s.log, Progress: report})
	if err != nil {
		return err
	}
	named := os.Getenv("CONTAINER_HOST") != ""
	if err := setenv(append(connection.Env, networkEnv(connection.Provider)...)); err != nil {
		return err
	}
	ask, cancel := context.WithTimeoutCause(ctx, connectLimit, failure.New(failure.EngineConnection,
		fmt.Sprintf("%s was there a moment ago and has not answered for %s", connection, connectLimit), "mage doctor", nil))
	defer cancel()
	e, err := engine.Open(ask, engine.Options{Provider: connection.Provider, Log: s.log})
	if err != nil {
		return err
	}
	if connection.Ours && connection.Provider == engine.Podman && !named {
		// Kind's podman works on the same storage by itself. As a remote client
		// of our service, Podman 4.3 at times loses a program's output.
		if err := os.Unsetenv("CONTAINER_HOST"); err != nil {
			return err
		}
	}
	info, err := e.Info(ask)
	if err != nil {
		return err
	}
	s.connection, s.engine, s.info = connection, e, info
	s.rememberNeighbours(ctx)
	return nil
}

// setenv makes entries NAME=value part of this process's environment.
func setenv(entries []string) error {
	for _, kv := range entries {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// networkEnv gives Kind a network of this project's own, unless the user named
// one (Kind: pkg/cluster/internal/providers/*/network.go).
func networkEnv(provider string) []string {
	name := "KIND_EXPERIMENTAL_" + strings.ToUpper(provider) + "_NETWORK"
	if os.Getenv(name) != "" {
		return nil
	}
	return []string{name + "=" + settings.NetworkName}
}

// nodeImageStep provides the image of the cluster's nodes.
func (s *session) nodeImageStep() run.Step {
	return run.Step{Name: "node-image", Phase: failure.Preflight, Budget: 60 * time.Minute, Stall: 10 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			install := func(ctx context.Context, packages []string) error {
				_, err := host.InstallPackages(ctx, host.Options{AllowInstall: true, Log: s.log, Progress: report}, packages)
				return err
			}
			result, err := nodeimage.Ensure(ctx, nodeimage.Options{Image: s.settings.NodeImage, Provider: s.connection.Provider,
				Log: s.log, Progress: report, Install: install})
			if err != nil {
				return run.Outcome{}, err
			}
			s.node = result
			detail := fmt.Sprintf("%s (%s)", result.Ref, result.Source)
			return run.Outcome{Skipped: result.Source == nodeimage.Present, Detail: detail,
				Works: []run.Work{{What: "there is a node image", Evidence: detail}}}, nil
		}}
}
