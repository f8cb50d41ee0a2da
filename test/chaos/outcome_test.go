package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// outcome is what a run came to.
type outcome struct {
	run.Result
	code     int
	took     time.Duration
	report   string
	events   []run.Event
	output   string
	evidence int // files
}

// is checks exit code and verdict; nothing of the rest makes sense without.
func (o outcome) is(t *testing.T, code int, verdict string) {
	t.Helper()
	if o.code != code || string(o.Verdict) != verdict {
		t.Fatalf("exit code %d, verdict %s; want %d, %s\n%s\n%s", o.code, o.Verdict, code, verdict, o.report, o.output)
	}
}

// tells checks that the report has the words.
func (o outcome) tells(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(o.report, w) {
			t.Errorf("the report does not tell %q:\n%s", w, o.report)
		}
	}
}

// hasEvidence checks that what failed left evidence behind. Before there is an
// engine, there is nothing to ask.
func (o outcome) hasEvidence(t *testing.T) {
	t.Helper()
	for _, e := range o.events {
		if e.Kind == run.Failed && e.Step != "engine" && e.Node == "" && e.Strategy == "" && o.evidence == 0 {
			t.Errorf("%s failed, and there is no evidence: %s", e.Step, e.Error)
		}
	}
}

// attempts counts how often a step began.
func (o outcome) attempts(step string) int {
	for _, s := range o.Steps {
		if s.Name == step {
			return s.Attempts
		}
	}
	return 0
}

// step returns how a step ended.
func (o outcome) step(name string) run.StepResult {
	for _, s := range o.Steps {
		if s.Name == name {
			return s
		}
	}
	return run.StepResult{}
}

// overhead is the time that a run spent outside its steps, from the start of
// its process to the end.
func (o outcome) overhead() time.Duration {
	type span struct{ from, to time.Time }
	open, spans := map[string]time.Time{}, []span{}
	for _, e := range o.events {
		began, ok := open[e.Step]
		switch {
		case e.Kind == run.Start:
			open[e.Step] = e.Time
		case ok && e.Node == "" && e.Strategy == "" && (e.Kind == run.Done || e.Kind == run.Skip || e.Kind == run.Failed):
			spans = append(spans, span{began, e.Time})
			delete(open, e.Step)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	outside, end := o.took, time.Time{}
	for _, s := range spans { // those of steps side by side overlap
		if s.from.Before(end) {
			s.from = end
		}
		if s.to.After(s.from) {
			outside -= s.to.Sub(s.from)
			end = s.to
		}
	}
	return outside
}
