package run

import (
	"context"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func TestWhatAStepStandsOnIsProvenBeforeItIsRepeated(t *testing.T) {
	for _, ready := range []bool{true, false} {
		r, _ := newRunner(t)
		r.Ready = func(context.Context, Step, failure.Diagnosis) ([]Heal, bool) {
			return []Heal{{Action: "ask", OK: ready}}, ready
		}
		do, calls := failing(failure.Network, 1)
		got := r.Run(context.Background(), "suite", [][]Step{{{Name: "one", Phase: failure.Load, Budget: time.Minute, Do: do}}})
		want, times, heals := failure.Infrastructure, 1, 1
		if ready {
			want, times, heals = failure.Passed, 2, 2 // that it was done again is one too
		}
		if got.Verdict != want || *calls != times || len(got.Heals) != heals {
			t.Errorf("ready %v: %s after %d calls, heals %v", ready, got.Verdict, *calls, got.Heals)
		}
	}
}

func TestWhatAStepPutRightItselfIsOnRecord(t *testing.T) {
	r, _ := newRunner(t)
	got := r.Run(context.Background(), "suite", [][]Step{{{Name: "load", Budget: time.Minute,
		Do: func(context.Context, progress.Func) (Outcome, error) {
			return Outcome{Heals: []Heal{{Action: "send again", Effect: "verified", OK: true}}}, nil
		}}}})
	if len(got.Heals) != 1 || got.Heals[0].Step != "load" {
		t.Errorf("heals %+v", got.Heals)
	}
	healed := 0
	for _, e := range r.Journal.Events() {
		if e.Kind == Healed {
			healed++
		}
	}
	if healed != 1 {
		t.Errorf("%d heal events in the journal", healed)
	}
}
