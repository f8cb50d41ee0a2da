package chaos

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// began makes the images of this run others than those of the runs before it.
var began = int(time.Now().Unix() % 97)

// payload makes a HAPI image of its own for a cell, that no node has and that is
// big enough to be cut in the middle of its load.
func payload(cell int) string { return fmt.Sprintf("HAPI_PAYLOAD_MB=%d", 200+began+100*(cell%2)+cell) }

// forget removes the image of a cell.
func (o outcome) forget(t *testing.T) {
	t.Helper()
	if built := o.step("build-hapi"); built.State == run.Done {
		podman(t, "rmi", "--force", built.Detail)
	}
}

// quick runs the few specs that show the workload works.
const quick = "GINKGO_FOCUS=is alive"

// TestEngineFaults breaks the way to the engine, and the engine, while the
// image is on its way into the node.
func TestEngineFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	s := newService(t)
	px := newProxy(t, s.sock)
	engine := "CONTAINER_HOST=unix://" + px.sock

	// The first run makes everything; what follows must not make it again.
	first := p.start(t, engine, quick).wait()
	first.is(t, 0, "passed")
	observed(t, "none", "all", "passed", first)

	for i, c := range []struct {
		fault string
		brk   func(r *pipeline)
	}{
		{"connection cut", func(*pipeline) { px.cut() }},
		{"engine killed, restarted after 5 s", func(*pipeline) {
			s.kill()
			px.cut()
			time.Sleep(5 * time.Second)
			s.start()
		}},
		{"engine stopped for 30 s", func(*pipeline) {
			s.kill()
			px.cut()
			time.Sleep(30 * time.Second)
			s.start()
		}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			before := node(t)
			r := p.start(t, engine, payload(i), quick)
			r.until("load", run.Start)
			px.after(r, 60<<20)
			c.brk(r)
			o := r.wait()
			defer o.forget(t)
			o.is(t, 0, "passed")
			if len(o.Heals) == 0 {
				t.Error("nothing in the result says that something was wrong")
			}
			if o.attempts("build-hapi") != 1 || o.step("cluster").State != run.Skip {
				t.Errorf("something was repeated: %+v, %+v", o.step("build-hapi"), o.step("cluster"))
			}
			if after := node(t); after != before {
				t.Errorf("the cluster was made anew: %s, was %s", after, before)
			}
			o.tells(t, "passed after healing", "Recovery actions")
			observed(t, c.fault, "load", "passed; build not repeated, cluster kept", o)
		})
	}
}

// TestNodeFaults breaks the node, and what is on it, under a run.
func TestNodeFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	engine := "CONTAINER_HOST=unix://" + newService(t).sock
	first := p.start(t, engine, quick).wait()
	first.is(t, 0, "passed")
	in := func(command string) func(*testing.T, *pipeline) {
		return func(t *testing.T, _ *pipeline) { podman(t, "exec", nodeName, "sh", "-c", command) }
	}
	faults := []struct {
		name  string
		steps []string
		brk   func(*testing.T, *pipeline)
	}{
		{"node container killed", []string{"load", "deploy", "suite"}, func(t *testing.T, _ *pipeline) { podman(t, "kill", nodeName) }},
		{"node's containerd killed", []string{"load", "deploy"}, in("pkill -9 -x containerd")},
		{"API server killed", []string{"load", "deploy", "suite"}, in("pkill -9 kube-apiserver")},
		{"kubeconfig corrupted", []string{"load", "deploy"}, func(t *testing.T, _ *pipeline) {
			home, _ := os.UserHomeDir()
			if err := os.WriteFile(filepath.Join(home, ".kube", clusterName+"-config"), []byte("{ not: [yaml"), 0o600); err != nil {
				t.Error(err)
			}
		}},
		{"images deleted from the engine", []string{"load"}, func(t *testing.T, r *pipeline) {
			for _, e := range r.events() {
				if e.Step == "build-hapi" && e.Kind == run.Done {
					podman(t, "rmi", "--force", e.Detail)
				}
			}
		}},
		{"images deleted from the node", []string{"deploy"}, in("ctr -n k8s.io images ls -q | grep kubernaut-hapi | xargs -r ctr -n k8s.io images rm --sync")},
	}
	cells := 0
	for _, f := range faults {
		for _, step := range f.steps {
			cells++
			t.Run(f.name+"/"+step, func(t *testing.T) {
				before := node(t)
				r := p.start(t, engine, payload(20+cells), quick)
				r.until(step, run.Start)
				f.brk(t, r)
				o := r.wait()
				defer o.forget(t)
				o.is(t, 0, "passed")
				if node(t) != before {
					t.Error("the cluster was made anew")
				}
				observed(t, f.name, step, "passed; cluster kept", o)
			})
		}
	}
}

