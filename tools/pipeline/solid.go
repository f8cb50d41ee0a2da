package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// unitBudget bounds the unit tests that follow a failure of the infrastructure.
const unitBudget = 3 * time.Minute

// proveCode runs the suite's unit tests when the infrastructure stays down, so
// that "the code is solid" is a finding and not a belief. What they say goes
// into the journal and, if they pass, among what is known to work; the verdict
// stays as it is.
func (s *session) proveCode(ctx context.Context, result *run.Result) {
	if s.suite == nil || s.suite.Unit == "" || result.Verdict != failure.Infrastructure || ctx.Err() != nil {
		return
	}
	const step = "unit"
	began := time.Now()
	s.journal.Add(run.Event{Time: began, Step: step, Kind: run.Start, Detail: "the infrastructure is down; what of the code?"})
	ctx, cancel := context.WithTimeoutCause(ctx, unitBudget, fmt.Errorf("not done within %s", unitBudget))
	defer cancel()
	args := []string{"test", "-count=1", s.suite.Unit}
	_, err := command.Run(ctx, command.Command{Name: "go", Args: args, Dir: s.root, Grace: time.Second,
		Lines: func(line string) { s.console.Progress(progress.Update{What: "unit tests", Line: line}) }})
	took := time.Since(began)
	event := run.Event{Time: time.Now(), Step: step, Kind: run.Done, DurationMS: took.Milliseconds(), Detail: "go test " + s.suite.Unit + " passes"}
	state := run.StepResult{Name: step, State: run.Done, Attempts: 1, DurationMS: took.Milliseconds(), Detail: event.Detail}
	if err != nil {
		event.Kind, event.Detail, event.Error = run.Failed, "", err.Error()
		event.Class = string(failure.Of(err, failure.Suite, failure.Facts{}).Class)
		state.State, state.Detail, state.Error = run.Failed, "", err.Error()
	} else {
		result.Works = append(result.Works, run.Work{What: "the code's unit tests pass",
			Evidence: fmt.Sprintf("go test -count=1 %s, %s", s.suite.Unit, took.Round(100*time.Millisecond))})
	}
	s.journal.Add(event)
	result.Steps = append(result.Steps, state)
}
