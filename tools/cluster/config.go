package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// plan is a spec worked out: the configuration handed to Kind and what it will
// lead to.
type plan struct {
	config       *v1alpha4.Cluster
	inputs       string   // hash of everything the cluster is made of
	nodes        []string // container names of the Kubernetes nodes
	balancer     string   // container name of the load balancer Kind adds; may be empty
	ports        []hostPort
	networkLater bool // the suite brings its own CNI, so nodes may not be ready yet
}

type hostPort struct {
	address  string
	port     int
	protocol v1alpha4.PortMappingProtocol
}

// failCgroupV1 lets a kubelet start on cgroup v1. Kubernetes 1.35 and later
// refuse it by default (KEP-5573).
const failCgroupV1 = "kind: KubeletConfiguration\nfailCgroupV1: false\n"

// newPlan decodes the user's document as Kind does, and changes only what the
// spec asks for: name, added workers, image where a node names none, and the
// kubelet's consent to cgroup v1.
func newPlan(name string, spec Spec) (plan, error) {
	cfg, err := decode(spec.Config)
	if err != nil {
		return plan{}, badConfig(spec, err)
	}
	cfg.Name = name
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []v1alpha4.Node{{Role: v1alpha4.ControlPlaneRole}}
	}
	for range spec.Workers {
		cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole})
	}
	for i := range cfg.Nodes {
		if cfg.Nodes[i].Image == "" {
			cfg.Nodes[i].Image = spec.NodeImage
		}
	}
	if spec.CgroupV1 && needsCgroupV1Consent(spec.ExpectedVersion) {
		// First, so that a patch of the user's wins.
		cfg.KubeadmConfigPatches = append([]string{failCgroupV1}, cfg.KubeadmConfigPatches...)
	}
	p := plan{config: cfg, networkLater: cfg.Networking.DisableDefaultCNI}
	if err := p.derive(name); err != nil {
		return plan{}, badConfig(spec, err)
	}
	canonical, err := yaml.Marshal(cfg)
	if err != nil {
		return plan{}, fmt.Errorf("encode the Kind configuration: %w", err)
	}
	sum := sha256.Sum256(canonical)
	p.inputs = hex.EncodeToString(sum[:])
	return p, nil
}

// HostPorts lists the ports of this host that a cluster of this spec publishes.
// A document that is not Kind's is an error of class configuration.
func (s Spec) HostPorts() ([]int, error) {
	p, err := newPlan("any", s)
	if err != nil {
		return nil, err
	}
	ports := make([]int, 0, len(p.ports))
	for _, hp := range p.ports {
		ports = append(ports, hp.port)
	}
	return ports, nil
}

func badConfig(spec Spec, err error) error {
	name := spec.ConfigName
	if name == "" {
		name = "the Kind configuration"
	}
	return failure.New(failure.Configuration, name+" is not a valid Kind v1alpha4 configuration",
		"correct the field it names; see https://kind.sigs.k8s.io/docs/user/configuration/", err)
}

// decode mirrors Kind's internal encoding.Parse: one strict v1alpha4 document.
func decode(raw []byte) (*v1alpha4.Cluster, error) {
	cfg := &v1alpha4.Cluster{}
	cfg.Kind, cfg.APIVersion = "Cluster", "kind.x-k8s.io/v1alpha4"
	if len(bytes.TrimSpace(raw)) == 0 {
		return cfg, nil
	}
	var head v1alpha4.TypeMeta
	if err := yaml.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	if head != cfg.TypeMeta {
		return nil, fmt.Errorf("kind %q of apiVersion %q, want %q of %q", head.Kind, head.APIVersion, cfg.Kind, cfg.APIVersion)
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return cfg, nil
}

// derive works out the containers and host ports Kind will use, by the rules
// of Kind's common.MakeNodeNamer and providers' planCreation.
func (p *plan) derive(name string) error {
	count := map[v1alpha4.NodeRole]int{}
	for i := range p.config.Nodes {
		n := &p.config.Nodes[i]
		if n.Role == "" {
			n.Role = v1alpha4.ControlPlaneRole
		}
		if n.Role != v1alpha4.ControlPlaneRole && n.Role != v1alpha4.WorkerRole {
			return fmt.Errorf("nodes[%d]: role %q, want control-plane or worker", i, n.Role)
		}
		count[n.Role]++
		container := name + "-" + string(n.Role)
		if count[n.Role] > 1 {
			container += strconv.Itoa(count[n.Role])
		}
		p.nodes = append(p.nodes, container)
		for _, m := range n.ExtraPortMappings {
			if m.HostPort < -1 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
				return fmt.Errorf("nodes[%d]: port mapping %d to %d, want ports from 1 to 65535", i, m.HostPort, m.ContainerPort)
			}
			p.addPort(m.ListenAddress, m.HostPort, m.Protocol)
		}
	}
	if count[v1alpha4.ControlPlaneRole] == 0 {
		return errors.New("no control-plane node, want at least one")
	}
	if count[v1alpha4.ControlPlaneRole] > 1 {
		p.balancer = name + "-external-load-balancer"
	}
	p.addPort(p.config.Networking.APIServerAddress, p.config.Networking.APIServerPort, v1alpha4.PortMappingProtocolTCP)
	return nil
}

func (p *plan) addPort(address string, port int32, protocol v1alpha4.PortMappingProtocol) {
	if port <= 0 { // Kind or the engine picks a free one
		return
	}
	p.ports = append(p.ports, hostPort{address: address, port: int(port), protocol: protocol})
}

// compareNodes says how the containers that exist differ from those that this
// plan would make; empty if they do not.
func (p plan) compareNodes(found []engine.Container) string {
	want := map[string]bool{}
	for _, n := range p.nodes {
		want[n] = true
	}
	if p.balancer != "" {
		want[p.balancer] = true
	}
	var extra, missing []string
	for _, n := range found {
		if !want[n.Name] {
			extra = append(extra, n.Name)
		}
		delete(want, n.Name)
	}
	for n := range want {
		missing = append(missing, n)
	}
	sort.Strings(missing)
	switch {
	case len(missing) > 0:
		return "node missing: " + strings.Join(missing, ", ")
	case len(extra) > 0:
		return "node no longer asked for: " + strings.Join(extra, ", ")
	}
	return ""
}

// needsCgroupV1Consent reports whether this version's kubelet refuses cgroup v1
// unless told otherwise. Older kubelets accept the field, but those before 1.31
// do not know it, so it is not set for them.
func needsCgroupV1Consent(version string) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 1 || minor >= 35)
}
