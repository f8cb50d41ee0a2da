// Package aianalysis is the E2E suite of the AIAnalysis controller and HAPI. It knows a cluster that has the workload, by
// KUBECONFIG, and the workload's URLs, by AIANALYSIS_API_URL, AIANALYSIS_METRICS_URL, AIANALYSIS_HEALTH_URL and HAPI_URL. How
// the cluster came to be is none of its business.
package aianalysis

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// The workload as its manifests name it.
const (
	system     = "kubernaut-system"
	controller = "aianalysis-controller"
	hapiName   = "hapi"
)

// What every spec uses; set once in each process, before the first spec.
var (
	kube client.Client
	hapi *api.ClientWithResponses
	urls map[string]string
)

// variables are what the suite needs from its environment.
func variables() []string {
	return []string{"KUBECONFIG", "AIANALYSIS_API_URL", "AIANALYSIS_METRICS_URL", "AIANALYSIS_HEALTH_URL", "HAPI_URL"}
}

func TestAIAnalysis(t *testing.T) {
	var missing []string
	for _, v := range variables() {
		if os.Getenv(v) == "" {
			missing = append(missing, v)
		}
	}
	byGinkgo := slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(strings.TrimLeft(a, "-"), "ginkgo.") })
	switch message := "the E2E suite needs a cluster with the workload; not set: " + strings.Join(missing, ", "); {
	case len(missing) == len(variables()) && !byGinkgo:
		// A plain `go test ./...` on a machine without a cluster.
		t.Skip(message)
	case len(missing) > 0:
		t.Fatal(message)
	}
	RegisterFailHandler(Fail)
	RunSpecs(t, "AIAnalysis")
}

var _ = SynchronizedBeforeSuite(func(ctx SpecContext) {
	connect()
	By("waiting until the workload answers")
	for _, name := range []string{hapiName, controller} {
		Eventually(ctx, func(g Gomega) {
			var d appsv1.Deployment
			g.Expect(kube.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &d)).To(Succeed())
			g.Expect(d.Status.AvailableReplicas).To(BeNumerically(">=", 1), "deployment %s has no available pod", name)
		}).Should(Succeed())
	}
	for _, url := range []string{urls["AIANALYSIS_HEALTH_URL"] + "/readyz", urls["HAPI_URL"] + "/ready"} {
		// More than once: until kube-proxy has heard of a pod's end, some connections still go to that pod.
		Eventually(ctx, get).WithArguments(url).WithPolling(20 * time.Millisecond).MustPassRepeatedly(15).Should(HaveField("Status", 200))
	}
}, func() { connect() }, NodeTimeout(3*time.Minute))

func connect() {
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(90 * time.Second)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	SetDefaultConsistentlyDuration(1500 * time.Millisecond)
	SetDefaultConsistentlyPollingInterval(150 * time.Millisecond)

	urls = map[string]string{}
	for _, v := range variables()[1:] {
		urls[v] = strings.TrimRight(os.Getenv(v), "/")
	}
	path := os.Getenv("KUBECONFIG")
	config, err := clientcmd.BuildConfigFromFlags("", path)
	Expect(err).NotTo(HaveOccurred(), fmt.Sprintf("KUBECONFIG=%s", path))
	config.QPS, config.Burst = 100, 200
	config.Timeout = 30 * time.Second // a cluster that is gone ends a spec, it does not hang it
	scheme := runtime.NewScheme()
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	kube, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	hapi, err = api.NewClientWithResponses(urls["HAPI_URL"], api.WithHTTPClient(httpClient()))
	Expect(err).NotTo(HaveOccurred())
}
