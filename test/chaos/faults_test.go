package chaos

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// fault is one way to break something under a run.
type fault struct {
	name string
	// brk breaks it. The run is nil where it has not begun.
	brk func(t *testing.T, w *world, r *pipeline)
	// mend, if not nil, takes the fault away after a time.
	mend  func(w *world)
	after time.Duration
	// live: the fault needs a run that has begun.
	live bool
	// ends: the run does not survive it; SIGKILL leaves not even a result.
	ends  syscall.Signal
	steps []string
}

// faults are the lines of the matrix, with the steps in which each makes sense
// and does not need a test of its own.
var faults = []fault{
	{name: "connection cut", live: true, brk: func(_ *testing.T, w *world, _ *pipeline) { w.way.cut() },
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "connection stalled", live: true, brk: func(_ *testing.T, w *world, _ *pipeline) { w.way.stall() },
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "engine killed, restarted after 5 s", brk: stopEngine, mend: startEngine, after: 5 * time.Second,
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "engine stopped for 30 s", brk: stopEngine, mend: startEngine, after: 30 * time.Second,
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "node container stopped", brk: onNode("stop", "--time=1"),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "node container killed", brk: onNode("kill"),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "node's containerd killed", brk: inNode("pkill -9 -x containerd"),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite"}},
	{name: "API server killed", brk: inNode("pkill -9 kube-apiserver"),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite"}},
	{name: "kubeconfig corrupted", brk: corrupt,
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "images deleted from the engine", brk: imagesOfEngine,
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "images deleted from the node",
		brk:   inNode("ctr -n k8s.io images ls -q | grep kubernaut-hapi | xargs -r ctr -n k8s.io images rm --sync"),
		steps: []string{"set-up", "build", "load", "deploy", "suite"}},
	{name: "SIGINT to the run", live: true, ends: syscall.SIGINT, brk: signalled(syscall.SIGINT),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "SIGTERM to the run", live: true, ends: syscall.SIGTERM, brk: signalled(syscall.SIGTERM),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
	{name: "SIGKILL of the run", live: true, ends: syscall.SIGKILL, brk: signalled(syscall.SIGKILL),
		steps: []string{"set-up", "build", "cluster", "load", "deploy", "suite", "teardown"}},
}

// stopEngine ends the service at once, with the connections to it.
func stopEngine(_ *testing.T, w *world, _ *pipeline) {
	w.svc.Kill()
	w.way.cut()
}

func startEngine(w *world) { w.svc.Start() }

func corrupt(t *testing.T, w *world, _ *pipeline) {
	if err := os.WriteFile(w.kubeconfig(), []byte("{ not: [yaml"), 0o600); err != nil {
		t.Error(err)
	}
}

func onNode(args ...string) func(*testing.T, *world, *pipeline) {
	return func(t *testing.T, w *world, _ *pipeline) { w.strikeNode(t, append(args, nodeName)...) }
}

// strikeNode does something to the node. A run that ends stops and removes it
// meanwhile, and then nothing is left to be hit.
func (w *world) strikeNode(t *testing.T, args ...string) {
	t.Helper()
	out, err := w.command(args...).CombinedOutput()
	if err == nil {
		return
	}
	state, _ := w.command("container", "inspect", "--format", "{{.State.Running}}", nodeName).Output()
	if strings.TrimSpace(string(state)) == "true" {
		t.Errorf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
		return
	}
	t.Logf("the run had ended the node before it was hit: %s", out)
}

// inNode runs a command in the node until it succeeds: in a cluster that is
// being made, what it is to hit may not run yet.
func inNode(command string) func(*testing.T, *world, *pipeline) {
	return func(t *testing.T, w *world, _ *pipeline) {
		w.podman(t, "exec", nodeName, "sh", "-c", "for i in $(seq 300); do { "+command+"; } && exit 0; sleep 0.2; done; exit 1")
	}
}

// imagesOfEngine removes the images that this run made, or the HAPI image that
// it found made.
func imagesOfEngine(t *testing.T, w *world, r *pipeline) {
	refs := []string{w.hapi}
	if r != nil {
		for _, e := range r.events() {
			if strings.HasPrefix(e.Step, "build-") && (e.Kind == run.Done || e.Kind == run.Skip) {
				refs = append(refs, e.Detail)
			}
		}
	}
	w.podman(t, append([]string{"rmi", "--force"}, refs...)...)
}

func signalled(s syscall.Signal) func(*testing.T, *world, *pipeline) {
	return func(_ *testing.T, _ *world, r *pipeline) { r.signal(s) }
}
