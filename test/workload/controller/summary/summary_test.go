package summary

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

func TestHandler(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	analysis := func(namespace, name string, status v1alpha1.AIAnalysisStatus) *v1alpha1.AIAnalysis {
		return &v1alpha1.AIAnalysis{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Status: status}
	}
	handler := Handler(fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		analysis("b", "one", v1alpha1.AIAnalysisStatus{}),
		analysis("a", "two", v1alpha1.AIAnalysisStatus{Phase: v1alpha1.PhaseCompleted, SelectedWorkflow: &v1alpha1.SelectedWorkflow{WorkflowID: "w", Confidence: "0.92"}}),
		analysis("a", "one", v1alpha1.AIAnalysisStatus{Phase: v1alpha1.PhaseFailed, Reason: v1alpha1.ReasonLowConfidence}),
	).Build())
	const (
		aOne = `{"namespace":"a","name":"one","signalType":"","phase":"Failed","reason":"LowConfidence","approvalRequired":false,"attempts":0}`
		aTwo = `{"namespace":"a","name":"two","signalType":"","phase":"Completed","workflowId":"w","confidence":"0.92","approvalRequired":false,"attempts":0}`
		bOne = `{"namespace":"b","name":"one","signalType":"","phase":"Pending","approvalRequired":false,"attempts":0}`
	)
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/api/v1/analyses", 200, `{"items":[` + aOne + "," + aTwo + "," + bOne + `]}`},
		{"GET", "/api/v1/analyses?namespace=b", 200, `{"items":[` + bOne + `]}`},
		{"GET", "/api/v1/analyses?namespace=none", 200, `{"items":[]}`},
		{"GET", "/api/v1/analyses/a/two", 200, aTwo},
		{"GET", "/api/v1/analyses/a/three", 404, `{"detail":"analysis a/three not found"}`},
		{"POST", "/api/v1/analyses", 405, "Method Not Allowed"},
		{"DELETE", "/api/v1/analyses/a/two", 405, "Method Not Allowed"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
			if got := strings.TrimSpace(w.Body.String()); w.Code != c.status || got != c.body {
				t.Errorf("got %d %s, want %d %s", w.Code, got, c.status, c.body)
			}
		})
	}
}
