package aianalysis

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

var _ = Describe("HAPI", Label("hapi"), func() {
	incident := func() api.IncidentRequest {
		return api.IncidentRequest{
			IncidentId: "incident-1", RemediationId: "remediation-1", SignalType: "CrashLoopBackOff", Severity: "warning",
			SignalSource: "e2e", ResourceNamespace: "shop", ResourceKind: "Deployment", ResourceName: "web",
			ErrorMessage: "exit status 1", Environment: "staging", Priority: "P2", RiskTolerance: "medium",
			BusinessCategory: "standard", ClusterName: "e2e",
		}
	}
	post := func(ctx SpecContext, body []byte) *api.AnalyzeIncidentResponse {
		GinkgoHelper()
		r, err := hapi.AnalyzeIncidentWithBodyWithResponse(ctx, "application/json", bytes.NewReader(body))
		Expect(err).NotTo(HaveOccurred())
		return r
	}

	It("is alive, ready, and says how it is configured", func(ctx SpecContext) {
		alive, err := hapi.GetHealthWithResponse(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(alive.StatusCode()).To(Equal(http.StatusOK))
		ready, err := hapi.GetReadyWithResponse(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(ready.StatusCode()).To(Equal(http.StatusOK))
		config, err := hapi.GetConfigWithResponse(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(config.JSON200).NotTo(BeNil())
		Expect(config.JSON200.MockLlmMode).To(BeTrue())
		Expect(config.JSON200.SignalTypes).To(ContainElements("OOMKilled", "MOCK_LOW_CONFIDENCE"))
	})

	DescribeTable("names a required field that is missing",
		func(ctx SpecContext, field string) {
			whole, err := json.Marshal(incident())
			Expect(err).NotTo(HaveOccurred())
			var fields map[string]any
			Expect(json.Unmarshal(whole, &fields)).To(Succeed())
			Expect(fields).To(HaveKey(field))
			delete(fields, field)
			part, err := json.Marshal(fields)
			Expect(err).NotTo(HaveOccurred())
			r := post(ctx, part)
			Expect(r.StatusCode()).To(Equal(http.StatusBadRequest))
			Expect(r.JSON400).NotTo(BeNil())
			Expect(*r.JSON400.Fields).To(ConsistOf(field))
			Expect(r.JSON400.Detail).To(Equal(field + " is missing"))
		},
		Entry(nil, "incident_id"), Entry(nil, "remediation_id"), Entry(nil, "signal_type"), Entry(nil, "severity"),
		Entry(nil, "signal_source"), Entry(nil, "resource_namespace"), Entry(nil, "resource_kind"), Entry(nil, "resource_name"),
		Entry(nil, "error_message"), Entry(nil, "environment"), Entry(nil, "priority"), Entry(nil, "risk_tolerance"),
		Entry(nil, "business_category"), Entry(nil, "cluster_name"),
	)

	It("refuses what is not JSON, and what is too large", func(ctx SpecContext) {
		for _, body := range []string{"", "no JSON", "[]", `"` + strings.Repeat("x", 1<<20) + `"`} {
			r := post(ctx, []byte(body))
			Expect(r.StatusCode()).To(Equal(http.StatusBadRequest))
			Expect(r.JSON400.Detail).NotTo(BeEmpty())
		}
	})

	It("answers a repeated request as it did before", func(ctx SpecContext) {
		ask := func() api.AnalysisResponse {
			r, err := hapi.AnalyzeIncidentWithResponse(ctx, incident())
			Expect(err).NotTo(HaveOccurred())
			Expect(r.JSON200).NotTo(BeNil(), "got %s", r.Status())
			Expect(r.JSON200.Timestamp).To(BeTemporally("~", time.Now(), time.Minute))
			answer := *r.JSON200
			answer.Timestamp = time.Time{}
			return answer
		}
		first := ask()
		Expect(first.IncidentId).To(Equal("incident-1"))
		Expect(first.Confidence).To(Equal(.88))
		Expect(first.AlternativeWorkflows).NotTo(BeEmpty())
		Expect(ask()).To(Equal(first))
	})

	It("keeps a history of the model's invalid answers", func(ctx SpecContext) {
		request := incident()
		request.SignalType = "MOCK_MAX_RETRIES_EXHAUSTED"
		r, err := hapi.AnalyzeIncidentWithResponse(ctx, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.JSON200).NotTo(BeNil(), "got %s", r.Status())
		Expect(r.JSON200.NeedsHumanReview).To(BeTrue())
		Expect(r.JSON200.ValidationAttemptsHistory).To(HaveLen(3))
		Expect(r.JSON200.SelectedWorkflow).To(BeNil())
	})

	It("does not propose a workflow again that did not help", func(ctx SpecContext) {
		i := incident()
		useless := "deployment-roll-back"
		r, err := hapi.AnalyzeRecoveryWithResponse(ctx, api.RecoveryRequest{
			IncidentId: i.IncidentId, RemediationId: i.RemediationId, SignalType: i.SignalType, Severity: i.Severity,
			SignalSource: i.SignalSource, ResourceNamespace: i.ResourceNamespace, ResourceKind: i.ResourceKind,
			ResourceName: i.ResourceName, ErrorMessage: i.ErrorMessage, Environment: i.Environment, Priority: i.Priority,
			RiskTolerance: i.RiskTolerance, BusinessCategory: i.BusinessCategory, ClusterName: i.ClusterName,
			PreviousWorkflowId: &useless,
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(r.JSON200).NotTo(BeNil(), "got %s", r.Status())
		Expect(r.JSON200.SelectedWorkflow).NotTo(BeNil())
		Expect(r.JSON200.SelectedWorkflow.WorkflowId).NotTo(Equal(useless))
	})
})
