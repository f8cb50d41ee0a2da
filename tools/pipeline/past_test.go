package pipeline

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

func TestNodesThatOutliveTheService(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	// It knows two containers, of which one does not carry our label.
	script := "#!/bin/sh\n[ -z \"$CONTAINER_HOST\" ] || exit 9\necho \"$@\" >>" + calls + `
case "$*" in
*inspect*mine) echo "true/c-control-plane" ;;
*inspect*foreign) echo "/somebody" ;;
*inspect*) echo "no such container" >&2; exit 125 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("CONTAINER_HOST", "unix:///gone")
	for _, r := range []cluster.Record{
		{Name: "c", Provider: engine.Podman, Complete: true, Nodes: []string{"mine", "foreign", "gone"}},
		{Name: "other", Provider: engine.Podman, Complete: true, Nodes: []string{"others"}},
	} {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(host.DefaultStateDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host.DefaultStateDir(), r.Name+".podman.cluster.json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		connection host.Connection
		removed    bool
	}{
		"podman on this host": {host.Connection{Provider: engine.Podman, URL: "unix:///gone"}, true},
		"podman behind SSH":   {host.Connection{Provider: engine.Podman, URL: "ssh://u@h/s"}, false},
		"docker":              {host.Connection{Provider: engine.Docker, URL: "unix:///gone"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(calls)
			s := &session{suite: &settings.Suite{Cluster: "c"}, connection: c.connection, log: slog.New(slog.DiscardHandler)}
			heal, err := s.clearPast(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := os.ReadFile(calls)
			removed := strings.Contains(string(raw), "rm --force --volumes --time=0 mine\n")
			if removed != c.removed || heal.OK != c.removed || strings.Count(string(raw), "rm ") > 1 {
				t.Errorf("%+v after\n%s", heal, raw)
			}
			if c.removed && !strings.Contains(heal.Effect, "c-control-plane") {
				t.Errorf("the effect does not name the node: %q", heal.Effect)
			}
		})
	}
}
