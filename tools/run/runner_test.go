package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func newRunner(t *testing.T) (*Runner, Folder) {
	t.Helper()
	folder, _, err := NewFolder(t.TempDir(), "suite", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Runner{
		Journal: j, Now: time.Now, Delay: time.Millisecond,
		Diagnose: func(_ context.Context, _ Step, err error) failure.Diagnosis {
			if e := failure.As(err); e != nil {
				return e.Diagnosis
			}
			return failure.Diagnosis{Class: failure.Unknown, Retry: failure.FailFast}
		},
	}, folder
}

func failing(class failure.Class, times int) (func(context.Context, progress.Func) (Outcome, error), *int) {
	calls := new(int)
	return func(context.Context, progress.Func) (Outcome, error) {
		*calls++
		if *calls <= times {
			return Outcome{}, failure.New(class, "cause", "remedy", errors.New("observed"))
		}
		return Outcome{Detail: "there"}, nil
	}, calls
}

func TestRunVerdicts(t *testing.T) {
	cases := []struct {
		name    string
		class   failure.Class
		phase   failure.Phase
		times   int
		heals   bool
		verdict failure.Verdict
		calls   int
	}{
		{"passes at once", failure.Network, failure.Load, 0, false, failure.Passed, 1},
		{"a retry helps", failure.Network, failure.Load, 1, false, failure.Passed, 2},
		{"retries are bounded", failure.Network, failure.Load, 9, false, failure.Infrastructure, 3},
		{"healed, then passed", failure.EngineConnection, failure.Load, 1, true, failure.Passed, 2},
		{"not healed, not repeated", failure.EngineConnection, failure.Load, 1, false, failure.Infrastructure, 1},
		{"code is never repeated", failure.TestFailure, failure.Suite, 1, true, failure.Code, 1},
		{"unknown in a suite is the code's", failure.Unknown, failure.Suite, 1, true, failure.Code, 1},
		{"configuration is never repeated", failure.Configuration, failure.ClusterCreate, 1, true, failure.Misconfigured, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, _ := newRunner(t)
			r.Heal = func(context.Context, Step, failure.Diagnosis) ([]Heal, bool) {
				return []Heal{{Action: "try", OK: c.heals}}, c.heals
			}
			do, calls := failing(c.class, c.times)
			if c.class == failure.Unknown {
				do = func(context.Context, progress.Func) (Outcome, error) { *calls++; return Outcome{}, errors.New("?") }
			}
			after := 0
			got := r.Run(context.Background(), "suite", [][]Step{
				{{Name: "one", Phase: c.phase, Budget: time.Minute, Do: do}},
				{{Name: "two", Phase: c.phase, Budget: time.Minute, Do: func(context.Context, progress.Func) (Outcome, error) {
					after++
					return Outcome{}, nil
				}}},
			})
			if got.Verdict != c.verdict || *calls != c.calls {
				t.Errorf("verdict %s after %d calls, want %s after %d", got.Verdict, *calls, c.verdict, c.calls)
			}
			if wantAfter := map[bool]int{true: 1, false: 0}[c.verdict == failure.Passed]; after != wantAfter {
				t.Errorf("the next step ran %d times, want %d", after, wantAfter)
			}
			if len(got.Steps) != 2 {
				t.Errorf("%d steps in the result, want 2", len(got.Steps))
			}
		})
	}
}

func TestEvidenceIsTakenBeforeHealing(t *testing.T) {
	r, _ := newRunner(t)
	var order []string
	r.Evidence = func(context.Context, Step, error) { order = append(order, "evidence") }
	r.Heal = func(context.Context, Step, failure.Diagnosis) ([]Heal, bool) {
		order = append(order, "heal")
		return nil, true
	}
	do, _ := failing(failure.EngineBroken, 1)
	r.Run(context.Background(), "suite", [][]Step{{{Name: "one", Budget: time.Minute, Do: do}}})
	if strings.Join(order, " ") != "evidence heal" {
		t.Errorf("order %v", order)
	}
}

func TestStallAndBudgetEndAStep(t *testing.T) {
	hang := func(ctx context.Context, _ progress.Func) (Outcome, error) {
		<-ctx.Done()
		return Outcome{}, ctx.Err()
	}
	for want, step := range map[string]Step{
		"stalled":         {Name: "one", Budget: time.Minute, Stall: 20 * time.Millisecond, Do: hang},
		"not done within": {Name: "one", Budget: 20 * time.Millisecond, Do: hang},
	} {
		r, _ := newRunner(t)
		got := r.Run(context.Background(), "suite", [][]Step{{step}})
		if !strings.Contains(got.Error, want) {
			t.Errorf("error %q does not say %q", got.Error, want)
		}
	}
}

