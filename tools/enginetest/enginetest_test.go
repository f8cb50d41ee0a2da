package enginetest

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPodmanAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	e := Podman(t)
	if err := e.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := exec.CommandContext(t.Context(), "podman", "info", "--format", "{{.Store.GraphRoot}}").Output()
	if err != nil || strings.TrimSpace(string(root)) != info.GraphRoot {
		t.Errorf("podman, called from here, works on %q (%v), the engine on %q", root, err, info.GraphRoot)
	}
}

// recorder notes how a test would end.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true }

func TestSkipFailsInCI(t *testing.T) {
	for ci, want := range map[string]recorder{"": {skipped: true}, "false": {skipped: true}} {
		t.Setenv("CI", ci)
		var got recorder
		Skip(&got, "no engine")
		if got.skipped != want.skipped || got.failed {
			t.Errorf("CI=%q: %+v", ci, got)
		}
	}
	t.Setenv("CI", "true")
	got := recorder{}
	Skip(&got, "no engine")
	if !got.failed {
		t.Error("CI=true: the test was not failed")
	}
}
