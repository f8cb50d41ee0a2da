package analysis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// Retry bounds how long an analysis waits for HAPI. Two bounds, because two things are said: a server that answers 500 to a
// question will most likely do so again, a server that cannot be reached is most likely being restarted.
type Retry struct {
	ServerErrors int32         // answers of 5xx after which the analysis fails
	Unreachable  time.Duration // time since the start after which an analysis that cannot reach HAPI fails
	First, Most  time.Duration // first delay, and the bound up to which it doubles
}

// Investigating asks HAPI. The caller has counted the attempt in the status, and saved that, before it calls Handle.
type Investigating struct {
	HAPI    HAPI
	Retry   Retry
	Cluster string // cluster_name in requests
	Now     func() time.Time
	Metrics *Metrics
}

// Handle implements Handler.
func (p Investigating) Handle(ctx context.Context, a *v1alpha1.AIAnalysis) (time.Duration, error) {
	asked := p.Now()
	answer, err := p.ask(ctx, a)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("investigation of %s/%s: %w", a.Namespace, a.Name, context.Cause(ctx))
	}
	p.Metrics.asked(err, p.Now().Sub(asked))
	if err != nil {
		return p.disappointed(a, err), nil
	}
	p.adopt(a, answer)
	return 0, nil
}

func (p Investigating) ask(ctx context.Context, a *v1alpha1.AIAnalysis) (*api.AnalysisResponse, error) {
	request := incidentRequest(a, p.Cluster)
	if slices.Contains(a.Spec.AnalysisRequest.AnalysisTypes, v1alpha1.RecoveryAnalysis) {
		return p.HAPI.Recovery(ctx, recoveryRequest(request))
	}
	return p.HAPI.Incident(ctx, request)
}

// disappointed decides after an error whether to ask again, and after which delay.
func (p Investigating) disappointed(a *v1alpha1.AIAnalysis, err error) time.Duration {
	var h *HAPIError
	if !errors.As(err, &h) {
		h = &HAPIError{Err: err}
	}
	fail := func(reason string) time.Duration {
		setCondition(a, v1alpha1.ConditionInvestigated, metav1.ConditionFalse, reason, h.Error())
		finish(a, p.Now(), v1alpha1.PhaseFailed, reason, h.Error())
		return 0
	}
	reason := v1alpha1.ReasonHAPIError
	switch {
	case h.Rejected():
		return fail(v1alpha1.ReasonHAPIRejected)
	case h.Unreachable():
		reason = v1alpha1.ReasonHAPIUnreachable
		if a.Status.StartedAt != nil && p.Now().Sub(a.Status.StartedAt.Time) >= p.Retry.Unreachable {
			return fail(reason)
		}
	default:
		a.Status.ServerErrors++
		if a.Status.ServerErrors >= p.Retry.ServerErrors {
			return fail(reason)
		}
	}
	a.Status.Reason, a.Status.Message = reason, h.Error()
	setCondition(a, v1alpha1.ConditionInvestigated, metav1.ConditionFalse, reason, h.Error())
	return p.delay(a.Status.Attempts)
}

// delay doubles from First with each attempt, up to Most.
func (p Investigating) delay(attempts int32) time.Duration {
	d := p.Retry.First
	for ; attempts > 1 && d < p.Retry.Most; attempts-- {
		d *= 2
	}
	return min(d, p.Retry.Most)
}

// adopt takes HAPI's answer into the status. An answer that asks for a person ends the analysis: there is no workflow that
// could be run.
func (p Investigating) adopt(a *v1alpha1.AIAnalysis, r *api.AnalysisResponse) {
	a.Status.RootCause = &v1alpha1.RootCauseAnalysis{
		Summary: r.RootCauseAnalysis.Summary, Severity: r.RootCauseAnalysis.Severity,
		ContributingFactors: r.RootCauseAnalysis.ContributingFactors,
	}
	a.Status.Warnings = r.Warnings
	a.Status.SelectedWorkflow = nil
	if w := r.SelectedWorkflow; w != nil {
		a.Status.SelectedWorkflow = &v1alpha1.SelectedWorkflow{
			WorkflowID: w.WorkflowId, Title: w.Title, Version: w.Version, ContainerImage: w.ContainerImage,
			Confidence: fmt.Sprintf("%.2f", w.Confidence), Rationale: w.Rationale, Parameters: w.Parameters,
		}
	}
	setCondition(a, v1alpha1.ConditionInvestigated, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, r.RootCauseAnalysis.Summary)
	if reason := reviewReason(r); reason != "" {
		message := "HAPI asks for a person's review: " + r.RootCauseAnalysis.Summary
		setCondition(a, v1alpha1.ConditionAnalyzed, metav1.ConditionFalse, reason, message)
		finish(a, p.Now(), v1alpha1.PhaseFailed, reason, message)
		return
	}
	a.Status.Phase, a.Status.Reason, a.Status.Message = v1alpha1.PhaseAnalyzing, "", "applying policy to HAPI's answer"
}

// reviewReason says why an answer needs a person; empty if it does not.
func reviewReason(r *api.AnalysisResponse) string {
	switch {
	case !r.NeedsHumanReview && r.SelectedWorkflow != nil:
		return ""
	case r.HumanReviewReason == nil && r.SelectedWorkflow == nil:
		return v1alpha1.ReasonNoMatchingWorkflows
	case r.HumanReviewReason == nil:
		return v1alpha1.ReasonHumanReviewRequested
	}
	switch *r.HumanReviewReason {
	case api.NoMatchingWorkflows:
		return v1alpha1.ReasonNoMatchingWorkflows
	case api.LowConfidence:
		return v1alpha1.ReasonLowConfidence
	case api.LlmParsingError:
		return v1alpha1.ReasonLLMParsingError
	default:
		return v1alpha1.ReasonHumanReviewRequested
	}
}
