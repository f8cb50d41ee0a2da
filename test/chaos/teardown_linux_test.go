package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// TestMatrixOfTeardown breaks mage teardown, on an engine that holds nothing
// but this test's, and proves that nothing of this project is left.
func TestMatrixOfTeardown(t *testing.T) {
	w, _ := newMachineWorld(t)
	for _, c := range []struct {
		fault  string
		before func() // leaves something behind
		brk    func(r *pipeline)
		gone   bool // the first teardown says that the engine is
		again  bool // a second teardown is needed, as the first said
		became string
	}{
		{fault: "none", became: "everything removed"},
		{fault: "connection cut", brk: func(*pipeline) { w.way.cut() }, became: "everything removed"},
		{fault: "connection stalled", brk: func(*pipeline) { w.way.stall() }, became: "everything removed"},
		{fault: "node container stopped", before: func() { onNode("stop", "--time=1")(t, w, nil) }, became: "everything removed"},
		{fault: "kubeconfig corrupted", before: func() { corrupt(t, w, nil) }, became: "everything removed"},
		{fault: "lock held by another run for 15 s", before: func() { w.holdLock(t) }, became: "waited for it; everything removed"},
		{fault: "engine stopped for 30 s", brk: func(*pipeline) { w.svc.Kill(); time.Sleep(30 * time.Second); w.svc.Start() }, became: "everything removed"},
		{fault: "SIGKILL of go test, with a cluster half made", before: func() { w.killTest(t) }, became: "everything removed"},
		{fault: "engine killed, restarted after 5 s", brk: func(*pipeline) { w.svc.Kill(); time.Sleep(5 * time.Second); w.svc.Start() }, became: "everything removed"},
		{fault: "engine gone for good", before: w.svc.Kill, gone: true, became: "refused, with the cluster it could not remove; the next teardown removed everything"},
		{fault: "SIGINT to the run", brk: func(r *pipeline) { r.signal(syscall.SIGINT) }, again: true, became: "ended as interrupted; the next teardown removed everything"},
		{fault: "SIGTERM to the run", brk: func(r *pipeline) { r.signal(syscall.SIGTERM) }, again: true, became: "ended as interrupted; the next teardown removed everything"},
		{fault: "SIGKILL of the run", brk: func(r *pipeline) { r.signal(syscall.SIGKILL) }, again: true, became: "the next teardown removed everything"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			w.ready(t)
			if c.before != nil {
				c.before()
			}
			r := w.teardown(t)
			if c.brk != nil {
				r.until("teardown", run.Start)
				time.Sleep(700 * time.Millisecond)
				c.brk(r)
			}
			var first outcome
			if c.gone {
				first = r.wait()
				first.is(t, 75, "infrastructure")
				first.tells(t, "has cluster "+clusterName+" on record")
				w.svc.Start()
			}
			if c.again || c.gone {
				<-r.ended
				r = w.teardown(t)
			}
			o := r.wait()
			o.is(t, 0, "passed")
			w.isClean(t)
			if c.gone {
				o = first
			}
			observed(t, c.fault, "mage teardown", c.became, o)
		})
	}
}

// teardown begins mage teardown. It would end the services that this project
// keeps for everybody on this host, and clear their folder: it sees an empty one.
func (w *world) teardown(t *testing.T) *pipeline {
	t.Helper()
	temp := t.TempDir()
	env := append(slices.Clone(w.env), "DOCKER_HOST=unix://"+filepath.Join(temp, "no.sock"), "TMPDIR="+temp)
	if raw, err := os.ReadFile(os.Getenv("CONTAINERS_CONF")); err == nil { // it is in that folder
		conf := filepath.Join(temp, "containers.conf")
		if err := os.WriteFile(conf, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, "CONTAINERS_CONF="+conf)
	}
	script := fmt.Sprintf("mkdir -p %[1]s && mount -t tmpfs none %[1]s && exec %[2]s teardown", "/run/kubernaut-e2e", filepath.Join(w.dir, targets))
	return w.begin(t, []string{"unshare", "--mount", "sh", "-c", script}, env...)
}

// killTest ends a test of this project in the middle of making a cluster, which
// has its records and its home in folders that go away.
func (w *world) killTest(t *testing.T) {
	t.Helper()
	cmd := exec.Command("go", "test", "./tools/cluster", "-run=^TestLifecycle$", "-count=1")
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), append(w.env, "TMPDIR="+t.TempDir())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if strings.Contains(w.podman(t, "ps", "--format", "{{.Names}}"), settings.Label+"-life-") {
			time.Sleep(3 * time.Second)
			return
		}
	}
	t.Fatal("the test made no cluster")
}

// isClean asks engine and home folder for everything that this project makes.
func (w *world) isClean(t *testing.T) {
	t.Helper()
	for what, args := range map[string][]string{
		"containers": {"ps", "--all", "--quiet"},
		"volumes":    {"volume", "ls", "--quiet"},
		"images":     {"images", "--all", "--quiet"},
		"networks":   {"network", "ls", "--quiet", "--filter", "name=kubernaut"},
	} {
		if left := strings.TrimSpace(w.podman(t, args...)); left != "" {
			t.Errorf("%s left:\n%s", what, left)
		}
	}
	for _, f := range []string{w.kubeconfig(), filepath.Join(w.state, clusterName+".podman.cluster.json"), filepath.Join(w.state, clusterName+".lock")} {
		if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left: %s (%v)", f, err)
		}
	}
}