// TestSignals ends runs politely; the next one goes on.
func TestSignals(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	engine := "CONTAINER_HOST=unix://" + newService(t).sock
	first := p.start(t, engine, quick).wait()
	first.is(t, 0, "passed")
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, step := range []string{"load", "suite"} {
			t.Run(fmt.Sprintf("%v/%s", sig, step), func(t *testing.T) {
				before := node(t)
				r := p.start(t, engine, payload(40+i), quick)
				r.until(step, run.Start)
				r.signal(sig)
				o := r.wait()
				o.is(t, 75, "infrastructure")
				if o.Signature != "interrupted" {
					t.Errorf("signature %q", o.Signature)
				}
				again := p.start(t, engine, payload(40+i), quick).wait()
				again.is(t, 0, "passed")
				if node(t) != before {
					t.Error("the cluster was made anew")
				}
				observed(t, fmt.Sprintf("%v to the run", sig), step, "ended as interrupted; the next run went on and passed", o)
			})
		}
	}
}

// TestPortTaken keeps a port that the cluster publishes: nobody here can free
// it, and the report says who holds it.
func TestPortTaken(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	engine := "CONTAINER_HOST=unix://" + newService(t).sock
	if err := removeCluster(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:28084")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := p.start(t, engine, quick).wait()
	o.is(t, 75, "infrastructure")
	o.tells(t, "port 28084", "infrastructure, not code", "unit tests pass")
	observed(t, "port taken", "cluster", "refused, with the holder's name; the unit tests were run and pass", o)
}

// TestKilledRun ends a run at its worst moment; the next one goes on from what
// it can prove.
func TestKilledRun(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	engine := "CONTAINER_HOST=unix://" + newService(t).sock
	if err := removeCluster(); err != nil {
		t.Fatal(err)
	}
	r := p.start(t, engine, quick)
	r.until("cluster", run.Start)
	for strings.HasPrefix(node(t), "none") {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	r.signal(syscall.SIGKILL)
	<-r.ended
	o := p.start(t, engine, quick).wait()
	o.is(t, 0, "passed")
	observed(t, "SIGKILL of the run", "cluster", "the next run removed the half-made cluster, made it and passed", o)
}

// TestCodeFailures breaks the code under test: nothing is healed or repeated.
func TestCodeFailures(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine and many minutes")
	}
	p := newProject(t)
	engine := "CONTAINER_HOST=unix://" + newService(t).sock
	first := p.start(t, engine, quick).wait()
	first.is(t, 0, "passed")
	const spec = "test/e2e/aianalysis/endpoints_test.go"
	for _, c := range []struct{ fault, step, file, from, to string }{
		{"controller crashes at start", "deploy", "test/workload/controller/main.go", "func run(ctx context.Context) error {\n",
			"func run(ctx context.Context) error {\n\tpanic(\"connection refused: EOF\")\n"},
		{"controller does not compile", "build-controller", "test/workload/controller/main.go", "func run(ctx context.Context) error {\n",
			"func run(ctx context.Context) error {\n\tundefined()\n"},
		{"Dockerfile does not build", "build-hapi", "test/workload/hapi/image/Dockerfile", "COPY hapi", "COPY not-there"},
		{"a spec fails with the word EOF", "suite", spec, "It(\"is alive and ready\", func(ctx SpecContext) {\n",
			"It(\"is alive and ready\", func(ctx SpecContext) {\n\t\tFail(`Get \"http://d/v5.6.0/libpod/exec\": EOF`)\n"},
		{"HAPI answers 500", "suite", "test/workload/hapi/server/server.go", "func (s *Server) analyze(w http.ResponseWriter, r *http.Request, q query) {\n",
			"func (s *Server) analyze(w http.ResponseWriter, r *http.Request, q query) {\n\tif true {\n\t\thttp.Error(w, \"broken\", http.StatusInternalServerError)\n\t\treturn\n\t}\n"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			p.replace(t, c.file, c.from, c.to)
			focus := quick
			if c.fault == "HAPI answers 500" {
				focus = "GINKGO_FOCUS=leaves conditions"
			}
			o := p.start(t, engine, focus).wait()
			o.is(t, 1, "test-failure")
			if len(o.Heals) > 0 || o.attempts(c.step) != 1 {
				t.Errorf("healed %+v, %d attempts", o.Heals, o.attempts(c.step))
			}
			if o.Step != c.step {
				t.Errorf("failed in %s, want %s", o.Step, c.step)
			}
			o.tells(t, "code, not infrastructure")
			observed(t, c.fault, c.step, "called the code's, nothing repeated", o)
		})
	}
}

// removeCluster removes the cells' cluster and what is remembered of it, and
// nothing else of this project's on this host.
func removeCluster() error {
	cmd := exec.Command("podman", "rm", "-f", "-v", "--ignore", nodeName)
	cmd.Env = without(os.Environ(), "CONTAINER_HOST")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	state := host.DefaultStateDir()
	for _, file := range []string{filepath.Join(home, ".kube", clusterName+"-config"), filepath.Join(state, clusterName+".podman.cluster.json"), filepath.Join(state, clusterName+".docker.cluster.json"),
		filepath.Join(state, clusterName+".lock")} {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
