// Package settings turns the environment and a suite's definition into
// validated values. It owns the names, defaults and limits of settings; it
// reads no engine and no cluster.
package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Label marks everything this project makes on an engine; its value is "true".
const Label = "kubernaut-e2e"

// NetworkName is the engine network of this project's clusters, its own so
// that teardown can remove it.
const NetworkName = "kubernaut-e2e"

// Settings is what a person can set, all from the environment.
type Settings struct {
	Provider         string `env:"KIND_EXPERIMENTAL_PROVIDER"` // podman, docker or empty (choose)
	FallbackProvider string `env:"E2E_FALLBACK_PROVIDER"`      // podman, docker, none or empty (the other one)
	Suite            string `env:"E2E_SUITE"`                  // of single targets such as clusterUp; empty: the first by name
	Cluster          string `env:"E2E_CLUSTER"`                // empty: the suite's
	Workers          int    `env:"E2E_WORKERS"`                // worker nodes beside the control plane
	NodeImage        string `env:"E2E_NODE_IMAGE"`             // empty: Kind's own, or built here
	MachineRestart   string `env:"E2E_MACHINE_RESTART" envDefault:"auto"`
	KeepCluster      string `env:"KEEP_CLUSTER"` // true, false or empty (keep only after a failure)
	State            string `env:"E2E_STATE" envDefault:".e2e"`
	HAPIContext      string `env:"HAPI_CONTEXT"`
	HAPIDockerfile   string `env:"HAPI_DOCKERFILE"`
	HAPIPayloadMB    int    `env:"HAPI_PAYLOAD_MB"`
	LoadStrategy     string `env:"E2E_LOAD_STRATEGY"` // thin, stream, archive or empty
	GinkgoLabel      string `env:"GINKGO_LABEL"`
	GinkgoFocus      string `env:"GINKGO_FOCUS"`
	TestProcs        int    `env:"TEST_PROCS"` // parallel Ginkgo processes; 0: the suite's
	CI               bool   `env:"CI"`
	GitHubActions    bool   `env:"GITHUB_ACTIONS"`
	StepSummary      string `env:"GITHUB_STEP_SUMMARY"`
}

// clusterName is narrower than Kind's own rule (pkg/internal/apis/config,
// validNameRE): NAME-control-plane must also be a node name that kubeadm takes
// (RFC 1123) and a host name of at most 63 characters.
var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

const clusterNameMax = 49

// FromEnvironment reads and validates the settings. environ has the form of
// os.Environ; nil means the process's own. Every error is of class
// configuration and names the variable.
func FromEnvironment(environ []string) (Settings, error) {
	var s Settings
	if environ == nil {
		environ = os.Environ()
	}
	values := env.ToMap(environ)
	parsers := map[reflect.Type]env.ParserFunc{reflect.TypeFor[bool](): isSet}
	if err := env.ParseWithOptions(&s, env.Options{Environment: values, FuncMap: parsers}); err != nil {
		return s, unreadable(err, values)
	}
	return s, s.validate()
}

// isSet reads a switch that CI systems set: some write true, some their name.
func isSet(v string) (any, error) {
	return v != "" && v != "0" && !strings.EqualFold(v, "false"), nil
}

// unreadable names the variable that err, which knows only the field, is about.
func unreadable(err error, values map[string]string) error {
	var wrong env.ParseError
	if errors.As(err, &wrong) {
		if field, ok := reflect.TypeFor[Settings]().FieldByName(wrong.Name); ok {
			name := field.Tag.Get("env")
			return invalid(name, values[name], "use a whole number")
		}
	}
	return failure.New(failure.Configuration, "a setting is not valid", "see the table of settings in README.md", err)
}

func (s *Settings) validate() error {
	choices := []struct {
		name, value string
		allowed     []string
	}{
		{"KIND_EXPERIMENTAL_PROVIDER", s.Provider, []string{"", "podman", "docker"}},
		{"E2E_FALLBACK_PROVIDER", s.FallbackProvider, []string{"", "podman", "docker", "none"}},
		{"E2E_MACHINE_RESTART", s.MachineRestart, []string{"auto", "always", "never"}},
		{"KEEP_CLUSTER", s.KeepCluster, []string{"", "true", "false"}},
		{"E2E_LOAD_STRATEGY", s.LoadStrategy, []string{"", "thin", "stream", "archive"}},
	}
	for _, c := range choices {
		if !contains(c.allowed, c.value) {
			return invalid(c.name, c.value, "use one of: "+strings.Join(nonEmpty(c.allowed), ", "))
		}
	}
	numbers := []struct {
		name            string
		value, min, max int
	}{
		{"E2E_WORKERS", s.Workers, 0, 20},
		{"HAPI_PAYLOAD_MB", s.HAPIPayloadMB, 0, 20000},
		{"TEST_PROCS", s.TestProcs, 0, 64},
	}
	for _, n := range numbers {
		if n.value < n.min || n.value > n.max {
			return invalid(n.name, fmt.Sprint(n.value), fmt.Sprintf("use a number from %d to %d", n.min, n.max))
		}
	}
	if s.Cluster != "" {
		if err := ValidateClusterName("E2E_CLUSTER", s.Cluster); err != nil {
			return err
		}
	}
	if s.HAPIContext != "" {
		info, err := os.Stat(s.HAPIContext)
		if err != nil || !info.IsDir() {
			return invalid("HAPI_CONTEXT", s.HAPIContext, "name an existing folder, or unset it to build the reference HAPI")
		}
	}
	state, err := filepath.Abs(s.State)
	if err != nil {
		return invalid("E2E_STATE", s.State, "name a folder that can be created")
	}
	s.State = state
	return nil
}

// ValidateClusterName refuses what Kind would refuse; source names the setting
// or file that the name comes from.
func ValidateClusterName(source, name string) error {
	if len(name) > clusterNameMax || !clusterName.MatchString(name) {
		return invalid(source, name, fmt.Sprintf("use 1 to %d lower-case letters, digits, dots and dashes, beginning and ending with a letter or digit", clusterNameMax))
	}
	return nil
}

func invalid(name, value, remedy string) error {
	return failure.New(failure.Configuration, fmt.Sprintf("%s=%q is not valid", name, value), remedy, nil)
}

func contains(list []string, v string) bool {
	for _, l := range list {
		if l == v {
			return true
		}
	}
	return false
}

func nonEmpty(list []string) []string {
	var out []string
	for _, l := range list {
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}
