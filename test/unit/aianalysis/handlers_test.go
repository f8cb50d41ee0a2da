package aianalysis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/analysis"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/mock"
)

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

func retry() analysis.Retry {
	return analysis.Retry{ServerErrors: 3, Unreachable: time.Minute, First: time.Second, Most: 5 * time.Second}
}

func newAnalysis(edit ...func(*v1alpha1.AIAnalysis)) *v1alpha1.AIAnalysis {
	a := &v1alpha1.AIAnalysis{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: types.UID("uid-1"), Generation: 1},
		Spec: v1alpha1.AIAnalysisSpec{
			RemediationRequestRef: corev1.ObjectReference{Kind: "RemediationRequest", Name: "rr"},
			RemediationID:         "rem-1",
			AnalysisRequest: v1alpha1.AnalysisRequest{
				AnalysisTypes: []v1alpha1.AnalysisType{v1alpha1.RootCause},
				SignalContext: v1alpha1.SignalContext{
					Fingerprint: "f", Severity: "critical", SignalType: "OOMKilled", Environment: "staging", BusinessPriority: "P1",
					TargetResource: v1alpha1.TargetResource{Kind: "Pod", Name: "web", Namespace: "shop"},
				},
			},
		},
	}
	for _, e := range edit {
		e(a)
	}
	return a
}

func investigating(a *v1alpha1.AIAnalysis) {
	a.Status.Phase = v1alpha1.PhaseInvestigating
	a.Status.Attempts = 1
	a.Status.StartedAt = &metav1.Time{Time: noon()}
}

func environment(name string) func(*v1alpha1.AIAnalysis) {
	return func(a *v1alpha1.AIAnalysis) { a.Spec.AnalysisRequest.SignalContext.Environment = name }
}

func handler(hapi analysis.HAPI, now time.Time) analysis.Investigating {
	return analysis.Investigating{
		HAPI: hapi, Retry: retry(), Cluster: "c", Now: func() time.Time { return now },
		Metrics: analysis.NewMetrics(prometheus.NewRegistry()),
	}
}

func TestPendingStarts(t *testing.T) {
	a := newAnalysis()
	again, err := analysis.Pending{Now: noon}.Handle(t.Context(), a)
	if err != nil || again != 0 {
		t.Fatalf("got %v, %v", again, err)
	}
	if a.Status.Phase != v1alpha1.PhaseInvestigating || !a.Status.StartedAt.Time.Equal(noon()) {
		t.Errorf("got phase %q, started %v", a.Status.Phase, a.Status.StartedAt)
	}
	if c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Reason != v1alpha1.ReasonInProgress {
		t.Errorf("got condition %v", c)
	}
}

func TestAnalyzingAsksForApprovalInProductionOnly(t *testing.T) {
	for name, approval := range map[string]bool{"production": true, "staging": false, "development": false, "test": false} {
		t.Run(name, func(t *testing.T) {
			a := newAnalysis(environment(name))
			if _, err := (analysis.Analyzing{Now: noon}).Handle(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if a.Status.ApprovalRequired != approval || a.Status.Phase != v1alpha1.PhaseCompleted || a.Status.FinishedAt == nil {
				t.Errorf("got approval %v, phase %q, finished %v", a.Status.ApprovalRequired, a.Status.Phase, a.Status.FinishedAt)
			}
			for _, c := range []string{v1alpha1.ConditionAnalyzed, v1alpha1.ConditionReady} {
				if !meta.IsStatusConditionTrue(a.Status.Conditions, c) {
					t.Errorf("condition %s is not true", c)
				}
			}
		})
	}
}

func TestInvestigatingAdoptsTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		edit          func(*api.AnalysisResponse)
		phase, reason string
	}{
		"workflow": {func(*api.AnalysisResponse) {}, "Analyzing", ""},
		"no workflow": {func(r *api.AnalysisResponse) {
			r.SelectedWorkflow = nil
			review(r, api.NoMatchingWorkflows)
		}, "Failed", v1alpha1.ReasonNoMatchingWorkflows},
		"no workflow and no review": {func(r *api.AnalysisResponse) { r.SelectedWorkflow = nil }, "Failed", v1alpha1.ReasonNoMatchingWorkflows},
		"low confidence":            {func(r *api.AnalysisResponse) { review(r, api.LowConfidence) }, "Failed", v1alpha1.ReasonLowConfidence},
		"no valid answer":           {func(r *api.AnalysisResponse) { review(r, api.LlmParsingError) }, "Failed", v1alpha1.ReasonLLMParsingError},
		"reason unknown to us":      {func(r *api.AnalysisResponse) { review(r, "novel") }, "Failed", v1alpha1.ReasonHumanReviewRequested},
		"review without a reason":   {func(r *api.AnalysisResponse) { r.NeedsHumanReview = true }, "Failed", v1alpha1.ReasonHumanReviewRequested},
	} {
		t.Run(name, func(t *testing.T) {
			answer := mock.Answer()
			c.edit(answer)
			a := newAnalysis(investigating)
			again, err := handler(&mock.HAPI{Script: []mock.Reply{{Response: answer}}}, noon()).Handle(t.Context(), a)
			if err != nil || again != 0 {
				t.Fatalf("got %v, %v", again, err)
			}
			if string(a.Status.Phase) != c.phase || a.Status.Reason != c.reason {
				t.Errorf("got %s/%s, want %s/%s", a.Status.Phase, a.Status.Reason, c.phase, c.reason)
			}
			if a.Status.RootCause == nil || a.Status.RootCause.Summary != answer.RootCauseAnalysis.Summary {
				t.Errorf("got root cause %v", a.Status.RootCause)
			}
			if w := a.Status.SelectedWorkflow; (w == nil) != (answer.SelectedWorkflow == nil) || w != nil && w.Confidence != "0.92" {
				t.Errorf("got workflow %v", w)
			}
			if !meta.IsStatusConditionTrue(a.Status.Conditions, v1alpha1.ConditionInvestigated) {
				t.Error("not Investigated")
			}
		})
	}
}

