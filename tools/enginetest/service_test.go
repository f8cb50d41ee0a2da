package enginetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// TestServices goes through what a test may do to a Podman of its own, and looks
// for what is left.
func TestServices(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine, and builds Podman the first time")
	}
	for name, start := range map[string]func(testing.TB) *Service{"5": Podman5, "local": PodmanService} {
		var s *Service
		t.Run(name, func(t *testing.T) {
			s = start(t)
			open := func() engine.Info {
				t.Helper()
				e, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman})
				if err != nil {
					t.Fatal(err)
				}
				info, err := e.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return info
			}
			info := open()
			if name == "5" && (!strings.HasPrefix(info.Version, "5.") || !strings.HasPrefix(info.GraphRoot, s.dir)) {
				t.Errorf("%+v", info)
			}
			// What Kind will call.
			out, err := exec.CommandContext(t.Context(), "podman", "info", "--format", "{{.Store.GraphRoot}} {{.Version.Version}}").CombinedOutput()
			if want := info.GraphRoot + " " + info.Version; err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("podman in the test's PATH works on %s (%v), not on %s", out, err, want)
			}
			s.Kill()
			if _, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman}); err == nil {
				t.Error("killed, and answers")
			}
			s.Start()
			open()
		})
		if s == nil {
			continue
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("left behind: %s (%v)", s.dir, err)
		}
	}
}
