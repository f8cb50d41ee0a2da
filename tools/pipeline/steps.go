package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/deploy"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/hapi"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
	"github.com/jordigilh/kubernaut-e2e/tools/suite"
)

// stall is the longest time a step may show nothing. Every step reports at
// least every few seconds while it moves.
const stall = 5 * time.Minute

const engineStepName = "engine"

// engineStep finds or starts the engine and connects to it.
func (s *session) engineStep() run.Step {
	return run.Step{Name: engineStepName, Phase: failure.Preflight, Budget: 10 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			if err := s.connect(ctx, report); err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%s at %s, %s/%s", s.describeEngine(), s.connection.URL, s.info.OS, s.info.Arch)
			return run.Outcome{Skipped: !s.connection.Started && len(s.connection.Changes) == 0, Detail: detail,
				Works: []run.Work{{What: "the engine answers", Evidence: detail}}}, nil
		}}
}

// connect makes s.engine an engine that answered a moment ago. Its environment
// becomes this process's own, because Kind calls the engine's program.
func (s *session) connect(ctx context.Context, report progress.Func) error {
	provider := s.settings.Provider
	if s.connection.Provider != "" {
		provider = s.connection.Provider // chosen once in a run
	}
	connection, err := host.EnsureEngine(ctx, host.Options{Provider: provider, AllowInstall: true, Log: s.log, Progress: report})
	if err != nil {
		return err
	}
	named := os.Getenv("CONTAINER_HOST") != ""
	if err := setenv(append(connection.Env, networkEnv(connection.Provider)...)); err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Provider: connection.Provider, Log: s.log})
	if err != nil {
		return err
	}
	if connection.Ours && connection.Provider == engine.Podman && !named {
		// Kind's podman works on the same storage by itself. As a remote client
		// of our service, Podman 4.3 at times loses a program's output.
		if err := os.Unsetenv("CONTAINER_HOST"); err != nil {
			return err
		}
	}
	info, err := e.Info(ctx)
	if err != nil {
		return err
	}
	s.connection, s.engine, s.info = connection, e, info
	s.rememberNeighbours(ctx)
	return nil
}

// setenv makes entries NAME=value part of this process's environment.
func setenv(entries []string) error {
	for _, kv := range entries {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// networkEnv gives Kind a network of this project's own, unless the user named
// one (Kind: pkg/cluster/internal/providers/*/network.go).
func networkEnv(provider string) []string {
	name := "KIND_EXPERIMENTAL_" + strings.ToUpper(provider) + "_NETWORK"
	if os.Getenv(name) != "" {
		return nil
	}
	return []string{name + "=" + settings.NetworkName}
}

// buildStep makes one image of the workload present in the engine.
func (s *session) buildStep(image settings.Image) run.Step {
	return run.Step{Name: "build-" + image.Name, Phase: failure.Build, Budget: 30 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			built, err := hapi.Ensure(ctx, s.engine, hapi.Request{Root: s.root, Work: filepath.Join(s.settings.State, "build"),
				Image: s.withSettings(image), Platform: "linux/" + s.info.Arch}, report)
			if err != nil {
				return run.Outcome{}, err
			}
			s.mu.Lock()
			s.images[image.Name] = built
			s.mu.Unlock()
			return run.Outcome{Skipped: !built.Built, Detail: built.Ref,
				Works: []run.Work{{What: "the image of " + image.Name + " is built", Evidence: built.Ref + " is " + built.ID}}}, nil
		}}
}

// withSettings applies the HAPI_ settings to the image they are for.
func (s *session) withSettings(image settings.Image) settings.Image {
	if image.Name != "hapi" {
		return image
	}
	if s.settings.HAPIContext != "" {
		image.Context, image.Program, image.Args = s.settings.HAPIContext, "", nil
	}
	if s.settings.HAPIDockerfile != "" {
		image.Dockerfile = s.settings.HAPIDockerfile
	}
	if s.settings.HAPIPayloadMB > 0 {
		args := map[string]string{"PAYLOAD_MB": strconv.Itoa(s.settings.HAPIPayloadMB)}
		for k, v := range image.Args {
			if k != "PAYLOAD_MB" {
				args[k] = v
			}
		}
		image.Args = args
	}
	return image
}

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
			s.nodes = state.Nodes
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

// spec is what the suite's cluster is made of.
func (s *session) spec(def settings.Suite) (cluster.Spec, error) {
	config, err := os.ReadFile(filepath.Join(s.root, def.KindConfig))
	if err != nil {
		return cluster.Spec{}, fmt.Errorf("read Kind configuration: %w", err)
	}
	return cluster.Spec{Config: config, ConfigName: def.KindConfig, Workers: s.settings.Workers, NodeImage: s.node.Ref,
		ExpectedVersion: s.node.KubernetesVersion, CgroupV1: s.info.CgroupVersion == "1", PortHolder: portHolder, BeforeDelete: s.beforeDelete}, nil
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

// compileStep compiles the suite while the cluster starts.
func (s *session) compileStep(def settings.Suite) run.Step {
	return run.Step{Name: "compile", Phase: failure.Build, Budget: 15 * time.Minute, Stall: 10 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			if err := s.suiteBuild(def).Compile(ctx, report); err != nil {
				return run.Outcome{}, err
			}
			return run.Outcome{Detail: def.Tests, Works: []run.Work{{What: "the suite compiles", Evidence: def.Tests}}}, nil
		}}
}

func (s *session) suiteBuild(def settings.Suite) suite.Build {
	return suite.Build{Root: s.root, Dir: filepath.Join(s.settings.State, "build", "suites"), Package: def.Tests}
}

// deployStep applies the workload and waits until it runs.
func (s *session) deployStep(def settings.Suite) run.Step {
	return run.Step{Name: "deploy", Phase: failure.Deploy, Budget: 10 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			refs := map[string]string{}
			for name, image := range s.images {
				refs["kubernaut-"+name] = image.Ref
			}
			var files []string
			for _, m := range def.Manifests {
				files = append(files, filepath.Join(s.root, m))
			}
			kubeconfig := s.cluster(def).Kubeconfig
			applied, err := deploy.Apply(ctx, kubeconfig, deploy.Options{Files: files, Images: refs, Namespace: def.Namespace, Log: s.log, Progress: report})
			if err != nil {
				return run.Outcome{}, err
			}
			pods, err := deploy.Wait(ctx, kubeconfig, applied, deploy.WaitOptions{Progress: report})
			if err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%d objects, %d changed, %d pods run", len(applied.Objects), applied.Changed(), len(pods))
			return run.Outcome{Skipped: applied.Changed() == 0, Detail: detail, Works: []run.Work{{What: "the workload runs", Evidence: detail}}}, nil
		}}
}

