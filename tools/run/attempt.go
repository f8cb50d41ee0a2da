package run

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// attempt is one try within its budget, ended when nothing moves for too long.
func (r *Runner) attempt(ctx context.Context, s Step) (Outcome, error) {
	ctx, cancelBudget := context.WithTimeoutCause(ctx, s.Budget, s.overdue(fmt.Sprintf("step %s was not done within its %s", s.Name, s.Budget)))
	defer cancelBudget()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var moved atomic.Int64
	moved.Store(r.Now().UnixNano())
	report := func(u progress.Update) {
		moved.Store(r.Now().UnixNano())
		u.Step = s.Name
		r.Progress.Or()(u)
	}
	if s.Stall > 0 {
		go watch(ctx, s.Stall, func() time.Duration { return time.Duration(r.Now().UnixNano() - moved.Load()) }, func() {
			cancel(s.overdue(fmt.Sprintf("step %s stalled: no output and no bytes for %s", s.Name, s.Stall)))
		})
	}
	out, err := s.Do(ctx, report)
	if err != nil && ctx.Err() != nil {
		// The error of a cancelled call says only "context canceled"; the
		// cause says why.
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return out, err
}

// overdue is the failure of a step that took too long or stands still. Tests
// that hang are the code's until the engine or a node turns out to be down;
// everything else that hangs waits for an engine.
func (s Step) overdue(cause string) error {
	if s.Phase == failure.Suite {
		return errors.New(cause)
	}
	return failure.New(failure.EngineConnection, cause, "mage doctor shows whether engine and host are well; then run the same command again", nil)
}

// watch calls stalled once when idle exceeds limit.
func watch(ctx context.Context, limit time.Duration, idle func() time.Duration, stalled func()) {
	tick := time.NewTicker(limit/10 + time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if idle() > limit {
				stalled()
				return
			}
		}
	}
}
