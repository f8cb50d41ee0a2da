package aianalysis

import (
	"encoding/json"
	"net/http"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/summary"
)

var _ = Describe("The controller", Label("endpoints"), func() {
	namespace := newNamespace()

	It("is alive and ready", func(ctx SpecContext) {
		for _, path := range []string{"/healthz", "/readyz"} {
			Eventually(ctx, get).WithArguments(urls["AIANALYSIS_HEALTH_URL"] + path).Should(HaveField("Status", 200))
		}
	})

	It("counts what it does", func(ctx SpecContext) {
		before := metrics(ctx)
		finished(ctx, create(ctx, namespace(), "OOMKilled", environment("production")), v1alpha1.PhaseCompleted)
		finished(ctx, create(ctx, namespace(), "MOCK_NO_WORKFLOW_FOUND"), v1alpha1.PhaseFailed)
		Eventually(ctx, func(g Gomega) {
			after := metrics(ctx)
			grown := func(name string, labels ...string) float64 {
				return sum(after[name], labels...) - sum(before[name], labels...)
			}
			// Other specs run beside this one: at least.
			g.Expect(grown("aianalysis_finished_total", "Completed", "ApprovalRequired")).To(BeNumerically(">=", 1))
			g.Expect(grown("aianalysis_finished_total", "Failed", "NoMatchingWorkflows")).To(BeNumerically(">=", 1))
			g.Expect(grown("aianalysis_hapi_requests_total", "200")).To(BeNumerically(">=", 2))
			g.Expect(grown("aianalysis_phase_transitions_total", "Investigating")).To(BeNumerically(">=", 2))
			g.Expect(grown("aianalysis_hapi_request_duration_seconds")).To(BeNumerically(">=", 2))
			g.Expect(grown("aianalysis_duration_seconds", "Completed")).To(BeNumerically(">=", 1))
			g.Expect(grown("controller_runtime_reconcile_total", "aianalysis", "success")).To(BeNumerically(">=", 2))
		}).Should(Succeed())
	})

	It("serves summaries of analyses", func(ctx SpecContext) {
		done := create(ctx, namespace(), "OOMKilled", environment("production"))
		finished(ctx, done, v1alpha1.PhaseCompleted)
		failed := create(ctx, namespace(), "MOCK_LOW_CONFIDENCE")
		finished(ctx, failed, v1alpha1.PhaseFailed)
		base := urls["AIANALYSIS_API_URL"] + "/api/v1/analyses"

		// The API reads from a cache, which follows the cluster a moment later.
		Eventually(ctx, func(g Gomega) {
			r, err := get(ctx, base+"?namespace="+namespace())
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Status).To(Equal(200))
			var list summary.List
			g.Expect(json.Unmarshal([]byte(r.Body), &list)).To(Succeed())
			g.Expect(list.Items).To(HaveLen(2))
			g.Expect(list.Items).To(ContainElements(
				And(HaveField("Name", done.Name), HaveField("Phase", v1alpha1.PhaseCompleted), HaveField("ApprovalRequired", true),
					HaveField("WorkflowID", "pod-increase-memory"), HaveField("Confidence", "0.92")),
				And(HaveField("Name", failed.Name), HaveField("Phase", v1alpha1.PhaseFailed), HaveField("Reason", "LowConfidence")),
			))
		}).Should(Succeed())

		Expect(get(ctx, base+"/"+namespace()+"/"+done.Name)).To(HaveField("Status", 200))
		Expect(get(ctx, base+"/"+namespace()+"/nobody")).To(And(HaveField("Status", 404), HaveField("Body", ContainSubstring("not found"))))
	})

	It("takes no orders through its API", func(ctx SpecContext) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, urls["AIANALYSIS_API_URL"]+"/api/v1/analyses", strings.NewReader("{}"))
		Expect(err).NotTo(HaveOccurred())
		Expect(send(request)).To(HaveField("Status", http.StatusMethodNotAllowed))
	})
})

func metrics(ctx SpecContext) map[string]*dto.MetricFamily {
	GinkgoHelper()
	r, err := get(ctx, urls["AIANALYSIS_METRICS_URL"]+"/metrics")
	Expect(err).NotTo(HaveOccurred())
	Expect(r.Status).To(Equal(200))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(r.Body))
	Expect(err).NotTo(HaveOccurred())
	return families
}

// sum adds up the samples that carry all the label values: the value of a counter, the number of a histogram's observations.
func sum(family *dto.MetricFamily, values ...string) float64 {
	total := 0.0
	for _, m := range family.GetMetric() {
		carried := map[string]bool{}
		for _, l := range m.GetLabel() {
			carried[l.GetValue()] = true
		}
		wanted := true
		for _, v := range values {
			wanted = wanted && carried[v]
		}
		if wanted {
			total += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}
