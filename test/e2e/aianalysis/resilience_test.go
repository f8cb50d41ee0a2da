package aianalysis

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

// These specs disturb the workload that all specs share: Serial.
var _ = Describe("The workload", Serial, Label("resilience"), func() {
	namespace := newNamespace()

	BeforeEach(func() {
		DeferCleanup(func(ctx SpecContext) {
			scale(ctx, hapiName, 1)
			available(ctx, controller)
		})
	})

	It("goes on when HAPI was down and is back", func(ctx SpecContext) {
		scale(ctx, hapiName, 0)
		waiting := []*v1alpha1.AIAnalysis{create(ctx, namespace(), "OOMKilled"), create(ctx, namespace(), "MOCK_LOW_CONFIDENCE")}
		for _, a := range waiting {
			Eventually(ctx, func() ([]string, error) {
				s, err := status(ctx, a)
				return conditions(s), err
			}).Should(ContainElement("Investigated=False/HAPIUnreachable"))
			Eventually(ctx, events).WithArguments(a).Should(ContainElement("Warning HAPIUnreachable"))
		}
		By("staying ready, since waiting for HAPI is the controller's work")
		Expect(get(ctx, urls["AIANALYSIS_HEALTH_URL"]+"/readyz")).To(HaveField("Status", 200))

		scale(ctx, hapiName, 1)
		Expect(finished(ctx, waiting[0], v1alpha1.PhaseCompleted).Attempts).To(BeNumerically(">", 1))
		Expect(finished(ctx, waiting[1], v1alpha1.PhaseFailed).Reason).To(Equal(v1alpha1.ReasonLowConfidence))
	})

	It("takes up an analysis that the controller left when it was killed", func(ctx SpecContext) {
		// Without HAPI the analysis stays where it is for as long as the restart takes.
		scale(ctx, hapiName, 0)
		a := create(ctx, namespace(), "OOMKilled", environment("production"))
		Eventually(ctx, status).WithArguments(a).Should(And(
			HaveField("Phase", v1alpha1.PhaseInvestigating), HaveField("Reason", v1alpha1.ReasonHAPIUnreachable)))
		restart(ctx, controller)
		before, err := status(ctx, a)
		Expect(err).NotTo(HaveOccurred())
		Expect(before.Phase).To(Equal(v1alpha1.PhaseInvestigating))

		scale(ctx, hapiName, 1)
		s := finished(ctx, a, v1alpha1.PhaseCompleted)
		Expect(s.StartedAt).To(Equal(before.StartedAt), "the analysis began anew instead of going on")
		Expect(s.Attempts).To(BeNumerically(">", before.Attempts))
		Expect(s.ApprovalRequired).To(BeTrue())
	})

	It("finishes analyses whose request was under way when the controller was killed", func(ctx SpecContext) {
		slow := []*v1alpha1.AIAnalysis{create(ctx, namespace(), "MOCK_SLOW"), create(ctx, namespace(), "MOCK_SLOW")}
		for _, a := range slow {
			Eventually(ctx, status).WithArguments(a).Should(HaveField("Attempts", BeEquivalentTo(1)))
		}
		restart(ctx, controller)
		for _, a := range slow {
			// Two, unless this machine was so slow that HAPI answered before the controller was gone.
			s := finished(ctx, a, v1alpha1.PhaseCompleted)
			Expect(s.Attempts).To(BeNumerically("<=", 2))
			AddReportEntry("attempts", s.Attempts)
		}
	})
})

// scale sets a deployment's replicas and waits until there are as many.
func scale(ctx context.Context, name string, replicas int32) {
	GinkgoHelper()
	d := &appsv1.Deployment{}
	Expect(kube.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, d)).To(Succeed())
	patch := client.MergeFrom(d.DeepCopy())
	d.Spec.Replicas = ptr.To(replicas)
	Expect(kube.Patch(ctx, d, patch)).To(Succeed())
	if replicas > 0 {
		available(ctx, name)
		return
	}
	Eventually(ctx, pods).WithArguments(name).Should(BeEmpty())
}

// restart kills a deployment's pods without grace, as a crash would, and waits until others have taken their place.
func restart(ctx context.Context, name string) {
	GinkgoHelper()
	old, err := pods(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	Expect(old).NotTo(BeEmpty())
	Expect(kube.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(system), client.MatchingLabels{"app.kubernetes.io/name": name},
		client.GracePeriodSeconds(0))).To(Succeed())
	Eventually(ctx, pods).WithArguments(name).Should(And(Not(BeEmpty()), Not(ContainElements(old))))
	available(ctx, name)
}

// available waits until a deployment has what it wants, and until the world outside can reach it.
func available(ctx context.Context, name string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		var d appsv1.Deployment
		g.Expect(kube.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &d)).To(Succeed())
		g.Expect(d.Status.ObservedGeneration).To(Equal(d.Generation))
		g.Expect(d.Status.UpdatedReplicas).To(Equal(*d.Spec.Replicas))
		g.Expect(d.Status.AvailableReplicas).To(Equal(*d.Spec.Replicas))
		g.Expect(d.Status.UnavailableReplicas).To(BeZero())
	}).Should(Succeed())
	url := map[string]string{hapiName: urls["HAPI_URL"] + "/ready", controller: urls["AIANALYSIS_HEALTH_URL"] + "/readyz"}[name]
	Eventually(ctx, get).WithArguments(url).Should(HaveField("Status", 200))
}

// pods are the UIDs of a deployment's pods, those that are ending among them; it fits Eventually.
func pods(ctx context.Context, name string) ([]string, error) {
	var list corev1.PodList
	err := kube.List(ctx, &list, client.InNamespace(system), client.MatchingLabels{"app.kubernetes.io/name": name})
	uids := []string{}
	for i := range list.Items {
		uids = append(uids, string(list.Items[i].UID))
	}
	return uids, err
}
