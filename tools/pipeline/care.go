package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
	"github.com/jordigilh/kubernaut-e2e/tools/teardown"
)

// Doctor checks the host, prints a table of findings and changes nothing. A
// finding that blocks is exit code 1.
func Doctor(ctx context.Context) error {
	set, err := settings.FromEnvironment(nil)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	checks := host.Checks{Ports: map[int]string{}, NodeImage: set.NodeImage, State: set.State}
	for _, name := range settings.Suites(root) {
		def, err := settings.LoadSuite(root, name)
		if err != nil {
			return err
		}
		spec := cluster.Spec{ConfigName: def.KindConfig}
		if spec.Config, err = os.ReadFile(filepath.Join(root, def.KindConfig)); err != nil {
			return fmt.Errorf("suite %s: read Kind configuration: %w", name, err)
		}
		ports, err := spec.HostPorts()
		if err != nil {
			return err
		}
		for _, port := range ports {
			checks.Ports[port] = "suite " + name
		}
	}
	if checks.NodeImage == "" {
		if checks.NodeImage, err = nodeimage.BuiltRef(); err != nil {
			return err
		}
	}
	checks.Locks, _ = filepath.Glob(filepath.Join(host.DefaultStateDir(), "*.lock"))
	findings := host.Doctor(ctx, host.Options{Provider: set.Provider}, checks)
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Check, strings.ReplaceAll(f.Detail, "\n", " "))
		if f.Remedy != "" {
			fmt.Fprintf(w, "\t\tremedy: %s\n", f.Remedy)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if host.Blocked(findings) {
		return &exitError{code: failure.ExitCode, msg: "doctor: something above keeps the pipeline from running"}
	}
	return nil
}

// Teardown removes what this project made, and nothing else, and prints what
// it removed and what it kept.
func Teardown(ctx context.Context) error {
	var report teardown.Report
	err := target(ctx, "teardown", func(s *session) ([][]run.Step, error) {
		return [][]run.Step{{{Name: "teardown", Phase: failure.Teardown, Budget: 10 * time.Minute, Stall: stall,
			Do: func(ctx context.Context, progress progress.Func) (run.Outcome, error) {
				engines, err := s.engines(ctx, progress)
				if err != nil {
					return run.Outcome{}, err
				}
				report, err = teardown.Run(ctx, teardown.Options{Engines: engines, StateDir: host.DefaultStateDir(), KubeDir: filepath.Dir(kubeconfig("x")),
					KeepTemp: []string{host.DefaultRuntimeDir()}, Network: settings.NetworkName, Paths: []string{filepath.Join(s.settings.State, "build")},
					Undo: func(ctx context.Context) ([]string, error) {
						return host.Undo(ctx, host.Options{Log: s.log})
					}, Log: s.log, Progress: progress})
				return run.Outcome{Detail: fmt.Sprintf("%d removed, %d kept", len(report.Removed), len(report.Kept)), Skipped: len(report.Removed) == 0}, err
			}}}}, nil
	})
	for _, line := range report.Removed {
		fmt.Println(line)
	}
	for _, line := range report.Kept {
		fmt.Println("kept", line)
	}
	if cache, statErr := os.UserCacheDir(); statErr == nil {
		if dir := filepath.Join(cache, "kubernaut-e2e"); exists(dir) {
			fmt.Printf("kept cache of the node image, %s: a build takes a quarter of an hour; remove it with rm -r\n", dir)
		}
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// engines opens every engine that may hold something of ours: those that
// answer, and a Podman that is installed and only lacks its service.
func (s *session) engines(ctx context.Context, report progress.Func) ([]teardown.Engine, error) {
	var engines []teardown.Engine
	for _, provider := range []string{engine.Podman, engine.Docker} {
		options := host.Options{Provider: provider, Log: s.log, Progress: report}
		find := host.Locate
		if provider == engine.Podman {
			find = host.EnsureEngine
		}
		connection, err := find(ctx, options)
		if err != nil {
			// Nothing of ours can be in an engine that is not there.
			s.log.Debug("not an engine to clear", "provider", provider, "error", err)
			continue
		}
		if err := setenv(connection.Env); err != nil {
			return nil, err
		}
		e, err := engine.Open(ctx, engine.Options{Provider: provider, Log: s.log})
		if err != nil {
			return nil, err
		}
		engines = append(engines, e)
	}
	return engines, nil
}