// suiteStep runs the suite.
func (s *session) suiteStep(def settings.Suite) run.Step {
	return run.Step{Name: "suite", Phase: failure.Suite, Budget: def.Timeout.Duration + time.Minute, Stall: def.Stall.Duration,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			env := map[string]string{"KUBECONFIG": s.cluster(def).Kubeconfig}
			for k, v := range def.Env {
				env[k] = v
			}
			procs := def.Procs
			if s.settings.TestProcs > 0 {
				procs = s.settings.TestProcs
			}
			sum, err := suite.Run{Build: s.suiteBuild(def), Output: s.folder.Path, Env: env, Procs: procs, Timeout: def.Timeout.Duration,
				Label: s.settings.GinkgoLabel, Focus: s.settings.GinkgoFocus, Lines: s.console.Verbatim}.Do(ctx, report)
			if err != nil {
				return run.Outcome{}, err
			}
			detail := fmt.Sprintf("%d of %d specs passed, %d skipped", sum.Passed, sum.Ran, sum.Skipped)
			return run.Outcome{Detail: detail, Works: []run.Work{{What: "the suite passes", Evidence: detail}}}, nil
		}}
}

// downStep removes the suite's cluster after a pass, unless it is to be kept.
func (s *session) downStep(def settings.Suite) run.Step {
	return run.Step{Name: "cluster-down", Phase: failure.Teardown, Budget: 3 * time.Minute, Stall: stall,
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

// nodeImageStep provides the image of the cluster's nodes.
func (s *session) nodeImageStep() run.Step {
	return run.Step{Name: "node-image", Phase: failure.Preflight, Budget: 60 * time.Minute, Stall: 10 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			options := nodeimage.Options{Image: s.settings.NodeImage, Provider: s.connection.Provider, Log: s.log, Progress: report}
			result, err := nodeimage.Ensure(ctx, options)
			if missing := failure.As(err); missing != nil && missing.Class == failure.Configuration && options.Image == "" {
				// It has to be built, and this host lacks what that takes.
				if _, err := host.InstallPackages(ctx, host.Options{AllowInstall: true, Log: s.log, Progress: report}, nodeimage.HostPackages()); err != nil {
					return run.Outcome{}, err
				}
				result, err = nodeimage.Ensure(ctx, options)
			}
			if err != nil {
				return run.Outcome{}, err
			}
			s.node = result
			detail := fmt.Sprintf("%s (%s)", result.Ref, result.Source)
			return run.Outcome{Skipped: result.Source == nodeimage.Present, Detail: detail,
				Works: []run.Work{{What: "there is a node image", Evidence: detail}}}, nil
		}}
}