func review(r *api.AnalysisResponse, reason api.HumanReviewReason) {
	r.NeedsHumanReview, r.HumanReviewReason = true, &reason
}

func TestInvestigatingAfterAnError(t *testing.T) {
	refused := &analysis.HAPIError{Err: errors.New("connection refused")}
	status := func(code int) error { return &analysis.HAPIError{Status: code, Detail: "said so"} }
	for name, c := range map[string]struct {
		err       error
		attempts  int32
		errors    int32         // 5xx before this one
		elapsed   time.Duration // since the start
		wantPhase v1alpha1.Phase
		reason    string
		again     time.Duration
	}{
		"400 fails at once":            {status(400), 1, 0, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonHAPIRejected, 0},
		"422 fails at once":            {status(422), 1, 0, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonHAPIRejected, 0},
		"429 is asked again":           {status(429), 1, 0, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIError, time.Second},
		"500 is asked again":           {status(500), 1, 0, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIError, time.Second},
		"the delay doubles":            {status(500), 2, 1, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIError, 2 * time.Second},
		"500 has a bound":              {status(500), 3, 2, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonHAPIError, 0},
		"refused is asked again":       {refused, 1, 0, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIUnreachable, time.Second},
		"the delay has a bound":        {refused, 40, 0, 59 * time.Second, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIUnreachable, 5 * time.Second},
		"refused has a bound":          {refused, 41, 0, time.Minute, v1alpha1.PhaseFailed, v1alpha1.ReasonHAPIUnreachable, 0},
		"503 counts as unreachable":    {status(503), 9, 2, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIUnreachable, 5 * time.Second},
		"a foreign error is no answer": {errors.New("odd"), 1, 0, 0, v1alpha1.PhaseInvestigating, v1alpha1.ReasonHAPIUnreachable, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAnalysis(investigating)
			a.Status.Attempts, a.Status.ServerErrors = c.attempts, c.errors
			again, err := handler(&mock.HAPI{Script: []mock.Reply{{Err: c.err}}}, noon().Add(c.elapsed)).Handle(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status.Phase != c.wantPhase || a.Status.Reason != c.reason || again != c.again {
				t.Errorf("got %s/%s again in %v", a.Status.Phase, a.Status.Reason, again)
			}
			cond := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionInvestigated)
			if cond == nil || cond.Status != metav1.ConditionFalse || cond.Reason != c.reason {
				t.Errorf("got condition %v", cond)
			}
			if !strings.Contains(a.Status.Message, "HAPI") {
				t.Errorf("message %q does not say who failed", a.Status.Message)
			}
		})
	}
}

func TestInvestigatingInterruptedChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	a := newAnalysis(investigating)
	before := a.DeepCopy()
	_, err := handler(&mock.HAPI{Script: []mock.Reply{{Block: true}}}, noon()).Handle(ctx, a)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if a.Status.Phase != before.Status.Phase || len(a.Status.Conditions) != 0 || a.Status.Reason != "" {
		t.Errorf("status changed: %+v", a.Status)
	}
}

func TestRequestCarriesTheSignal(t *testing.T) {
	for name, c := range map[string]struct{ environment, risk, category string }{
		"production":  {"production", "low", "critical"},
		"staging":     {"staging", "medium", "standard"},
		"development": {"development", "high", "standard"},
	} {
		t.Run(name, func(t *testing.T) {
			hapi := &mock.HAPI{}
			a := newAnalysis(investigating, environment(c.environment))
			a.Spec.AnalysisRequest.SignalContext.EnrichmentResults.OwnerChain = []v1alpha1.TargetResource{{Kind: "Deployment", Name: "web"}}
			if _, err := handler(hapi, noon()).Handle(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			r := hapi.Incidents()[0]
			if r.IncidentId != "uid-1" || r.RemediationId != "rem-1" || r.SignalType != "OOMKilled" || r.ResourceKind != "Pod" ||
				r.ResourceName != "web" || r.ResourceNamespace != "shop" || r.Priority != "P1" || r.ClusterName != "c" {
				t.Errorf("got %+v", r)
			}
			if r.RiskTolerance != c.risk || r.BusinessCategory != c.category {
				t.Errorf("got risk %q, category %q", r.RiskTolerance, r.BusinessCategory)
			}
			if slices.Contains([]string{r.Severity, r.SignalSource, r.ErrorMessage, r.Environment}, "") {
				t.Errorf("a required field is empty: %+v", r)
			}
			if owners := *r.EnrichmentResults.OwnerChain; len(owners) != 1 || owners[0].Kind != "Deployment" {
				t.Errorf("got owners %v", owners)
			}
		})
	}
}

func TestRecoveryGoesToItsOwnEndpoint(t *testing.T) {
	hapi := &mock.HAPI{}
	a := newAnalysis(investigating, func(a *v1alpha1.AIAnalysis) {
		a.Spec.AnalysisRequest.AnalysisTypes = []v1alpha1.AnalysisType{v1alpha1.RecoveryAnalysis}
	})
	if _, err := handler(hapi, noon()).Handle(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if len(hapi.Recoveries()) != 1 || len(hapi.Incidents()) != 0 || hapi.Recoveries()[0].IncidentId != "uid-1" {
		t.Errorf("got %v and %v", hapi.Recoveries(), hapi.Incidents())
	}
}
