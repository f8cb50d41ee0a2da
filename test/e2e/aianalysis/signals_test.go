package aianalysis

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

var _ = Describe("A signal", Label("signals"), func() {
	namespace := newNamespace()

	DescribeTable("is analysed to its end",
		func(ctx SpecContext, signal, confidence, workflow string, edits ...edit) {
			s := finished(ctx, create(ctx, namespace(), signal, edits...), v1alpha1.PhaseCompleted)
			Expect(s.RootCause).NotTo(BeNil())
			Expect(s.RootCause.Summary).NotTo(BeEmpty())
			Expect(s.RootCause.Severity).To(Equal("critical"))
			Expect(s.RootCause.ContributingFactors).NotTo(BeEmpty())
			Expect(s.SelectedWorkflow).NotTo(BeNil())
			Expect(s.SelectedWorkflow.Confidence).To(Equal(confidence))
			Expect(s.SelectedWorkflow.WorkflowID).To(Equal(workflow))
			Expect(s.ApprovalRequired).To(BeFalse())
			Expect(s.Attempts).To(BeEquivalentTo(1))
		},
		Entry("OOMKilled", "OOMKilled", "0.92", "pod-increase-memory"),
		Entry("CrashLoopBackOff", "CrashLoopBackOff", "0.88", "deployment-roll-back", target("Deployment", "web", "shop")),
		Entry("NodeNotReady, about an object without a namespace", "NodeNotReady", "0.90", "node-drain-node", target("Node", "worker-1", "")),
		Entry("a signal the model does not know", "SomethingElse", "0.75", "pod-generic"),
	)

	DescribeTable("that has no safe answer ends as Failed and says why",
		func(ctx SpecContext, signal, reason, confidence string) {
			a := create(ctx, namespace(), signal)
			s := finished(ctx, a, v1alpha1.PhaseFailed)
			Expect(s.Reason).To(Equal(reason))
			Expect(s.Message).NotTo(BeEmpty())
			Expect(s.Warnings).NotTo(BeEmpty())
			Expect(s.RootCause).NotTo(BeNil())
			Expect(conditions(s)).To(ConsistOf("Investigated=True/Succeeded", "Analyzed=False/"+reason, "Ready=False/"+reason))
			if confidence == "" {
				Expect(s.SelectedWorkflow).To(BeNil())
			} else {
				Expect(s.SelectedWorkflow.Confidence).To(Equal(confidence))
			}
			Eventually(ctx, events).WithArguments(a).Should(ContainElement("Warning " + reason))
		},
		Entry("no workflow fits", "MOCK_NO_WORKFLOW_FOUND", v1alpha1.ReasonNoMatchingWorkflows, ""),
		Entry("confidence is too low", "MOCK_LOW_CONFIDENCE", v1alpha1.ReasonLowConfidence, "0.35"),
		Entry("the model gives no valid answer", "MOCK_MAX_RETRIES_EXHAUSTED", v1alpha1.ReasonLLMParsingError, ""),
	)

	It("whose owners are known brings no warning", func(ctx SpecContext) {
		s := finished(ctx, create(ctx, namespace(), "OOMKilled", owned), v1alpha1.PhaseCompleted)
		Expect(s.Warnings).To(BeEmpty())
	})

	It("whose owners are unknown brings a warning", func(ctx SpecContext) {
		s := finished(ctx, create(ctx, namespace(), "OOMKilled"), v1alpha1.PhaseCompleted)
		Expect(s.Warnings).To(ContainElement(ContainSubstring("owner chain")))
	})

	It("after a failed workflow goes to HAPI's recovery analysis", func(ctx SpecContext) {
		s := finished(ctx, create(ctx, namespace(), "OOMKilled", owned, types(v1alpha1.RecoveryAnalysis)), v1alpha1.PhaseCompleted)
		Expect(s.Warnings).To(ConsistOf(ContainSubstring("earlier workflow")))
	})
})

var _ = Describe("Policy", Label("approval"), func() {
	namespace := newNamespace()

	DescribeTable("asks for approval",
		func(ctx SpecContext, where string, approval bool) {
			s := finished(ctx, create(ctx, namespace(), "OOMKilled", environment(where)), v1alpha1.PhaseCompleted)
			Expect(s.ApprovalRequired).To(Equal(approval))
			reason := v1alpha1.ReasonSucceeded
			if approval {
				reason = v1alpha1.ReasonApprovalRequired
			}
			Expect(s.Reason).To(Equal(reason))
			Expect(conditions(s)).To(ContainElements("Analyzed=True/"+reason, "Ready=True/"+reason))
		},
		Entry("in production", "production", true),
		Entry("not in staging", "staging", false),
		Entry("not in development", "development", false),
		Entry("not in test", "test", false),
	)
})
