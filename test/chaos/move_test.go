package chaos

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// TestMoveToTheOtherEngine takes the first engine away for good, with its
// nodes, as a machine that does not start again does.
func TestMoveToTheOtherEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("needs two engines and many minutes")
	}
	p := newProject(t)
	s := newService(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	docker, err := host.EnsureEngine(ctx, host.Options{Provider: host.Docker})
	if err != nil {
		enginetest.Skip(t, "docker: "+err.Error())
	}
	t.Cleanup(func() {
		cmd := exec.Command("docker", "rm", "-f", "-v", nodeName)
		cmd.Env = append(os.Environ(), docker.Env...)
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "No such container") {
			t.Errorf("%v: %s", err, out)
		}
		if err := removeCluster(); err != nil {
			t.Error(err)
		}
	})
	r := p.start(t, "CONTAINER_HOST=unix://"+s.sock, "E2E_FALLBACK_PROVIDER=docker", payload(60), quick)
	r.until("load", run.Start)
	podman(t, "kill", nodeName)
	s.kill()
	o := r.wait()
	o.is(t, 0, "passed")
	if !strings.HasPrefix(o.Provider, "docker") {
		t.Errorf("the run ended on %q", o.Provider)
	}
	o.tells(t, "move to docker", "passed after healing")
	observed(t, "engine gone for good", "load", "moved to Docker and passed", o)
}
