package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/bench"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// benchCluster has three nodes; the cases for one use the first.
const benchCluster = "kubernaut-e2e-bench"

// benchFile is where the measurements stand.
const benchFile = "docs/benchmarks.md"

// Bench measures image loading against the ordinary way on a cluster of its
// own, and writes docs/benchmarks.md. runs is how often each way is measured
// (nil: 5), cases a choice of their names, separated by semicolons (nil: all).
func Bench(ctx context.Context, runs *int, cases *string) error {
	return target(ctx, "bench", func(s *session) ([][]run.Step, error) {
		def := settings.Suite{Name: "bench", Cluster: benchCluster}
		options := bench.Options{Runs: 5}
		if runs != nil {
			options.Runs = *runs
		}
		if cases != nil && *cases != "" {
			for _, name := range strings.Split(*cases, ";") {
				options.Cases = append(options.Cases, strings.TrimSpace(name))
			}
		}
		if err := bench.CheckCases(options.Cases); err != nil {
			return nil, err
		}
		s.settings.Cluster, s.settings.Workers = "", 2
		return [][]run.Step{{s.engineStep()}, {s.nodeImageStep()}, {s.lockStep(def)}, {s.clusterStep(def)}, {s.benchStep(def, options)}, {s.downStep(def)}}, nil
	})
}

func (s *session) benchStep(def settings.Suite, options bench.Options) run.Step {
	return run.Step{Name: "bench", Phase: failure.Load, Budget: 150 * time.Minute, Stall: 15 * time.Minute,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			reconnect := func(ctx context.Context) error { return s.connect(ctx, report) }
			options.Engine, options.Provider, options.Cluster = benchEngine{loadEngine{s.engine, reconnect}}, s.connection.Provider, def.Cluster
			options.Nodes, options.Log, options.Progress = s.loadNodes(), s.log, report
			rows, err := bench.Run(ctx, options)
			if len(rows) == 0 {
				return run.Outcome{}, err
			}
			// What was measured is kept, also if it was not all.
			machine := bench.Machine{Host: osName(), Engine: s.describeEngine(), Kind: moduleVersion("sigs.k8s.io/kind"), Kubernetes: s.node.KubernetesVersion,
				Containerd: s.containerd(context.WithoutCancel(ctx))}
			text := bench.Markdown(machine, rows, time.Now())
			err = errors.Join(err, os.WriteFile(filepath.Join(s.root, benchFile), []byte(text), 0o644))
			return run.Outcome{Detail: benchFile}, err
		}}
}

// benchEngine is an engine as the benchmark sees it.
type benchEngine struct{ loadEngine }

// BuildImage builds a folder's Dockerfile.
func (e benchEngine) BuildImage(ctx context.Context, dir, tag string) error {
	_, err := e.Build(ctx, engine.BuildRequest{Context: dir, Tag: tag, Labels: map[string]string{settings.Label: "true"}}, progress.Discard)
	return err
}

var _ load.Pusher = benchEngine{}

// containerd is the version that the first node runs.
func (s *session) containerd(ctx context.Context) string {
	var out bytes.Buffer
	nodes := s.nodeNames()
	if len(nodes) == 0 || s.engine.Exec(ctx, nodes[0], engine.ExecRequest{Cmd: []string{"containerd", "--version"}, Stdout: &out}) != nil {
		return "unknown"
	}
	fields := strings.Fields(out.String())
	if len(fields) < 3 {
		return "unknown"
	}
	return fields[2]
}

func osName() string {
	raw, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "this host"
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			if name, err := strconv.Unquote(value); err == nil {
				return name
			}
		}
	}
	return "this host"
}

// moduleVersion is the version of a module that this program was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
