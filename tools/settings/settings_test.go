package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func TestDefaults(t *testing.T) {
	got, err := FromEnvironment([]string{})
	if err != nil {
		t.Fatal(err)
	}
	state, _ := filepath.Abs(".e2e")
	want := Settings{MachineRestart: "auto", State: state}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	dir := t.TempDir()
	got, err := FromEnvironment([]string{
		"KIND_EXPERIMENTAL_PROVIDER=docker", "E2E_FALLBACK_PROVIDER=none", "E2E_SUITE=aianalysis", "E2E_CLUSTER=mine.1",
		"E2E_WORKERS=2", "E2E_NODE_IMAGE=example.org/node:1", "E2E_MACHINE_RESTART=never", "KEEP_CLUSTER=true", "E2E_STATE=" + dir,
		"HAPI_CONTEXT=" + dir, "HAPI_DOCKERFILE=Containerfile", "HAPI_PAYLOAD_MB=2100", "E2E_LOAD_STRATEGY=stream",
		"GINKGO_LABEL=smoke", "GINKGO_FOCUS=approval", "TEST_PROCS=4", "CI=true", "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY=/s",
	})
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s was set and is not in the result", v.Type().Field(i).Tag.Get("env"))
		}
	}
}

func TestInvalidSettings(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, value, remedy string }{
		{"KIND_EXPERIMENTAL_PROVIDER", "nerdctl", "podman, docker"},
		{"KIND_EXPERIMENTAL_PROVIDER", "Podman", "podman, docker"},
		{"E2E_FALLBACK_PROVIDER", "lima", "podman, docker, none"},
		{"E2E_MACHINE_RESTART", "sometimes", "auto, always, never"},
		{"KEEP_CLUSTER", "yes", "true, false"},
		{"KEEP_CLUSTER", "TRUE", "true, false"},
		{"KEEP_CLUSTER", "1", "true, false"},
		{"E2E_LOAD_STRATEGY", "registry", "thin, stream, archive"},
		{"E2E_WORKERS", "-1", "from 0 to 20"},
		{"E2E_WORKERS", "21", "from 0 to 20"},
		{"E2E_WORKERS", "two", "whole number"},
		{"E2E_WORKERS", "1.5", "whole number"},
		{"HAPI_PAYLOAD_MB", "-5", "from 0 to 20000"},
		{"HAPI_PAYLOAD_MB", "2GB", "whole number"},
		{"TEST_PROCS", "65", "from 0 to 64"},
		{"TEST_PROCS", "99999999999999999999", "whole number"},
		{"HAPI_CONTEXT", missing, "existing folder"},
		{"HAPI_CONTEXT", file, "existing folder"},
		{"E2E_CLUSTER", "-leading", "lower-case letters"},
		{"E2E_CLUSTER", "Upper", "lower-case letters"},
		{"E2E_CLUSTER", "under_score", "lower-case letters"},
		{"E2E_CLUSTER", "with space", "lower-case letters"},
		{"E2E_CLUSTER", "a/b", "lower-case letters"},
		{"E2E_CLUSTER", "ends.", "lower-case letters"},
		{"E2E_CLUSTER", "two..dots", "lower-case letters"},
		{"E2E_CLUSTER", "umläut", "lower-case letters"},
		{"E2E_CLUSTER", strings.Repeat("a", 50), "1 to 49"},
	}
	for _, c := range cases {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			_, err := FromEnvironment([]string{c.name + "=" + c.value})
			checkConfiguration(t, err, c.name, c.value, c.remedy)
		})
	}
}

// checkConfiguration asks for one clear message: the setting, its value and the
// remedy, of a class that ends with exit code 2.
func checkConfiguration(t *testing.T, err error, words ...string) {
	t.Helper()
	var f *failure.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v is of no class", err)
	}
	if code := f.Verdict(failure.Preflight).ExitCode(); code != failure.ExitUsage {
		t.Errorf("exit code %d, want %d", code, failure.ExitUsage)
	}
	if f.Remedy == "" || strings.Contains(f.Cause, "\n") || strings.Contains(f.Remedy, "\n") {
		t.Errorf("cause %q, remedy %q: want a line each", f.Cause, f.Remedy)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestKeepClusterHasThreeStates(t *testing.T) {
	for environ, want := range map[string]string{"": "", "KEEP_CLUSTER=": "", "KEEP_CLUSTER=true": "true", "KEEP_CLUSTER=false": "false"} {
		got, err := FromEnvironment([]string{environ})
		if err != nil || got.KeepCluster != want {
			t.Errorf("%q: %q, %v; want %q", environ, got.KeepCluster, err, want)
		}
	}
}

// CI systems disagree about the value: GitHub writes true, Woodpecker its name.
func TestSwitchesOfCISystems(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "1": true, "woodpecker": true, "": false, "0": false, "false": false, "False": false} {
		got, err := FromEnvironment([]string{"CI=" + value})
		if err != nil || got.CI != want {
			t.Errorf("CI=%q: %v, %v; want %v", value, got.CI, err, want)
		}
	}
}

func TestClusterNames(t *testing.T) {
	for _, name := range []string{"a", "aianalysis-e2e", "e2e.run-7", "9lives", strings.Repeat("a", 49)} {
		if err := ValidateClusterName("E2E_CLUSTER", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestStateIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	got, err := FromEnvironment([]string{"E2E_STATE=some/where"})
	if err != nil || !filepath.IsAbs(got.State) || !strings.HasSuffix(got.State, "some/where") {
		t.Errorf("state %q, %v", got.State, err)
	}
	if _, err := os.Stat(got.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading the settings made %s: %v", got.State, err)
	}
}
