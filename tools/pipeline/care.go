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
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
