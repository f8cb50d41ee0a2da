package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/hapi"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// carryBudget bounds what is taken along from the first engine.
const carryBudget = 10 * time.Minute

// fallback runs the stages again on the other engine when the first could not
// be healed, and joins both results: what went wrong on the first stays on
// record. Without another engine the result stays as it is.
func (s *session) fallback(ctx context.Context, result run.Result, stages [][]run.Step) run.Result {
	if !s.movable || result.Verdict != failure.Infrastructure || ctx.Err() != nil ||
		result.Class != failure.EngineConnection && result.Class != failure.EngineBroken {
		return result
	}
	provider, err := s.otherEngine(ctx)
	if err != nil || provider == "" {
		s.log.Debug("no other engine to move to", "error", err)
		return result
	}
	from, first, images := s.hostOptions().Provider, s.engine, s.built()
	move := run.Heal{Step: result.Step, Action: "move to " + provider,
		Effect: fmt.Sprintf("%s could not be healed: %s", from, result.Cause), OK: true}
	s.journal.Add(run.Event{Time: time.Now(), Step: result.Step, Kind: run.Healed, Detail: move.Action + ": " + move.Effect})
	moves := []run.Heal{move}
	if first != nil && s.suite != nil {
		cleared, err := s.freePorts(ctx)
		if err != nil {
			s.log.Warn("the cluster on the first engine stays", "engine", from, "error", err)
		}
		if cleared.Action != "" {
			cleared.Step = result.Step
			moves = append(moves, cleared)
			s.journal.Add(run.Event{Time: time.Now(), Step: result.Step, Kind: run.Healed, Detail: cleared.Action + ": " + cleared.Effect})
		}
	}
	s.unlock()
	s.forgetEngine(provider)
	carry := run.Step{Name: "carry", Phase: failure.Load, Budget: carryBudget, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			return s.carry(ctx, first, images, report)
		}}
	again := append([][]run.Step{stages[0], {carry}}, stages[1:]...)
	second := s.runner.Run(ctx, s.name, again)
	second.Heals = slices.Concat(result.Heals, moves, second.Heals)
	second.Steps = append(result.Steps, second.Steps...)
	second.Works = append(result.Works, second.Works...)
	second.Started, second.DurationMS = result.Started, time.Since(result.Started).Milliseconds()
	second.Attempts = max(result.Attempts, second.Attempts)
	return second
}

// freePorts removes the cluster on the first engine, whose ports are needed.
func (s *session) freePorts(ctx context.Context) (run.Heal, error) {
	down, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := s.cluster(*s.suite).Down(down)
	if err == nil {
		return run.Heal{}, nil
	}
	cleared, pastErr := s.clearPast(ctx)
	if cleared.Action != "" {
		err = nil
	}
	return cleared, errors.Join(err, pastErr)
}

// forgetEngine makes the session as it was before it had an engine.
func (s *session) forgetEngine(provider string) {
	for _, name := range []string{"CONTAINER_HOST", "CONTAINER_SSHKEY", "CONTAINER_CONNECTION", "DOCKER_HOST", "DOCKER_CONTEXT"} {
		if strings.HasPrefix(strings.ToLower(name), provider) || provider == engine.Podman && strings.HasPrefix(name, "CONTAINER") {
			continue // the user's settings for the engine that we move to
		}
		_ = os.Unsetenv(name)
	}
	s.settings.Provider = provider
	s.connection, s.engine, s.info = host.Connection{}, nil, engine.Info{}
	s.neighbours = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes, s.images = nil, map[string]hapi.Image{}
}

// otherEngine names the engine to move to: the one that was asked for, or the
// other one if it answers.
func (s *session) otherEngine(ctx context.Context) (string, error) {
	current, wanted := s.hostOptions().Provider, s.settings.FallbackProvider
	if wanted == "none" || wanted == current || current == "" {
		return "", nil
	}
	other := map[string]string{engine.Podman: engine.Docker, engine.Docker: engine.Podman}[current]
	if wanted != "" {
		return wanted, nil // it is started or installed if it has to be
	}
	if _, err := host.Locate(ctx, host.Options{Provider: other, Log: s.log}); err != nil {
		return "", err
	}
	return other, nil
}

// carry takes the images that the first engine built along to the second, if
// the first still answers; the build finds them by their names, and builds what
// is missing.
func (s *session) carry(ctx context.Context, first engine.Engine, images map[string]hapi.Image, report progress.Func) (run.Outcome, error) {
	out := run.Outcome{Skipped: true, Detail: "nothing to take along"}
	if first == nil || len(images) == 0 {
		return out, nil
	}
	if err := first.Ping(ctx); err != nil {
		out.Detail = "the first engine does not answer, what it built is built again"
		return out, nil
	}
	var carried []string
	for _, image := range images {
		if err := transfer(ctx, first, s.engine, image.Ref, report); err != nil {
			s.log.Warn("an image is built again, as it could not be taken along", "image", image.Ref, "error", err)
			continue
		}
		carried = append(carried, image.Ref)
	}
	return run.Outcome{Detail: "taken along: " + strings.Join(carried, ", ")}, nil
}

// transfer streams one image and proves that it arrived.
func transfer(ctx context.Context, from, to engine.Engine, ref string, report progress.Func) error {
	report.Or()(progress.Update{What: "carry", Line: ref})
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := from.Save(ctx, ref, w)
		_ = w.CloseWithError(err)
		saved <- err
	}()
	_, err := to.Load(ctx, r)
	_ = r.CloseWithError(errors.New("the other engine takes no more"))
	if err = errors.Join(err, <-saved); err != nil {
		return err
	}
	_, err = to.Image(ctx, ref)
	return err
}
