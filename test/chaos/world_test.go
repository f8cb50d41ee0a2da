package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// world is where the runs of a test happen: a copy of the project, an engine,
// and the way to it. Its faults hurt nobody outside.
type world struct {
	project
	svc   *enginetest.Service
	way   *proxy
	env   []string // of every run
	kube  string   // folder of kubeconfigs
	state string   // records and locks of clusters
	hapi  string   // image of a run without a payload
}

// newWorld is this host's own Podman behind a service of the test's own and a
// proxy.
func newWorld(t *testing.T) *world {
	t.Helper()
	needsMinutes(t)
	w := &world{project: newProject(t), svc: enginetest.PodmanService(t)}
	w.way = newProxy(t, "unix", w.svc.Socket)
	w.env = []string{"CONTAINER_HOST=unix://" + w.way.addr, payload(base)}
	w.live(t)
	inUse = w
	return w
}

// newMachineWorld is what the incident happened on: a Podman 5 behind SSH. It
// has storage and a home folder of its own, which go with the test.
func newMachineWorld(t *testing.T) (*world, *enginetest.Machine) {
	t.Helper()
	needsMinutes(t)
	if inUse != nil { // its cluster holds the ports
		if err := inUse.remove(); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{project: newProject(t), svc: enginetest.Podman5(t)}
	m := enginetest.SSH(t, w.svc.Socket)
	w.way = newProxy(t, "tcp", m.Address())
	w.env = append(m.EnvAt(w.way.addr), payload(base))
	w.live(t)
	return w, m
}

func needsMinutes(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
}

// live finds the folders of the user that the runs have.
func (w *world) live(t *testing.T) {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	w.kube, w.state = filepath.Join(home, ".kube"), host.DefaultStateDir()
}

// inUse is the host's own Podman, once a test has used it: the last one removes
// the cluster that the others left for it.
var inUse *world

// start begins a run with the cluster kept.
func (w *world) start(t *testing.T, env ...string) *pipeline {
	t.Helper()
	return w.project.start(t, slices.Concat(w.env, []string{"KEEP_CLUSTER=true"}, env)...)
}

// startAt is start with a state folder that is there already.
func (w *world) startAt(t *testing.T, state string, env ...string) *pipeline {
	t.Helper()
	r := w.start(t, append(env, "E2E_STATE="+state)...)
	r.state = state
	return r
}

// ready has a cluster made, or proves that it is there, and returns the run.
func (w *world) ready(t *testing.T) outcome {
	t.Helper()
	o := w.start(t, quick).wait()
	o.is(t, 0, "passed")
	w.hapi = o.step("build-hapi").Detail
	return o
}

// podman calls the engine past everything that breaks.
func (w *world) podman(t *testing.T, args ...string) string {
	t.Helper()
	var said bytes.Buffer // Podman 5 warns of cgroups v1 with every command
	cmd := w.command(args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

func (w *world) command(args ...string) *exec.Cmd {
	return w.svc.Command(context.Background(), args...)
}

// node is the identifier of the cluster's node, which changes if it is made
// anew, or nothing.
func (w *world) node() string {
	out, err := w.command("container", "inspect", "--format", "{{.Id}}", nodeName).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (w *world) kubeconfig() string { return filepath.Join(w.kube, clusterName+"-config") }

// remove removes the cells' cluster and what is remembered of it, and nothing
// else of this project's on this host.
func (w *world) remove() error {
	if out, err := w.command("rm", "-f", "-v", "--ignore", nodeName).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var errs error
	for _, file := range []string{w.kubeconfig(), filepath.Join(w.state, clusterName+".podman.cluster.json"),
		filepath.Join(w.state, clusterName+".docker.cluster.json"), filepath.Join(w.state, clusterName+".lock")} {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// forget removes the image that a cell made for itself.
func (w *world) forget(t *testing.T, o outcome) {
	t.Helper()
	if built := o.step("build-hapi"); built.State == run.Done {
		w.podman(t, "rmi", "--force", built.Detail)
	}
}
