// Package summary is the controller's REST API: short, read-only summaries of analyses, for people and dashboards that have no
// access to the Kubernetes API. It reads from the controller's cache and changes nothing.
package summary

import (
	"encoding/json"
	"net/http"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// Summary is one analysis in short.
type Summary struct {
	Namespace        string         `json:"namespace"`
	Name             string         `json:"name"`
	SignalType       string         `json:"signalType"`
	Phase            v1alpha1.Phase `json:"phase"`
	Reason           string         `json:"reason,omitempty"`
	WorkflowID       string         `json:"workflowId,omitempty"`
	Confidence       string         `json:"confidence,omitempty"`
	ApprovalRequired bool           `json:"approvalRequired"`
	Attempts         int32          `json:"attempts"`
	FinishedAt       *metav1.Time   `json:"finishedAt,omitempty"`
}

// List is the answer to a list request.
type List struct {
	Items []Summary `json:"items"`
}

// Problem is the answer to a request that failed.
type Problem struct {
	Detail string `json:"detail"`
}

// Handler serves
//
//	GET /api/v1/analyses?namespace=NAMESPACE  a List, sorted by namespace and name; without a namespace, of all
//	GET /api/v1/analyses/NAMESPACE/NAME       a Summary, or 404 with a Problem
func Handler(reader client.Reader) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/analyses", func(w http.ResponseWriter, r *http.Request) {
		var found v1alpha1.AIAnalysisList
		if err := reader.List(r.Context(), &found, client.InNamespace(r.URL.Query().Get("namespace"))); err != nil {
			write(w, http.StatusInternalServerError, Problem{Detail: err.Error()})
			return
		}
		list := List{Items: make([]Summary, 0, len(found.Items))}
		for i := range found.Items {
			list.Items = append(list.Items, summarize(&found.Items[i]))
		}
		sort.Slice(list.Items, func(i, j int) bool {
			a, b := list.Items[i], list.Items[j]
			return a.Namespace < b.Namespace || a.Namespace == b.Namespace && a.Name < b.Name
		})
		write(w, http.StatusOK, list)
	})
	mux.HandleFunc("GET /api/v1/analyses/{namespace}/{name}", func(w http.ResponseWriter, r *http.Request) {
		var a v1alpha1.AIAnalysis
		key := client.ObjectKey{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
		err := reader.Get(r.Context(), key, &a)
		switch {
		case apierrors.IsNotFound(err):
			write(w, http.StatusNotFound, Problem{Detail: "analysis " + key.String() + " not found"})
		case err != nil:
			write(w, http.StatusInternalServerError, Problem{Detail: err.Error()})
		default:
			write(w, http.StatusOK, summarize(&a))
		}
	})
	return mux
}

func summarize(a *v1alpha1.AIAnalysis) Summary {
	s := Summary{
		Namespace: a.Namespace, Name: a.Name, SignalType: a.Spec.AnalysisRequest.SignalContext.SignalType,
		Phase: a.Status.Phase, Reason: a.Status.Reason, ApprovalRequired: a.Status.ApprovalRequired,
		Attempts: a.Status.Attempts, FinishedAt: a.Status.FinishedAt,
	}
	if s.Phase == "" {
		s.Phase = v1alpha1.PhasePending
	}
	if w := a.Status.SelectedWorkflow; w != nil {
		s.WorkflowID, s.Confidence = w.WorkflowID, w.Confidence
	}
	return s
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away; there is nobody to tell
}
