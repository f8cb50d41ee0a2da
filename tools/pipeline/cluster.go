package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// cluster is the suite's cluster on the session's engine.
func (s *session) cluster(def settings.Suite) cluster.Cluster {
	name := def.Cluster
	if s.settings.Cluster != "" {
		name = s.settings.Cluster
	}
	return cluster.Cluster{Name: name, Provider: s.connection.Provider, Engine: s.engine, Kubeconfig: kubeconfig(name),
		StateDir: host.DefaultStateDir(), Network: settings.NetworkName, Log: s.log, Progress: s.console.Progress, Lock: s.lock}
}

// kubeconfig is the file of one cluster's credentials, never ~/.kube/config.
func kubeconfig(cluster string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".kube", cluster+"-config")
}

// clusterStep makes the suite's cluster ready.
func (s *session) clusterStep(def settings.Suite) run.Step {
	return run.Step{Name: "cluster", Phase: failure.ClusterCreate, Budget: 15 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			spec, err := s.spec(def)
			if err != nil {
				return run.Outcome{}, err
			}
			c := s.cluster(def)
			c.Progress = report
			state, err := c.Up(ctx, spec)
			if err != nil {
				return run.Outcome{}, err
			}
			s.setNodes(state.Nodes)
			detail := fmt.Sprintf("%s %s, Kubernetes %s, %d node(s)", c.Name, state.Outcome, state.Version, len(state.Nodes))
			if state.Reason != "" {
				detail += ": " + state.Reason
			}
			var heals []run.Heal
			if state.Outcome == cluster.Repaired {
				if err := s.refresh(ctx); err != nil {
					return run.Outcome{}, err
				}
				heals = []run.Heal{{Action: "repair the cluster", Effect: "it is ready again: " + state.Reason, OK: true}}
			}
			return run.Outcome{Skipped: state.Outcome == cluster.Reused, Detail: detail, Heals: heals,
				Works: []run.Work{{What: "the cluster answers", Evidence: detail}}}, nil
		}}
}

// spec is what the suite's cluster is made of. A suite that names no file gets
// Kind's default.
func (s *session) spec(def settings.Suite) (cluster.Spec, error) {
	spec := cluster.Spec{ConfigName: def.KindConfig, Workers: s.settings.Workers, NodeImage: s.node.Ref,
		ExpectedVersion: s.node.KubernetesVersion, CgroupV1: s.info.CgroupVersion == "1", PortHolder: portHolder, BeforeDelete: s.beforeDelete}
	if def.KindConfig == "" {
		return spec, nil
	}
	var err error
	if spec.Config, err = os.ReadFile(filepath.Join(s.root, def.KindConfig)); err != nil {
		return cluster.Spec{}, fmt.Errorf("read Kind configuration: %w", err)
	}
	return spec, nil
}

// portHolder names the program that listens on a port of this host, if that can
// be told.
func portHolder(ctx context.Context, port int) string {
	holder, err := host.PortHolder(ctx, port)
	if err != nil {
		return ""
	}
	return holder
}

// downStep removes the suite's cluster after a pass, unless it is to be kept.
func (s *session) downStep(def settings.Suite) run.Step {
	return run.Step{Name: "cluster-down", Phase: failure.Teardown, Budget: 3 * time.Minute, Stall: removalStall,
		Do: func(ctx context.Context, _ progress.Func) (run.Outcome, error) {
			c := s.cluster(def)
			if s.settings.KeepCluster == "true" {
				return run.Outcome{Skipped: true, Detail: "kept: export KUBECONFIG=" + c.Kubeconfig}, nil
			}
			if err := c.Down(ctx); err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: c.Name + " removed"}, nil
		}}
}
