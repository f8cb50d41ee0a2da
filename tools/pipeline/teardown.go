package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/heal"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
	"github.com/jordigilh/kubernaut-e2e/tools/teardown"
)

const teardownName = "teardown"

// Teardown removes what this project made, and nothing else, and prints what
// it removed and what it kept.
func Teardown(ctx context.Context) error {
	var report teardown.Report
	err := target(ctx, teardownName, func(s *session) ([][]run.Step, error) {
		return [][]run.Step{{{Name: teardownName, Phase: failure.Teardown, Budget: 10 * time.Minute, Stall: removalStall,
			Do: func(ctx context.Context, progress progress.Func) (run.Outcome, error) {
				engines, silent := s.engines(ctx, progress)
				done, err := teardown.Run(ctx, teardown.Options{Engines: engines, StateDir: host.DefaultStateDir(), KubeDir: filepath.Dir(kubeconfig("x")),
					KeepTemp: []string{host.DefaultRuntimeDir()}, Network: settings.NetworkName, Paths: []string{s.outputs()},
					Undo: func(ctx context.Context) ([]string, error) {
						return host.Undo(ctx, host.Options{Log: s.log})
					}, Log: s.log, Progress: progress})
				report.Removed, report.Kept = append(report.Removed, done.Removed...), done.Kept
				return run.Outcome{Detail: fmt.Sprintf("%d removed, %d kept", len(report.Removed), len(report.Kept)), Skipped: len(report.Removed) == 0}, errors.Join(silent, err)
			}}}}, nil
	})
	for _, line := range report.Removed {
		fmt.Println(line)
	}
	for _, line := range report.Kept {
		fmt.Println("kept", line)
	}
	if cache, statErr := os.UserCacheDir(); statErr == nil {
		if dir := filepath.Join(cache, "kubernaut-e2e"); exists(dir) {
			fmt.Printf("kept cache of the node image, %s: a build takes a quarter of an hour; remove it with rm -r\n", dir)
		}
	}
	return err
}

// engines opens every engine that may hold something of ours: those that
// answer, and a Podman that is installed and only lacks its service. The error
// is of those that do not answer and have a cluster of ours on record, or
// answered at an earlier attempt: without them nothing is proven removed. A
// service of ours is not remembered: an attempt ends it when it is done.
func (s *session) engines(ctx context.Context, report progress.Func) (engines []teardown.Engine, silent error) {
	for _, provider := range []string{engine.Podman, engine.Docker} {
		e, ours, err := s.openToClear(ctx, provider, report)
		switch what := s.heldBy(provider); {
		case err == nil:
			engines = append(engines, e)
			if !ours && !slices.Contains(s.cleared, provider) {
				s.cleared = append(s.cleared, provider)
			}
		case what != "":
			silent = errors.Join(silent, failure.New(failure.EngineConnection, provider+" does not answer, and "+what,
				"start "+provider+", then mage teardown again", err))
		default:
			// Nothing of ours can be in an engine that is not there.
			s.log.Debug("not an engine to clear", "provider", provider, "error", err)
		}
	}
	return engines, silent
}

func (s *session) openToClear(ctx context.Context, provider string, report progress.Func) (e teardown.Engine, ours bool, err error) {
	connection, err := host.Reopen(ctx, host.Options{Provider: provider, Log: s.log, Progress: report})
	if err != nil {
		return nil, false, err
	}
	if err := setenv(connection.Env); err != nil {
		return nil, false, err
	}
	ask, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	e, err = engine.Open(ask, engine.Options{Provider: provider, Log: s.log})
	return e, connection.Ours, err
}

// heldBy says what of ours an engine has, for all that is known without it.
func (s *session) heldBy(provider string) string {
	for _, r := range cluster.Records(host.DefaultStateDir()) {
		if r.Provider == provider {
			return "has cluster " + r.Name + " on record"
		}
	}
	if slices.Contains(s.cleared, provider) {
		return "did a moment ago"
	}
	return ""
}

// awaitCleared waits until the engines that hold something of ours, or did
// when the teardown began, answer again.
func (s *session) awaitCleared(ctx context.Context) ([]run.Heal, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	var answer []string
	for _, provider := range []string{engine.Podman, engine.Docker} {
		if s.heldBy(provider) == "" {
			continue // none, or a service of ours, which the next attempt starts
		}
		for {
			_, _, err := s.openToClear(ctx, provider, s.console.Progress)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return []run.Heal{{Action: string(heal.Reconnect), Effect: err.Error()}}, false
			case <-time.After(time.Second):
			}
		}
		answer = append(answer, provider)
	}
	if len(answer) == 0 {
		return nil, true
	}
	return []run.Heal{{Action: string(heal.Reconnect), OK: true,
		Effect: fmt.Sprintf("%s answers after %s", strings.Join(answer, ", "), time.Since(began).Round(100*time.Millisecond))}}, true
}
