package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// realCluster makes a cluster and returns its kubeconfig, and two images that
// are on every node: pause, which runs for ever, and kube-apiserver, which ends
// at once with a message when it is given an unknown flag.
func realCluster(t *testing.T) (kubeconfig, pause, apiserver string) {
	t.Helper()
	eng := enginetest.Podman(t)
	t.Setenv("KIND_EXPERIMENTAL_PODMAN_NETWORK", settings.NetworkName)
	c := cluster.Cluster{
		Name: fmt.Sprintf("cl-deploy-%d", os.Getpid()), Provider: eng.Name(), Engine: eng, Network: settings.NetworkName,
		Kubeconfig: filepath.Join(t.TempDir(), "config"), StateDir: t.TempDir(),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Down(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if _, err := c.Up(t.Context(), cluster.Spec{NodeImage: enginetest.NodeImage(t, eng.Name())}); err != nil {
		t.Fatal(err)
	}
	cfg, err := restConfig(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range nodes.Items[0].Status.Images {
		for _, name := range i.Names {
			if strings.Contains(name, "/pause:") {
				pause = name
			}
			if strings.Contains(name, "/kube-apiserver:") {
				apiserver = name
			}
		}
	}
	if pause == "" || apiserver == "" {
		t.Fatalf("images of the node: %+v", nodes.Items[0].Status.Images)
	}
	return c.Kubeconfig, pause, apiserver
}

const workload = `
apiVersion: example.test/v1
kind: Thing
metadata: {name: one}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.test}
spec:
  group: example.test
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: app, image: kubernaut-app, command: [COMMAND]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      containers:
      - {name: each, image: kubernaut-each}
`

func TestDeploy(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a cluster")
	}
	kubeconfig, pause, apiserver := realCluster(t)
	deploy := func(image, command string, loaded bool) (Applied, []Pod, time.Duration, error) {
		text := strings.Replace(workload, "COMMAND", command, 1)
		if command == "" {
			text = strings.Replace(workload, ", command: [COMMAND]", "", 1)
		}
		images := map[string]string{"kubernaut-each": pause}
		if loaded {
			images["kubernaut-app"] = image
		} else {
			text = strings.Replace(text, "image: kubernaut-app", "imagePullPolicy: Never, image: "+image, 1)
		}
		start := time.Now()
		report := func(u progress.Update) { t.Log(time.Since(start).Round(time.Millisecond), u.Line) }
		a, err := Apply(t.Context(), kubeconfig, Options{Files: []string{file(t, "w.yaml", text)}, Images: images, Namespace: "test", Progress: report})
		if err != nil {
			return a, nil, time.Since(start), err
		}
		pods, err := Wait(t.Context(), kubeconfig, a, WaitOptions{Timeout: 2 * time.Minute, Progress: report})
		return a, pods, time.Since(start), err
	}

	_, pods, took, err := deploy(pause, "", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first in %s: %+v", took, pods)
	if len(pods) != 2 || pods[0].Images[pause] == "" {
		t.Errorf("pods %+v", pods)
	}

	a, _, took, err := deploy(pause, "", true)
	if err != nil || a.Changed() != 0 {
		t.Errorf("unchanged: %d changed in %s, %v", a.Changed(), took, err)
	}

	failures := []struct {
		name, image, command string
		loaded               bool
		class                failure.Class
		verdict              failure.Verdict
		want                 string
	}{
		{"crash at start", apiserver, "kube-apiserver, --no-such-flag", true, failure.TestFailure, failure.Code, "unknown flag: --no-such-flag"},
		{"no such program", pause, "/nowhere", true, failure.TestFailure, failure.Code, "no such program"},
		{"loaded image is gone", "localhost/kubernaut-gone:1", "", true, failure.StaleState, failure.Infrastructure, "localhost/kubernaut-gone:1"},
		{"image that nobody loads", "localhost/typo:1", "", false, failure.ImageReference, failure.Misconfigured, "localhost/typo:1"},
	}
	for _, f := range failures {
		_, _, took, err := deploy(f.image, f.command, f.loaded)
		e := failure.As(err)
		if e == nil || e.Class != f.class || e.Verdict(failure.Deploy) != f.verdict || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		t.Logf("%s in %s: %v", f.name, took.Round(time.Millisecond), err)
		if took > 40*time.Second {
			t.Errorf("%s took %s to be seen", f.name, took)
		}
	}
	if a, _, took, err := deploy(pause, "", true); err != nil || a.Changed() != 1 {
		t.Errorf("put right: %d changed in %s, %v", a.Changed(), took, err)
	}

	invalid := file(t, "bad.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: many}\n")
	_, err = Apply(t.Context(), kubeconfig, Options{Files: []string{invalid}, Namespace: "test"})
	if e := failure.As(err); e == nil || e.Class != failure.TestFailure || !strings.Contains(err.Error(), "bad.yaml") {
		t.Errorf("invalid manifest: %v", err)
	}
	unknown := file(t, "kind.yaml", "apiVersion: example.test/v1\nkind: Nothing\nmetadata: {name: a}\n")
	_, err = Apply(t.Context(), kubeconfig, Options{Files: []string{unknown}, Namespace: "test"})
	if e := failure.As(err); e == nil || e.Class != failure.TestFailure || !strings.Contains(err.Error(), "Nothing") {
		t.Errorf("unknown kind: %v", err)
	}
}
