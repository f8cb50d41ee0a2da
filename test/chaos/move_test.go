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

// TestMatrixOfMoves takes the first engine away, in ways that leave more or
// less of it.
func TestMatrixOfMoves(t *testing.T) {
	w := newWorld(t)
	docker := connectDocker(t)
	t.Run("podman is gone for good, with its nodes", func(t *testing.T) {
		w.ready(t)
		defer w.svc.Start()
		r := w.start(t, "E2E_FALLBACK_PROVIDER=docker", payload(big(60)), quick)
		t.Cleanup(func() { removeFromDocker(t, docker, r.built()...) })
		r.until("load", run.Start)
		w.podman(t, "kill", nodeName)
		w.svc.Kill()
		o := r.wait()
		o.is(t, 0, "passed")
		o.endedOn(t, "docker")
		o.tells(t, "move to docker", "passed after healing")
		observed(t, "engine gone for good", "load", "moved to Docker and passed", o)
	})
	t.Run("podman is gone for good, and its nodes hold the ports", func(t *testing.T) {
		w.ready(t)
		defer w.svc.Start()
		r := w.start(t, "E2E_FALLBACK_PROVIDER=docker", payload(big(61)), quick)
		t.Cleanup(func() { removeFromDocker(t, docker, r.built()...) })
		r.until("load", run.Start)
		w.svc.Kill()
		o := r.wait()
		o.is(t, 0, "passed")
		o.endedOn(t, "docker")
		o.tells(t, "remove the nodes that outlive the engine's service: their ports are free: "+nodeName)
		observed(t, "engine gone for good, its nodes hold the ports", "load", "the nodes were removed past the engine's service, moved to Docker and passed", o)
	})
	t.Run("podman runs no commands", func(t *testing.T) {
		w.ready(t)
		defer w.way.denying.Store(false)
		r := w.start(t, "E2E_FALLBACK_PROVIDER=docker", payload(big(62)), quick)
		t.Cleanup(func() { removeFromDocker(t, docker, r.built()...) })
		r.until("load", run.Start)
		w.way.denying.Store(true)
		o := r.wait()
		o.is(t, 0, "passed")
		o.endedOn(t, "docker")
		o.carried(t)
		observed(t, "commands in nodes fail, the engine answers", "load", "moved to Docker, with the images taken along, and passed", o)
	})
	t.Run("docker runs no commands", func(t *testing.T) {
		if err := w.remove(); err != nil {
			t.Fatal(err)
		}
		way := newProxy(t, "unix", strings.TrimPrefix(docker.URL, "unix://"))
		r := w.start(t, "KIND_EXPERIMENTAL_PROVIDER=docker", "DOCKER_HOST=unix://"+way.addr, "E2E_FALLBACK_PROVIDER=podman", payload(big(63)), quick)
		t.Cleanup(func() { removeFromDocker(t, docker, r.built()...) })
		r.until("load", run.Start)
		way.denying.Store(true)
		o := r.wait()
		o.is(t, 0, "passed")
		o.endedOn(t, "podman")
		o.carried(t)
		observed(t, "commands in nodes fail on Docker, the engine answers", "load", "moved to Podman, with the images taken along, and passed", o)
	})
	t.Run("docker is gone for good, with its nodes", func(t *testing.T) {
		if err := w.remove(); err != nil {
			t.Fatal(err)
		}
		way := newProxy(t, "unix", strings.TrimPrefix(docker.URL, "unix://"))
		r := w.start(t, "KIND_EXPERIMENTAL_PROVIDER=docker", "DOCKER_HOST=unix://"+way.addr, "E2E_FALLBACK_PROVIDER=podman", payload(big(64)), quick)
		t.Cleanup(func() { removeFromDocker(t, docker, r.built()...) })
		r.until("load", run.Start)
		removeFromDocker(t, docker)
		way.shut()
		way.cut()
		o := r.wait()
		o.is(t, 0, "passed")
		o.endedOn(t, "podman")
		observed(t, "Docker gone for good", "load", "moved to Podman and passed", o)
	})
}

// connectDocker starts a Docker of ours where none answers.
func connectDocker(t *testing.T) host.Connection {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	docker, err := host.EnsureEngine(ctx, host.Options{Provider: host.Docker})
	if err != nil {
		enginetest.Skip(t, "docker: "+err.Error())
	}
	t.Cleanup(func() { removeFromDocker(t, docker) })
	return docker
}

// removeFromDocker removes the cells' cluster there, and images.
func removeFromDocker(t *testing.T, docker host.Connection, images ...string) {
	t.Helper()
	for _, args := range [][]string{{"rm", "-f", "-v", nodeName}, append([]string{"rmi", "-f"}, images...)} {
		if len(args) < 3 {
			continue
		}
		cmd := exec.Command("docker", args...)
		cmd.Env = append(os.Environ(), docker.Env...)
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "No such") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// built names the HAPI images that a run made, on whichever engine.
func (r *pipeline) built() []string {
	var refs []string
	for _, e := range r.events() {
		if e.Step == "build-hapi" && e.Kind == run.Done && e.Detail != "" {
			refs = append(refs, e.Detail)
		}
	}
	return refs
}

// endedOn checks on which engine the run came to its end.
func (o outcome) endedOn(t *testing.T, provider string) {
	t.Helper()
	if !strings.HasPrefix(o.Provider, provider) {
		t.Errorf("the run ended on %q", o.Provider)
	}
	o.tells(t, "move to "+provider)
}

// carried checks that the second engine got its images from the first.
func (o outcome) carried(t *testing.T) {
	t.Helper()
	o.tells(t, "taken along: ", "passed after healing")
	for _, s := range o.Steps[len(o.Steps)/2:] {
		if strings.HasPrefix(s.Name, "build-") && s.State != run.Skip {
			t.Errorf("%s was %s on the second engine: %s", s.Name, s.State, s.Detail)
		}
	}
}
