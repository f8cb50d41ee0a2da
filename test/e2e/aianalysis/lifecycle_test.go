package aianalysis

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

var _ = Describe("An analysis", Label("lifecycle"), func() {
	namespace := newNamespace()

	It("leaves conditions, times and events behind", func(ctx SpecContext) {
		a := create(ctx, namespace(), "OOMKilled")
		s := finished(ctx, a, v1alpha1.PhaseCompleted)
		Expect(conditions(s)).To(ConsistOf("Investigated=True/Succeeded", "Analyzed=True/Succeeded", "Ready=True/Succeeded"))
		for _, c := range s.Conditions {
			Expect(c.ObservedGeneration).To(Equal(a.Generation))
		}
		Expect(s.StartedAt).NotTo(BeNil())
		Expect(s.FinishedAt).NotTo(BeNil())
		Expect(s.FinishedAt.Time).NotTo(BeTemporally("<", s.StartedAt.Time))
		Eventually(ctx, events).WithArguments(a).Should(ContainElements("Normal Investigating", "Normal Analyzing", "Normal Completed"))
	})

	It("that is finished is not worked on again", func(ctx SpecContext) {
		a := create(ctx, namespace(), "OOMKilled")
		before := finished(ctx, a, v1alpha1.PhaseCompleted)
		patch := client.MergeFrom(a.DeepCopy())
		a.Annotations = map[string]string{"touched": "true"}
		Expect(kube.Patch(ctx, a, patch)).To(Succeed())
		Consistently(ctx, status).WithArguments(a).Should(Equal(before))
	})

	It("cannot be turned into another", func(ctx SpecContext) {
		a := create(ctx, namespace(), "OOMKilled")
		patch := client.MergeFrom(a.DeepCopy())
		a.Spec.AnalysisRequest.SignalContext.SignalType = "NodeNotReady"
		err := kube.Patch(ctx, a, patch)
		Expect(apierrors.IsInvalid(err)).To(BeTrue(), "got %v", err)
		Expect(err).To(MatchError(ContainSubstring("spec is immutable")))
	})

	It("can be deleted while in progress, and its name used again", func(ctx SpecContext) {
		named := func(a *v1alpha1.AIAnalysis) { a.GenerateName, a.Name = "", "again" }
		first := create(ctx, namespace(), "MOCK_SLOW", named)
		Eventually(ctx, status).WithArguments(first).Should(HaveField("Attempts", BeEquivalentTo(1)))
		Expect(kube.Delete(ctx, first)).To(Succeed())
		Eventually(ctx, gone).WithArguments(first).Should(BeTrue())
		second := create(ctx, namespace(), "OOMKilled", named)
		s := finished(ctx, second, v1alpha1.PhaseCompleted)
		Expect(s.SelectedWorkflow.WorkflowID).To(Equal("pod-increase-memory"))
		Expect(s.Attempts).To(BeEquivalentTo(1))
	})

	It("is one of 50 that begin at once", Label("load"), func(ctx SpecContext) {
		const many = 50
		signals := []string{"OOMKilled", "CrashLoopBackOff", "NodeNotReady", "SomethingElse", "MOCK_NO_WORKFLOW_FOUND"}
		created := make(chan error, many)
		for n := range many {
			go func() {
				created <- kube.Create(ctx, valid(namespace(), signals[n%len(signals)], func(a *v1alpha1.AIAnalysis) {
					a.GenerateName, a.Name = "", fmt.Sprintf("one-of-%02d", n)
				}))
			}()
		}
		for range many {
			Expect(<-created).To(Succeed())
		}
		ended := func() (map[v1alpha1.Phase]int, error) {
			var list v1alpha1.AIAnalysisList
			err := kube.List(ctx, &list, client.InNamespace(namespace()))
			phases := map[v1alpha1.Phase]int{}
			for i := range list.Items {
				phases[list.Items[i].Status.Phase]++
			}
			return phases, err
		}
		Eventually(ctx, ended).Should(Equal(map[v1alpha1.Phase]int{v1alpha1.PhaseCompleted: many * 4 / 5, v1alpha1.PhaseFailed: many / 5}))
	})
})

var _ = Describe("HAPI's errors", Label("errors"), func() {
	namespace := newNamespace()

	It("in the request end the analysis at once", func(ctx SpecContext) {
		s := finished(ctx, create(ctx, namespace(), "MOCK_HTTP_400"), v1alpha1.PhaseFailed)
		Expect(s.Reason).To(Equal(v1alpha1.ReasonHAPIRejected))
		Expect(s.Message).To(ContainSubstring("400"))
		Expect(s.Attempts).To(BeEquivalentTo(1))
	})

	It("of its own are tried again, up to a bound", func(ctx SpecContext) {
		a := create(ctx, namespace(), "MOCK_HTTP_500")
		s := finished(ctx, a, v1alpha1.PhaseFailed)
		Expect(s.Reason).To(Equal(v1alpha1.ReasonHAPIError))
		Expect(s.Message).To(ContainSubstring("500"))
		Expect(s.ServerErrors).To(BeNumerically(">", 1))
		Expect(s.Attempts).To(Equal(s.ServerErrors))
		Expect(conditions(s)).To(ConsistOf("Investigated=False/HAPIError", "Ready=False/HAPIError"))
		Eventually(ctx, events).WithArguments(a).Should(ContainElement("Warning HAPIError"))
	})

	It("that pass are survived", func(ctx SpecContext) {
		s := finished(ctx, create(ctx, namespace(), "MOCK_FLAKY"), v1alpha1.PhaseCompleted)
		Expect(s.Attempts).To(BeEquivalentTo(3))
		Expect(conditions(s)).To(ContainElement("Investigated=True/Succeeded"))
	})
})
