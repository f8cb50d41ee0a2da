// Package run carries out the steps of a run: deadlines, stalls, retries by
// what the failure's class allows, the journal and the result. It knows nothing
// of engines, clusters or suites, and shows nothing.
package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avast/retry-go/v4"
	"golang.org/x/sync/errgroup"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Step is one part of a run. Do must be idempotent: it looks first, acts, and
// proves the result by asking afresh, so that repeating it is resuming.
type Step struct {
	Name   string
	Phase  failure.Phase
	Budget time.Duration // of one attempt; within the run's own deadline
	Stall  time.Duration // longest time without any progress; 0: no limit
	Do     func(ctx context.Context, report progress.Func) (Outcome, error)
}

// Outcome is what a step proved.
type Outcome struct {
	Skipped bool   // there was nothing to do
	Detail  string // one line: what is there now
	Works   []Work
	Nodes   []NodeResult
	Heals   []Heal // what the step put right by itself
}

// Runner carries out steps. The zero value of every func field means "none".
type Runner struct {
	Journal  *Journal
	Progress progress.Func
	Now      func() time.Time
	// Diagnose says what an error means. Required.
	Diagnose func(ctx context.Context, step Step, err error) failure.Diagnosis
	// Evidence collects what shows the state of things, before any healing.
	Evidence func(ctx context.Context, step Step, err error)
	// Heal puts right what a diagnosis names; ok only if that was proven.
	Heal func(ctx context.Context, step Step, d failure.Diagnosis) (heals []Heal, ok bool)
	// Ready proves what a step stands on before it is repeated without
	// healing, and puts right what is missing; not ok: it is not repeated.
	Ready func(ctx context.Context, step Step, d failure.Diagnosis) (heals []Heal, ok bool)
	// Attempts bounds the tries of one step; 0 means 3.
	Attempts uint
	// Delay is the first pause before a retry; it doubles, with jitter.
	Delay time.Duration
}

// stepError is the failure of a step, with what was made of it.
type stepError struct {
	step      Step
	diagnosis failure.Diagnosis
	err       error
}

func (e *stepError) Error() string { return fmt.Sprintf("%s: %v", e.step.Name, e.err) }
func (e *stepError) Unwrap() error { return e.err }

// cancelledBy says that ctx ended because a step beside failed, or is nil.
func cancelledBy(ctx context.Context) error {
	var beside *stepError
	if errors.As(context.Cause(ctx), &beside) {
		return fmt.Errorf("cancelled: %s failed", beside.step.Name)
	}
	return nil
}

// Causes of a context's end that are nobody's fault in particular.
var (
	ErrInterrupted = errors.New("interrupted") // by a signal
	ErrOutOfTime   = errors.New("the run was not done within its time")
)

// Run carries out stages in order; the steps of one stage side by side. The
// first failure that is not healed ends the run. Run always returns a complete
// result; it never returns early on a cancelled context without one.
func (r *Runner) Run(ctx context.Context, name string, stages [][]Step) Result {
	result := &collector{Result: Result{
		Name: name, Verdict: failure.Passed, Started: r.Now(),
		Heals: []Heal{}, Works: []Work{}, Steps: []StepResult{},
	}}
	var failed error
	for _, stage := range stages {
		if failed != nil {
			for _, s := range stage {
				result.step(StepResult{Name: s.Name, State: "not-run"})
			}
			continue
		}
		group, stageCtx := errgroup.WithContext(ctx)
		for _, s := range stage {
			group.Go(func() error { return r.step(stageCtx, s, result) })
		}
		failed = group.Wait()
	}
	result.DurationMS = r.Now().Sub(result.Started).Milliseconds()
	var se *stepError
	if errors.As(failed, &se) {
		d := se.diagnosis
		result.Verdict, result.Step, result.Phase = d.Verdict(se.step.Phase), se.step.Name, se.step.Phase
		result.Class, result.Signature, result.Confidence = d.Class, d.Signature, d.Confidence
		result.Cause, result.Remedy, result.Error = d.Cause, d.Remedy, se.err.Error()
	}
	return result.Result
}

