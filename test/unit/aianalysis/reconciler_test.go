package aianalysis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/analysis"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/mock"
)

type rig struct {
	client     client.WithWatch
	events     *events.FakeRecorder
	registry   *prometheus.Registry
	reconciler *analysis.Reconciler
}

func newRig(t *testing.T, hapi analysis.HAPI, a *v1alpha1.AIAnalysis, hooks interceptor.Funcs) rig {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	r := rig{
		client: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(a).WithObjects(a).WithInterceptorFuncs(hooks).Build(),
		events: events.NewFakeRecorder(20), registry: prometheus.NewRegistry(),
	}
	r.reconciler = analysis.NewReconciler(r.client, r.events, analysis.NewMetrics(r.registry), hapi, retry(), "c")
	return r
}

func (r rig) reconcile(t *testing.T) ctrl.Result {
	t.Helper()
	result, err := r.reconciler.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (r rig) get(t *testing.T) *v1alpha1.AIAnalysis {
	t.Helper()
	var a v1alpha1.AIAnalysis
	if err := r.client.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a"}, &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

func (r rig) recorded() string {
	var all []string
	for len(r.events.Events) > 0 {
		all = append(all, <-r.events.Events)
	}
	return strings.Join(all, "\n")
}

func TestReconcileGoesThroughEveryPhase(t *testing.T) {
	hapi := &mock.HAPI{}
	r := newRig(t, hapi, newAnalysis(environment("production")), interceptor.Funcs{})
	if result := r.reconcile(t); result.RequeueAfter != 0 {
		t.Errorf("got %v", result)
	}
	a := r.get(t)
	if a.Status.Phase != v1alpha1.PhaseCompleted || !a.Status.ApprovalRequired || a.Status.Attempts != 1 {
		t.Errorf("got %+v", a.Status)
	}
	said := r.recorded()
	for _, phase := range []string{"Investigating", "Analyzing", "Completed"} {
		if !strings.Contains(said, "Normal "+phase) {
			t.Errorf("no event %q in %q", phase, said)
		}
	}
	want := `
# HELP aianalysis_finished_total Analyses that reached a final phase.
# TYPE aianalysis_finished_total counter
aianalysis_finished_total{phase="Completed",reason="ApprovalRequired"} 1
# HELP aianalysis_hapi_requests_total Requests to HAPI by HTTP status.
# TYPE aianalysis_hapi_requests_total counter
aianalysis_hapi_requests_total{status="200"} 1
`
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want), "aianalysis_finished_total", "aianalysis_hapi_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestReconcileLeavesFinishedAnalysesAlone(t *testing.T) {
	hapi := &mock.HAPI{}
	r := newRig(t, hapi, newAnalysis(), interceptor.Funcs{})
	r.reconcile(t)
	before := r.get(t)
	r.reconcile(t)
	if after := r.get(t); after.ResourceVersion != before.ResourceVersion || len(hapi.Incidents()) != 1 {
		t.Errorf("worked again: version %s then %s, %d requests", before.ResourceVersion, after.ResourceVersion, len(hapi.Incidents()))
	}
}

func TestReconcileWaitsForHAPIAndFinishes(t *testing.T) {
	away := mock.Reply{Err: &analysis.HAPIError{Err: errors.New("connection refused")}}
	r := newRig(t, &mock.HAPI{Script: []mock.Reply{away, away, {Response: mock.Answer()}}}, newAnalysis(), interceptor.Funcs{})
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 0} {
		if got := r.reconcile(t).RequeueAfter; got != want {
			t.Fatalf("again in %v, want %v", got, want)
		}
	}
	a := r.get(t)
	if a.Status.Phase != v1alpha1.PhaseCompleted || a.Status.Attempts != 3 || a.Status.ServerErrors != 0 {
		t.Errorf("got %+v", a.Status)
	}
	if n := strings.Count(r.recorded(), v1alpha1.ReasonHAPIUnreachable); n != 1 {
		t.Errorf("%d events say that HAPI is away, want one", n)
	}
}

func TestReconcileResumesAfterACrash(t *testing.T) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhasePending, v1alpha1.PhaseInvestigating, v1alpha1.PhaseAnalyzing} {
		t.Run(string(phase), func(t *testing.T) {
			left := newAnalysis(investigating)
			left.Status.Phase = phase
			r := newRig(t, &mock.HAPI{}, left, interceptor.Funcs{})
			r.reconcile(t)
			if got := r.get(t).Status; got.Phase != v1alpha1.PhaseCompleted {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestReconcileDoesNotAskWhenItsViewIsStale(t *testing.T) {
	hapi := &mock.HAPI{}
	stale := true
	r := newRig(t, hapi, newAnalysis(investigating), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, o, opts...)
			if stale {
				o.SetResourceVersion("1")
			}
			return err
		},
	})
	if result := r.reconcile(t); result.RequeueAfter == 0 || len(hapi.Incidents()) != 0 {
		t.Errorf("got %v after %d requests", result, len(hapi.Incidents()))
	}
	stale = false
	r.reconcile(t)
	if got := r.get(t).Status; got.Phase != v1alpha1.PhaseCompleted || got.Attempts != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestReconcileOfADeletedAnalysis(t *testing.T) {
	hapi := &mock.HAPI{}
	a := newAnalysis()
	r := newRig(t, hapi, a, interceptor.Funcs{})
	if err := r.client.Delete(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t)
	if len(hapi.Incidents()) != 0 {
		t.Error("HAPI was asked about an analysis that is gone")
	}
}

func TestReconcileWhenDeletedInTheMiddle(t *testing.T) {
	var r rig
	hapi := deleting{&mock.HAPI{}, func() { _ = r.client.Delete(t.Context(), newAnalysis()) }}
	r = newRig(t, hapi, newAnalysis(), interceptor.Funcs{})
	if result := r.reconcile(t); result.RequeueAfter != 0 {
		t.Errorf("got %v", result)
	}
}
