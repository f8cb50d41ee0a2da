// Package analysis is the AIAnalysis controller: one handler for each phase, and the reconciler that runs them and writes the
// status. It owns the meaning of phases, conditions, events and metrics; it does not own the process, nor HAPI's contract.
package analysis

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// Handler does what one phase asks for. It changes the status of the object it is given, never its spec, and talks to nobody
// but HAPI. A positive delay means: not done, call again after that time. An error means that the handler was disturbed (its
// context ended) and that the change must be dropped.
//
// Handlers are idempotent: run again on the status from before, after a crash, a handler comes to the same result.
type Handler interface {
	Handle(ctx context.Context, a *v1alpha1.AIAnalysis) (again time.Duration, err error)
}

// Pending accepts an analysis.
type Pending struct{ Now func() time.Time }

// Handle implements Handler.
func (p Pending) Handle(_ context.Context, a *v1alpha1.AIAnalysis) (time.Duration, error) {
	started := metav1.NewTime(p.Now())
	a.Status.StartedAt = &started
	a.Status.Phase = v1alpha1.PhaseInvestigating
	a.Status.Message = "asking HAPI for the root cause"
	setCondition(a, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInProgress, "the analysis has begun")
	return 0, nil
}

// Analyzing applies policy to what HAPI answered.
type Analyzing struct{ Now func() time.Time }

// Handle implements Handler.
func (p Analyzing) Handle(_ context.Context, a *v1alpha1.AIAnalysis) (time.Duration, error) {
	reason, message := v1alpha1.ReasonSucceeded, "no approval is needed"
	if environment := a.Spec.AnalysisRequest.SignalContext.Environment; environment == production {
		a.Status.ApprovalRequired = true
		reason, message = v1alpha1.ReasonApprovalRequired, "workflows in "+environment+" need a person's approval"
	}
	setCondition(a, v1alpha1.ConditionAnalyzed, metav1.ConditionTrue, reason, message)
	finish(a, p.Now(), v1alpha1.PhaseCompleted, reason, message)
	return 0, nil
}

const production = "production"

// finish moves an analysis to a final phase.
func finish(a *v1alpha1.AIAnalysis, now time.Time, phase v1alpha1.Phase, reason, message string) {
	finished := metav1.NewTime(now)
	a.Status.FinishedAt = &finished
	a.Status.Phase, a.Status.Reason, a.Status.Message = phase, reason, message
	ready := metav1.ConditionTrue
	if phase != v1alpha1.PhaseCompleted {
		ready = metav1.ConditionFalse
	}
	setCondition(a, v1alpha1.ConditionReady, ready, reason, message)
}

func setCondition(a *v1alpha1.AIAnalysis, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&a.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: a.Generation,
	})
}
