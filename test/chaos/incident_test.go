package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// TestIncident replays the day that this project exists for, on a Podman 5
// behind SSH: the connection ends in the middle of the load of HAPI's image,
// during make test-e2e-aianalysis; then the same in worse ways.
func TestIncident(t *testing.T) {
	w, _ := newMachineWorld(t)
	t.Run("the connection ends in the middle of the load", func(t *testing.T) {
		r := w.begin(t, []string{"make", "test-e2e-aianalysis"}, slices.Concat(w.env, []string{"KEEP_CLUSTER=true", payload(300)})...)
		o, made := w.struck(t, r, 150<<20, w.way.cut)
		if o.step("cluster").Attempts != 1 || o.step("build-hapi").State != run.Done {
			t.Errorf("something was repeated: %+v, %+v", o.step("build-hapi"), o.step("cluster"))
		}
		w.kept(t, o, made)
		o.tells(t, "the connection to podman at ssh://", "was cut", "the suite passes", "the cluster answers", "the image of hapi is built")
		t.Log(o.report)
		observed(t, "the incident: connection to Podman 5 behind SSH cut at 150 of 300 MB", "load", "the whole suite passed; build not repeated, cluster kept", o)
	})
	if w.node() == "" {
		w.ready(t)
	}
	for i, c := range []struct {
		fault string
		brk   func()
	}{
		{"SSH server down for 30 s", func() {
			w.way.shut()
			w.way.cut()
			time.Sleep(30 * time.Second)
			w.way.open()
		}},
		{"connection to Podman 5 behind SSH stalled", w.way.stall},
		{"Podman 5 behind SSH killed, restarted after 5 s", func() {
			w.svc.Kill()
			time.Sleep(5 * time.Second)
			w.svc.Start()
		}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			r := w.start(t, payload(301+i), quick)
			o, made := w.struck(t, r, 60<<20, c.brk)
			w.kept(t, o, made)
			w.forget(t, o)
			observed(t, c.fault, "load", "passed; build not repeated, cluster kept", o)
		})
	}
	t.Run("the machine needs a restart", func(t *testing.T) {
		v := newVM(t, w)
		r := w.start(t, append(v.env, payload(310), quick)...)
		o, made := w.struck(t, r, 60<<20, v.wedge)
		w.kept(t, o, made)
		for _, call := range []string{"stop " + v.name, "start " + v.name} {
			if !slices.Contains(v.calls, call) {
				t.Errorf("nobody called podman machine %s:\n%s", call, strings.Join(v.calls, "\n"))
			}
		}
		o.tells(t, "restart the Podman machine")
		t.Log(o.report)
		observed(t, "Podman machine deaf until it is restarted", "load", "passed; build not repeated, cluster kept", o)
	})
	t.Run("the machine needs a restart, and somebody else works in it", func(t *testing.T) {
		w.neighbour(t)
		v := newVM(t, w)
		r := w.start(t, append(v.env, payload(311), quick)...)
		r.until("load", run.Start)
		w.way.after(r, 60<<20)
		v.wedge()
		o := r.wait()
		v.off()
		v.on()
		o.is(t, 75, "infrastructure")
		o.tells(t, "other containers run in it: neighbour", "E2E_MACHINE_RESTART=always", "unit tests pass")
		if i := slices.IndexFunc(v.calls, func(c string) bool { return strings.HasPrefix(c, "stop") }); i >= 0 {
			t.Error("the machine was stopped all the same")
		}
		observed(t, "Podman machine deaf, somebody else's container in it", "load", "left alone, with the other container's name; the unit tests were run and pass", o)
	})
}

// neighbour runs somebody else's container on the engine.
func (w *world) neighbour(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module neighbour\n", "main.go": "package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Hour) }\n",
		"Dockerfile": "FROM scratch\nCOPY neighbour /\nCMD [\"/neighbour\"]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "neighbour", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.podman(t, "build", "--tag", "localhost/neighbour", dir)
	w.podman(t, "run", "--detach", "--name", "neighbour", "localhost/neighbour")
	t.Cleanup(func() { w.podman(t, "rm", "--force", "--time=0", "neighbour") })
}

// struck lets a fault strike once so many bytes of the load have passed, and
// returns what became of the run, and the node that was there before.
func (w *world) struck(t *testing.T, r *pipeline, size int64, brk func()) (outcome, string) {
	t.Helper()
	r.until("load", run.Start)
	w.way.after(r, size)
	made := w.node()
	brk()
	o := r.wait()
	o.is(t, 0, "passed")
	return o, made
}

// kept checks that nothing was done again but the load, and that the report
// says so.
func (w *world) kept(t *testing.T, o outcome, made string) {
	t.Helper()
	if o.attempts("build-hapi") != 1 {
		t.Errorf("the build was repeated: %+v", o.step("build-hapi"))
	}
	if made == "" || w.node() != made {
		t.Error("the cluster was made anew")
	}
	o.tells(t, "passed after healing", "Recovery actions")
}
