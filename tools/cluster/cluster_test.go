package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kind "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// fakeEngine holds containers in memory.
type fakeEngine struct {
	mu         sync.Mutex
	containers []engine.Container
}

func (f *fakeEngine) set(c ...engine.Container) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers = c
}

func (f *fakeEngine) Containers(_ context.Context, labels ...string) ([]engine.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []engine.Container
	for _, c := range f.containers {
		has := true
		for _, l := range labels {
			key, value, exact := strings.Cut(l, "=")
			got, ok := c.Labels[key]
			has = has && ok && (!exact || got == value)
		}
		if has {
			found = append(found, c)
		}
	}
	return found, nil
}

func (f *fakeEngine) Started(context.Context, string) (time.Time, error)  { return time.Time{}, nil }
func (f *fakeEngine) StartContainer(context.Context, string) error        { return nil }
func (f *fakeEngine) KillContainer(context.Context, string, string) error { return nil }

// fakeKind fails to create, after having made a container, as Kind does when a
// node does not come up.
type fakeKind struct {
	engine *fakeEngine
	node   engine.Container
	err    error
	wait   chan struct{} // closed: Create returns
	config string        // what KubeConfig gives; empty: an error
}

func (f *fakeKind) Create(string, ...kind.CreateOption) error {
	f.engine.set(f.node)
	if f.wait != nil {
		<-f.wait
	}
	return f.err
}

func (f *fakeKind) Delete(string, string) error {
	f.engine.set()
	return nil
}
func (f *fakeKind) KubeConfig(string, bool) (string, error) {
	if f.config == "" {
		return "", errors.New("no cluster")
	}
	return f.config, nil
}
func (f *fakeKind) CollectLogs(string, string) error { return nil }
func (f *fakeKind) ListInternalNodes(string) ([]nodes.Node, error) {
	return nil, nil
}

func node(name, suffix string) engine.Container {
	return engine.Container{Name: name + suffix, State: "running", Labels: map[string]string{KindLabel: name, "kubernaut-e2e": "true"}}
}

func faked(t *testing.T, containers ...engine.Container) (Cluster, *fakeKind) {
	t.Helper()
	eng := &fakeEngine{containers: containers}
	k := &fakeKind{engine: eng, node: node("a", "-control-plane"), err: errors.New("node refused")}
	return Cluster{
		Name: "a", Provider: "podman", Engine: eng, StateDir: t.TempDir(),
		Kubeconfig: filepath.Join(t.TempDir(), "a-config"), kind: k,
	}, k
}

func TestUpRemovesWhatKindCouldNotFinish(t *testing.T) {
	c, k := faked(t)
	var evidence []string
	_, err := c.Up(t.Context(), Spec{BeforeDelete: func(_ context.Context, reason string) {
		evidence = append(evidence, reason)
		if len(k.engine.containers) != 1 {
			t.Error("evidence was asked for after the deletion")
		}
	}})
	if !errors.Is(err, k.err) || len(evidence) != 1 {
		t.Fatalf("error %v, evidence %q", err, evidence)
	}
	if len(k.engine.containers) != 0 || len(Records(c.StateDir)) != 0 {
		t.Errorf("left: %v, %v", k.engine.containers, Records(c.StateDir))
	}
}

func TestUpMakesAHalfMadeClusterAgain(t *testing.T) {
	c, k := faked(t, node("a", "-control-plane"))
	if err := c.writeRecord(false, nil); err != nil {
		t.Fatal(err)
	}
	reason := ""
	_, err := c.Up(t.Context(), Spec{BeforeDelete: func(_ context.Context, r string) {
		if reason == "" {
			reason = r
		}
	}})
	if !errors.Is(err, k.err) || !strings.Contains(reason, "ended while it made") {
		t.Fatalf("error %v, reason %q", err, reason)
	}
}

