package aianalysis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// newNamespace gives each spec of a container a namespace of its own, and on failure shows what is in it.
func newNamespace() func() string {
	var name string
	BeforeEach(func(ctx SpecContext) {
		ns := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "aianalysis-e2e-"}}
		Expect(kube.Create(ctx, &ns)).To(Succeed())
		name = ns.Name
		DeferCleanup(func(ctx SpecContext) {
			if CurrentSpecReport().Failed() {
				describe(ctx, name)
			}
			Expect(client.IgnoreNotFound(kube.Delete(ctx, &ns))).To(Succeed())
		})
	})
	return func() string { return name }
}

// describe adds what happened in a namespace, and the workload's pods, to the report of a failed spec.
func describe(ctx context.Context, namespace string) {
	var analyses v1alpha1.AIAnalysisList
	var happened eventsv1.EventList
	var workload corev1.PodList
	err := errors.Join(kube.List(ctx, &analyses, client.InNamespace(namespace)), kube.List(ctx, &happened, client.InNamespace(namespace)),
		kube.List(ctx, &workload, client.InNamespace(system)))
	var lines []string
	if err != nil {
		lines = append(lines, err.Error())
	}
	for i := range analyses.Items {
		text, _ := json.Marshal(analyses.Items[i].Status)
		lines = append(lines, fmt.Sprintf("analysis %s: %s", analyses.Items[i].Name, text))
	}
	for _, e := range happened.Items {
		lines = append(lines, fmt.Sprintf("event %s %s: %s", e.Type, e.Reason, e.Note))
	}
	for i := range workload.Items {
		text, _ := json.Marshal(workload.Items[i].Status.ContainerStatuses)
		lines = append(lines, fmt.Sprintf("pod %s %s: %s", workload.Items[i].Name, workload.Items[i].Status.Phase, text))
	}
	AddReportEntry("state of "+namespace, strings.Join(lines, "\n"), ReportEntryVisibilityFailureOrVerbose)
}

// edit changes an analysis before it is created.
type edit func(*v1alpha1.AIAnalysis)

func environment(e string) edit {
	return func(a *v1alpha1.AIAnalysis) { a.Spec.AnalysisRequest.SignalContext.Environment = e }
}

func types(t ...v1alpha1.AnalysisType) edit {
	return func(a *v1alpha1.AIAnalysis) { a.Spec.AnalysisRequest.AnalysisTypes = t }
}

func target(kind, name, namespace string) edit {
	return func(a *v1alpha1.AIAnalysis) {
		a.Spec.AnalysisRequest.SignalContext.TargetResource = v1alpha1.TargetResource{Kind: kind, Name: name, Namespace: namespace}
	}
}

func owned(a *v1alpha1.AIAnalysis) {
	a.Spec.AnalysisRequest.SignalContext.EnrichmentResults.OwnerChain = []v1alpha1.TargetResource{
		{Kind: "ReplicaSet", Name: "web-1", Namespace: "shop"}, {Kind: "Deployment", Name: "web", Namespace: "shop"},
	}
}

// valid is an analysis that the schema accepts.
func valid(namespace, signal string, edits ...edit) *v1alpha1.AIAnalysis {
	a := &v1alpha1.AIAnalysis{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "analysis-", Namespace: namespace},
		Spec: v1alpha1.AIAnalysisSpec{
			RemediationRequestRef: corev1.ObjectReference{APIVersion: "kubernaut.ai/v1alpha1", Kind: "RemediationRequest", Name: "rr", Namespace: namespace},
			RemediationID:         "remediation-1",
			AnalysisRequest: v1alpha1.AnalysisRequest{
				AnalysisTypes: []v1alpha1.AnalysisType{v1alpha1.IncidentAnalysis, v1alpha1.RootCause, v1alpha1.WorkflowSelection},
				SignalContext: v1alpha1.SignalContext{
					Fingerprint: "a1b2c3", Severity: "critical", SignalType: signal, Environment: "staging", BusinessPriority: "P1",
					TargetResource: v1alpha1.TargetResource{Kind: "Pod", Name: "web-1-abcde", Namespace: "shop"},
				},
			},
		},
	}
	for _, e := range edits {
		e(a)
	}
	return a
}

// create creates a valid analysis.
func create(ctx context.Context, namespace, signal string, edits ...edit) *v1alpha1.AIAnalysis {
	GinkgoHelper()
	a := valid(namespace, signal, edits...)
	Expect(kube.Create(ctx, a)).To(Succeed())
	return a
}

// status reads an analysis' status afresh; it fits Eventually.
func status(ctx context.Context, a *v1alpha1.AIAnalysis) (v1alpha1.AIAnalysisStatus, error) {
	var got v1alpha1.AIAnalysis
	err := kube.Get(ctx, client.ObjectKeyFromObject(a), &got)
	return got.Status, err
}

// finished waits for the end of an analysis.
func finished(ctx context.Context, a *v1alpha1.AIAnalysis, phase v1alpha1.Phase) v1alpha1.AIAnalysisStatus {
	GinkgoHelper()
	var s v1alpha1.AIAnalysisStatus
	Eventually(ctx, func(g Gomega) {
		var err error
		s, err = status(ctx, a)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(s.Phase.Final()).To(BeTrue(), "%s/%s is still %q: %s", a.Namespace, a.Name, s.Phase, s.Message)
	}).Should(Succeed())
	Expect(s.Phase).To(Equal(phase), "reason %s: %s", s.Reason, s.Message)
	return s
}

// condition is "TYPE=STATUS/REASON" of each condition, which reads well in a failure.
func conditions(s v1alpha1.AIAnalysisStatus) []string {
	var all []string
	for _, c := range s.Conditions {
		all = append(all, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return all
}

// events are the reasons of the events about an analysis, with their type.
func events(ctx context.Context, a *v1alpha1.AIAnalysis) ([]string, error) {
	var list eventsv1.EventList
	if err := kube.List(ctx, &list, client.InNamespace(a.Namespace)); err != nil {
		return nil, err
	}
	var all []string
	for _, e := range list.Items {
		if e.Regarding.UID == a.UID {
			all = append(all, e.Type+" "+e.Reason)
		}
	}
	return all, nil
}

// response is an HTTP answer, read whole.
type response struct {
	Status int
	Body   string
}

// httpClient keeps no connection: through a NodePort it would lead to one pod, even when that is gone.
func httpClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// get fits Eventually.
func get(ctx context.Context, url string) (response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return response{}, err
	}
	return send(request)
}

func send(request *http.Request) (response, error) {
	r, err := httpClient().Do(request)
	if err != nil {
		return response{}, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return response{Status: r.StatusCode, Body: string(body)}, err
}

// gone fits Eventually: whether an analysis is no longer there.
func gone(ctx context.Context, a *v1alpha1.AIAnalysis) bool {
	_, err := status(ctx, a)
	return apierrors.IsNotFound(err)
}