// step carries out one step with its attempts.
func (r *Runner) step(ctx context.Context, s Step, result *collector) error {
	began := r.Now()
	r.Journal.Add(Event{Time: began, Step: s.Name, Kind: Start})
	attempts := 0
	var out Outcome
	var last failure.Diagnosis
	err := retry.Do(
		func() error {
			attempts++
			if attempts > 1 {
				r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Try, Attempt: attempts})
			}
			var err error
			out, err = r.attempt(ctx, s)
			if err == nil {
				return nil
			}
			if beside := cancelledBy(ctx); beside != nil {
				err = beside
				return retry.Unrecoverable(err)
			}
			last = r.diagnose(ctx, s, err)
			r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Failed, Attempt: attempts,
				DurationMS: r.Now().Sub(began).Milliseconds(), Class: string(last.Class), Signature: last.Signature, Error: err.Error()})
			if r.Evidence != nil && ctx.Err() == nil {
				r.Evidence(ctx, s, err)
			}
			if ctx.Err() != nil || !r.mayRetry(ctx, s, last, attempts, result) {
				return retry.Unrecoverable(err)
			}
			return err
		},
		retry.Context(ctx), retry.Attempts(r.attempts()), retry.LastErrorOnly(true),
		retry.Delay(r.Delay), retry.DelayType(retry.CombineDelay(retry.BackOffDelay, retry.RandomDelay)),
	)
	if err != nil && attempts == 0 && cancelledBy(ctx) == nil { // the run ended between two steps
		last = r.diagnose(ctx, s, err)
		r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Failed, Class: string(last.Class), Signature: last.Signature, Error: err.Error()})
	}
	took := r.Now().Sub(began)
	sr := StepResult{Name: s.Name, State: Done, Attempts: attempts, DurationMS: took.Milliseconds(), Detail: out.Detail}
	if beside := cancelledBy(ctx); err != nil && beside != nil {
		sr.State, sr.Detail = "cancelled", beside.Error()
		r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Skip, DurationMS: took.Milliseconds(), Detail: sr.Detail})
		result.step(sr)
		return beside
	}
	if err != nil {
		sr.State, sr.Error = Failed, err.Error()
		result.step(sr)
		return &stepError{step: s, diagnosis: last, err: err}
	}
	kind := Done
	if out.Skipped {
		kind, sr.State = Skip, Skip
	}
	if attempts > 1 {
		again := fmt.Sprintf("it passed at attempt %d; the one before ended with: %s", attempts, last.Cause)
		out.Heals = append(out.Heals, Heal{Action: "do the step again", Effect: again, OK: true})
	}
	r.healed(s, attempts, out.Heals, result)
	for _, n := range out.Nodes {
		r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Done, Node: n.Node, Strategy: n.Strategy, Bytes: n.Bytes, DurationMS: n.DurationMS, Detail: n.Ref})
	}
	r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: kind, Attempt: attempts, DurationMS: took.Milliseconds(), Detail: out.Detail})
	result.step(sr)
	result.outcome(out)
	return nil
}

func (r *Runner) attempts() uint {
	if r.Attempts == 0 {
		return 3
	}
	return r.Attempts
}

const goOn = "run the same command again; it goes on from what is proven done"

// diagnose handles what the runner itself knows, and asks for the rest.
func (r *Runner) diagnose(ctx context.Context, s Step, err error) failure.Diagnosis {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrInterrupted):
		return failure.Diagnosis{Class: failure.Unknown, Retry: failure.RetryNow, Signature: "interrupted", Confidence: "high",
			Cause: fmt.Sprintf("the run was ended from outside (%v) during %s", cause, s.Name), Remedy: goOn}
	case errors.Is(cause, ErrOutOfTime):
		return failure.Diagnosis{Class: failure.Unknown, Retry: failure.RetryNow, Signature: "out-of-time", Confidence: "high",
			Cause: fmt.Sprintf("%v, in %s", cause, s.Name), Remedy: goOn}
	}
	return r.Diagnose(ctx, s, err)
}

// mayRetry heals what has to be healed and says whether another attempt makes sense.
func (r *Runner) mayRetry(ctx context.Context, s Step, d failure.Diagnosis, attempt int, result *collector) bool {
	if uint(attempt) >= r.attempts() || d.Retry == failure.FailFast || d.Verdict(s.Phase) != failure.Infrastructure {
		return false
	}
	act := r.Heal
	if d.Retry != failure.HealThenRetry {
		if act = r.Ready; act == nil {
			return true
		}
	}
	if act == nil {
		return false
	}
	heals, ok := act(ctx, s, d)
	r.healed(s, attempt, heals, result)
	return ok
}

// healed puts recovery actions on record.
func (r *Runner) healed(s Step, attempt int, heals []Heal, result *collector) {
	for _, h := range heals {
		h.Step = s.Name
		result.heal(h)
		r.Journal.Add(Event{Time: r.Now(), Step: s.Name, Kind: Healed, Attempt: attempt, Detail: h.Action + ": " + h.Effect})
	}
}
