package analysis

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// Reconciler takes analyses through their phases. The status is the only state: it is saved after every phase and before every
// request to HAPI, with the resource version it was read at, so that a second controller, or a stale cache, cannot repeat a step
// unseen: its write conflicts and it begins again from what is true.
type Reconciler struct {
	Client   client.Client
	Events   events.EventRecorder
	Metrics  *Metrics
	Handlers map[v1alpha1.Phase]Handler // every phase that is not final
}

// NewReconciler returns a Reconciler with the handlers of every phase.
func NewReconciler(c client.Client, recorder events.EventRecorder, m *Metrics, hapi HAPI, retry Retry, cluster string) *Reconciler {
	return &Reconciler{Client: c, Events: recorder, Metrics: m, Handlers: map[v1alpha1.Phase]Handler{
		v1alpha1.PhasePending:       Pending{Now: time.Now},
		v1alpha1.PhaseInvestigating: Investigating{HAPI: hapi, Retry: retry, Cluster: cluster, Now: time.Now, Metrics: m},
		v1alpha1.PhaseAnalyzing:     Analyzing{Now: time.Now},
	}}
}

// SetupWithManager registers the controller. Only new objects and new specs wake it: its own writes of the status do not, and
// at a start every object counts as new.
func (r *Reconciler) SetupWithManager(m ctrl.Manager, parallel int) error {
	return ctrl.NewControllerManagedBy(m).
		For(&v1alpha1.AIAnalysis{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: parallel}).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler: it goes from phase to phase until the analysis is final, must wait, or is gone.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var a v1alpha1.AIAnalysis
	if err := r.Client.Get(ctx, request.NamespacedName, &a); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for !phaseOf(&a).Final() && a.DeletionTimestamp.IsZero() {
		again, err := r.step(ctx, &a)
		switch {
		case apierrors.IsNotFound(err):
			log.FromContext(ctx).Info("deleted while in progress")
			return ctrl.Result{}, nil
		case apierrors.IsConflict(err):
			// Somebody else wrote, or the cache was behind: read again.
			return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil
		case err != nil:
			return ctrl.Result{}, err
		case again > 0:
			return ctrl.Result{RequeueAfter: again}, nil
		}
	}
	return ctrl.Result{}, nil
}

// step runs the handler of the phase the analysis is in and saves what it did.
func (r *Reconciler) step(ctx context.Context, a *v1alpha1.AIAnalysis) (time.Duration, error) {
	phase := phaseOf(a)
	handler, known := r.Handlers[phase]
	if !known {
		return 0, fmt.Errorf("phase %q has no handler", phase)
	}
	if phase == v1alpha1.PhaseInvestigating {
		a.Status.Phase = phase
		a.Status.Attempts++
		if err := r.Client.Status().Update(ctx, a); err != nil {
			return 0, fmt.Errorf("count attempt: %w", err)
		}
	}
	before := a.Status.DeepCopy()
	again, err := handler.Handle(ctx, a)
	if err != nil || equality.Semantic.DeepEqual(before, &a.Status) {
		return again, err
	}
	if err := r.Client.Status().Update(ctx, a); err != nil {
		return 0, fmt.Errorf("save status: %w", err)
	}
	r.announce(ctx, a, before)
	return again, nil
}

// announce tells the world about a status that has been saved: what is announced is true.
func (r *Reconciler) announce(ctx context.Context, a *v1alpha1.AIAnalysis, before *v1alpha1.AIAnalysisStatus) {
	s := a.Status
	if s.Phase == before.Phase {
		if s.Reason != before.Reason {
			r.Events.Eventf(a, nil, corev1.EventTypeWarning, s.Reason, "Investigate", "%s", s.Message)
		}
		return
	}
	log.FromContext(ctx).Info("phase", "from", before.Phase, "to", s.Phase, "reason", s.Reason, "attempts", s.Attempts)
	r.Metrics.entered(a)
	kind, reason := corev1.EventTypeNormal, string(s.Phase)
	if s.Phase == v1alpha1.PhaseFailed {
		kind = corev1.EventTypeWarning
		reason = s.Reason
	}
	r.Events.Eventf(a, nil, kind, reason, "Analyze", "%s", s.Message)
}

// phaseOf is the phase of an analysis; one that nobody has touched is Pending.
func phaseOf(a *v1alpha1.AIAnalysis) v1alpha1.Phase {
	if a.Status.Phase == "" {
		return v1alpha1.PhasePending
	}
	return a.Status.Phase
}
