package aianalysis

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
)

var _ = Describe("The schema", Label("schema"), func() {
	namespace := newNamespace()

	// invalid is a valid object with the field at path (dotted, below spec) replaced; a nil value removes it.
	invalid := func(path string, value any) *unstructured.Unstructured {
		GinkgoHelper()
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(valid(namespace(), "OOMKilled"))
		Expect(err).NotTo(HaveOccurred())
		u := &unstructured.Unstructured{Object: content}
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AIAnalysis"))
		unstructured.RemoveNestedField(u.Object, "status")
		fields := append([]string{"spec"}, strings.Split(path, ".")...)
		if value == nil {
			unstructured.RemoveNestedField(u.Object, fields...)
		} else {
			Expect(unstructured.SetNestedField(u.Object, value, fields...)).To(Succeed())
		}
		return u
	}

	DescribeTable("rejects",
		func(ctx SpecContext, path string, value any, message string) {
			err := kube.Create(ctx, invalid(path, value))
			Expect(apierrors.IsInvalid(err)).To(BeTrue(), "got %v", err)
			Expect(err.Error()).To(And(ContainSubstring("spec."+path), ContainSubstring(message)))
		},
		Entry("no remediation ID", "remediationId", nil, "Required value"),
		Entry("an empty remediation ID", "remediationId", "", "at least 1 char"),
		Entry("no remediation request", "remediationRequestRef", nil, "Required value"),
		Entry("no request", "analysisRequest", nil, "Required value"),
		Entry("no signal", "analysisRequest.signalContext", nil, "Required value"),
		Entry("no signal type", "analysisRequest.signalContext.signalType", nil, "Required value"),
		Entry("an empty fingerprint", "analysisRequest.signalContext.fingerprint", "", "at least 1 char"),
		Entry("a fingerprint that is too long", "analysisRequest.signalContext.fingerprint", strings.Repeat("f", 129), "Too long"),
		Entry("an unknown severity", "analysisRequest.signalContext.severity", "dreadful", "Unsupported value"),
		Entry("an unknown environment", "analysisRequest.signalContext.environment", "moon", "Unsupported value"),
		Entry("a priority that is none", "analysisRequest.signalContext.businessPriority", "P9", "should match"),
		Entry("a number for a text", "analysisRequest.signalContext.severity", int64(1), "must be of type string"),
		Entry("no target", "analysisRequest.signalContext.targetResource", nil, "Required value"),
		Entry("a target without a name", "analysisRequest.signalContext.targetResource.name", nil, "Required value"),
		Entry("no types of analysis", "analysisRequest.analysisTypes", []any{}, "at least 1 item"),
		Entry("an unknown type of analysis", "analysisRequest.analysisTypes", []any{"guess"}, "Unsupported value"),
		Entry("a type of analysis twice", "analysisRequest.analysisTypes", []any{"root-cause", "root-cause"}, "Duplicate value"),
	)
})