func TestAFailureEndsTheStepsBesideIt(t *testing.T) {
	r, _ := newRunner(t)
	do, _ := failing(failure.TestFailure, 1)
	got := r.Run(context.Background(), "suite", [][]Step{{
		{Name: "build", Phase: failure.Build, Budget: time.Minute, Do: do},
		{Name: "cluster", Phase: failure.ClusterCreate, Budget: time.Minute, Do: func(ctx context.Context, _ progress.Func) (Outcome, error) {
			<-ctx.Done()
			return Outcome{}, ctx.Err()
		}},
	}})
	if got.Step != "build" || got.Verdict != failure.Code {
		t.Errorf("step %s, verdict %s", got.Step, got.Verdict)
	}
	for _, s := range got.Steps {
		if s.Name == "cluster" && (s.State != "cancelled" || s.Detail != "cancelled: build failed") {
			t.Errorf("the step beside: %+v", s)
		}
	}
}

func TestProgressKeepsAStepAlive(t *testing.T) {
	r, _ := newRunner(t)
	got := r.Run(context.Background(), "suite", [][]Step{{{Name: "one", Budget: time.Minute, Stall: 200 * time.Millisecond,
		Do: func(ctx context.Context, report progress.Func) (Outcome, error) {
			for range 20 {
				select {
				case <-ctx.Done():
					return Outcome{}, ctx.Err()
				case <-time.After(25 * time.Millisecond):
					report(progress.Update{What: "moving"})
				}
			}
			return Outcome{}, nil
		}}}})
	if got.Verdict != failure.Passed {
		t.Errorf("verdict %s: %s", got.Verdict, got.Error)
	}
}

func TestInterruptedRunSaysSo(t *testing.T) {
	r, folder := newRunner(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	got := r.Run(ctx, "suite", [][]Step{{{Name: "suite", Phase: failure.Suite, Budget: time.Minute, Do: func(ctx context.Context, _ progress.Func) (Outcome, error) {
		cancel(ErrInterrupted)
		<-ctx.Done()
		return Outcome{}, ctx.Err()
	}}}})
	if got.Signature != "interrupted" || got.Verdict.ExitCode() != failure.ExitInfrastructure {
		t.Errorf("signature %q, exit %d", got.Signature, got.Verdict.ExitCode())
	}
	if err := got.Save(folder); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	raw, _ := os.ReadFile(folder.File("result.json"))
	if err := json.Unmarshal(raw, &back); err != nil || back["verdict"] != "infrastructure" {
		t.Errorf("result.json: %v, %v", back["verdict"], err)
	}
}

// A run may end while a step finishes well: the next one never begins, and is
// not to blame.
func TestARunThatEndsBetweenTwoSteps(t *testing.T) {
	for cause, signature := range map[error]string{ErrInterrupted: "interrupted", fmt.Errorf("%w of 85m", ErrOutOfTime): "out-of-time"} {
		r, _ := newRunner(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		got := r.Run(ctx, "suite", [][]Step{
			{{Name: "deploy", Budget: time.Minute, Do: func(context.Context, progress.Func) (Outcome, error) {
				cancel(cause)
				return Outcome{}, nil
			}}},
			{{Name: "suite", Phase: failure.Suite, Budget: time.Minute, Do: func(context.Context, progress.Func) (Outcome, error) {
				t.Error("it was begun")
				return Outcome{}, nil
			}}},
		})
		if got.Signature != signature || got.Step != "suite" || got.Verdict != failure.Infrastructure || got.Cause == "" {
			t.Errorf("%v: verdict %s of %s by %q: %s", cause, got.Verdict, got.Step, got.Signature, got.Cause)
		}
	}
}

func TestJournalHasEveryAttempt(t *testing.T) {
	r, folder := newRunner(t)
	do, _ := failing(failure.Network, 2)
	r.Run(context.Background(), "suite", [][]Step{{{Name: "one", Budget: time.Minute, Do: do}}})
	raw, err := os.ReadFile(folder.File("journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "start fail attempt fail attempt heal done" {
		t.Errorf("journal: %s", got)
	}
}

func TestFolderSurvivesACorruptState(t *testing.T) {
	state := t.TempDir() + "/state"
	if err := os.WriteFile(state, []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, moved, err := NewFolder(state, "suite", time.Unix(1, 0))
	if err != nil || len(moved) != 1 {
		t.Fatalf("moved %v, %v", moved, err)
	}
	second, _, err := NewFolder(state, "suite", time.Unix(1, 0))
	if err != nil || first == second {
		t.Fatalf("two runs at one time share %v: %v", first, err)
	}
	if got, _ := os.Readlink(state + "/last"); !strings.HasSuffix(second.Path, got) || got == "" {
		t.Errorf("last points at %q, want %q", got, second.Path)
	}
}