func TestUpRefusesForeignCluster(t *testing.T) {
	foreign := node("a", "-control-plane")
	delete(foreign.Labels, "kubernaut-e2e")
	c, k := faked(t, foreign)
	for name, call := range map[string]func() error{
		"up":   func() error { _, err := c.Up(t.Context(), Spec{}); return err },
		"down": func() error { return c.Down(t.Context()) },
	} {
		err := call()
		if e := failure.As(err); e == nil || e.Class != failure.Configuration || !strings.Contains(e.Remedy, "E2E_CLUSTER") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(k.engine.containers) != 1 {
		t.Error("the foreign cluster was touched")
	}
	k.engine.containers[0].Labels["kubernaut-e2e"] = "true" // inherited from our node image
	c.Network, k.engine.containers[0].Networks = "mine", []string{"kind"}
	if err := c.Down(t.Context()); failure.As(err) == nil {
		t.Errorf("a cluster made by hand of our node image: %v", err)
	}
	k.engine.containers[0].Networks = []string{"mine"}
	if err := c.Down(t.Context()); err != nil {
		t.Errorf("a cluster on our network: %v", err)
	}
}

func TestPlan(t *testing.T) {
	const head = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
	tests := []struct {
		name, config string
		spec         Spec
		nodes        []string
		ports        int
		err          string
	}{
		{name: "default", nodes: []string{"a-control-plane"}},
		{name: "workers added", spec: Spec{Workers: 2}, nodes: []string{"a-control-plane", "a-worker", "a-worker2"}},
		{name: "user's nodes", config: head + "name: other\nnodes:\n- role: control-plane\n- role: control-plane\n- role: worker\n  extraPortMappings:\n  - {containerPort: 30084, hostPort: 8084}\n",
			nodes: []string{"a-control-plane", "a-control-plane2", "a-worker"}, ports: 1},
		{name: "fixed API port", config: head + "networking: {apiServerPort: 6444}\n", nodes: []string{"a-control-plane"}, ports: 1},
		{name: "unknown field", config: head + "nodez: []\n", err: "nodez"},
		{name: "other version", config: "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3\n", err: "v1alpha3"},
		{name: "unknown role", config: head + "nodes:\n- role: boss\n", err: "boss"},
		{name: "no control plane", config: head + "nodes:\n- role: worker\n", err: "no control-plane"},
		{name: "no port", config: head + "nodes:\n- extraPortMappings:\n  - {containerPort: 70000, hostPort: 1}\n", err: "70000"},
		{name: "torn", config: "kind: [", err: "yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Config, tt.spec.ConfigName = []byte(tt.config), "my.yaml"
			p, err := newPlan("a", tt.spec)
			if tt.err != "" {
				if e := failure.As(err); e == nil || e.Class != failure.Configuration || !strings.Contains(err.Error(), tt.err) || !strings.Contains(e.Cause, "my.yaml") {
					t.Fatalf("error %v, want one of class configuration with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(p.nodes, tt.nodes) || len(p.ports) != tt.ports || p.config.Name != "a" {
				t.Errorf("nodes %v, ports %v, name %s", p.nodes, p.ports, p.config.Name)
			}
		})
	}
}

func TestPlanInputs(t *testing.T) {
	inputs := func(s Spec) string {
		p, err := newPlan("a", s)
		if err != nil {
			t.Fatal(err)
		}
		return p.inputs
	}
	base := inputs(Spec{NodeImage: "x:1"})
	for name, s := range map[string]Spec{
		"image": {NodeImage: "x:2"}, "workers": {NodeImage: "x:1", Workers: 1},
		"config": {NodeImage: "x:1", Config: []byte("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nfeatureGates: {A: true}\n")},
		"cgroup": {NodeImage: "x:1", CgroupV1: true, ExpectedVersion: "v1.35.0"},
	} {
		if inputs(s) == base {
			t.Errorf("%s does not count", name)
		}
	}
	if inputs(Spec{NodeImage: "x:1", CgroupV1: true, ExpectedVersion: "v1.34.4"}) != base {
		t.Error("Kubernetes 1.34 needs no consent to cgroup v1")
	}
}

func TestHostPortsAreThoseOfTheDocument(t *testing.T) {
	spec := Spec{Config: []byte(`kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {apiServerPort: 6443}
nodes:
- role: control-plane
  extraPortMappings:
  - {containerPort: 80, hostPort: 8080}
  - {containerPort: 81, hostPort: -1}
- role: worker
  extraPortMappings: [{containerPort: 82, hostPort: 8082}]
`)}
	got, err := spec.HostPorts()
	if want := []int{8080, 8082, 6443}; err != nil || !slices.Equal(got, want) {
		t.Errorf("ports %v, %v; want %v", got, err, want)
	}
	if _, err := (Spec{Config: []byte("kind: Pod")}).HostPorts(); failure.As(err) == nil {
		t.Errorf("a document that is not Kind's: %v", err)
	}
}
