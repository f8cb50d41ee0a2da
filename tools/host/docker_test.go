package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func TestDockerdIsNotStartedForThoseWhoDidNotAsk(t *testing.T) {
	systemd := easyHost()
	plain := easyHost()
	plain.Systemd = false
	user := plain
	user.UID = 1000
	mac := easyHost()
	mac.OS = "darwin"
	for name, tt := range map[string]struct {
		h    func() (*host, *fakeRunner)
		want string
	}{
		"systemd starts it": {func() (*host, *fakeRunner) { return newFake(t, Options{Provider: Docker}, systemd) }, "sudo systemctl start docker"},
		"not root":          {func() (*host, *fakeRunner) { return newFake(t, Options{Provider: Docker}, user) }, "dockerd"},
		"macOS":             {func() (*host, *fakeRunner) { return newFake(t, Options{Provider: Docker}, mac) }, "start Docker Desktop"},
	} {
		t.Run(name, func(t *testing.T) {
			h, run := tt.h()
			run.programs["docker"], run.programs["dockerd"] = true, true
			_, err := h.ensure(t.Context())
			if e := failure.As(err); e == nil || !strings.Contains(e.Remedy, tt.want) {
				t.Errorf("got %v, want a remedy with %q", err, tt.want)
			}
		})
	}
}

// TestOnlyTheDockerInUseIsRestarted: a socket that our dockerd left behind does
// not make ours of the Docker that answers.
func TestOnlyTheDockerInUseIsRestarted(t *testing.T) {
	h, run := newFake(t, Options{Provider: Docker}, easyHost())
	h.ping = func(_ context.Context, e endpoint) error {
		if e.url == h.dockerService().url() {
			return errors.New("connection refused")
		}
		return nil
	}
	run.programs["docker"], run.programs["dockerd"] = true, true
	sock := h.dockerService().Sock
	if err := os.WriteFile(sock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := h.ours(Docker); err != nil || d == nil {
		t.Fatalf("ours: %v, %v", d, err)
	}
	if did, err := h.restartDocker(t.Context(), h.dockerService().url()); did || err != nil || !fileExists(sock) {
		t.Errorf("restarted: %v, %v", did, err)
	}
	h.env["DOCKER_HOST"] = h.dockerService().url()
	_, err := h.restartDocker(t.Context(), h.dockerService().url())
	if e := failure.As(err); e == nil || !strings.Contains(e.Remedy, "systemctl") {
		t.Errorf("ours is named, and another was taken: %v", err)
	}
}

func TestMountsBelow(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mounts")
	if err := os.WriteFile(table, []byte("overlay /a/b/merged overlay rw 0 0\nx /a/bc ext4 rw 0 0\nx /a/b ext4 rw 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mountsBelow(table, "/a/b"); len(got) != 1 || got[0] != "/a/b/merged" {
		t.Errorf("got %q", got)
	}
}

func TestUndoKeepsADockerdThatHoldsContainersAlsoWhenItIsDead(t *testing.T) {
	o := Options{RuntimeDir: t.TempDir(), StateDir: t.TempDir()}
	h := newHost(o)
	theirs := filepath.Join(h.dockerRoot(), "containers", strings.Repeat("ab12", 16))
	if err := os.MkdirAll(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.announce(Change{Kind: KindData, What: h.dockerData(), Why: "images of our dockerd"}); err != nil {
		t.Fatal(err)
	}
	done, err := Undo(t.Context(), o)
	if err != nil || !strings.Contains(strings.Join(done, "\n"), "kept our dockerd") || !strings.Contains(strings.Join(done, "\n"), "docker rm -f ab12ab12ab12") {
		t.Errorf("undo: %q, %v", done, err)
	}
	if !fileExists(theirs) {
		t.Error("somebody's container is gone")
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}
	if done, err = Undo(t.Context(), o); err != nil || fileExists(h.dockerData()) {
		t.Errorf("nothing is in it any more, and it stays: %q, %v", done, err)
	}
}

// A real dockerd of ours: started, running a privileged container's exec where
// the host's capabilities are bounded, healed after SIGKILL, taken back.
func TestDockerLife(t *testing.T) {
	o := realPodman(t)
	o.Provider = Docker
	var env []string
	for _, kv := range o.Environ {
		if !strings.HasPrefix(kv, "DOCKER_HOST=") {
			env = append(env, kv)
		}
	}
	o.Environ = env
	if _, err := newHost(o).run.LookPath("dockerd"); err != nil {
		if os.Getenv("CI") == "" { // nobody asked for Docker on a machine of theirs
			t.Skip("SKIP-NO-ENGINE: dockerd is not installed; CI=true installs it")
		}
		o.AllowInstall = true
	}
	c, err := EnsureEngine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Ours || !c.Started {
		t.Skipf("SKIP-FOREIGN-SERVICE: Docker answers at %s", c.URL)
	}
	docker := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "docker", args...)
		cmd.Env = append(append([]string{}, o.Environ...), c.Env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	image := tinyImage(t, docker)
	docker("run", "-d", "--privileged", "--network=none", "--name", "life", image)
	docker("exec", "--privileged", "life", "/tiny", "once")
	before, _ := newHost(o).dockerService().Find()
	got, err := RestartService(t.Context(), o)
	if after, runs := newHost(o).dockerService().Find(); err != nil || !got || !runs || after.PID == before.PID {
		t.Errorf("restart: %v, %v; pid %d, before %d", got, err, after.PID, before.PID)
	}
	docker("rm", "-f", "life")
	done, err := Undo(t.Context(), o)
	if err != nil || !strings.Contains(strings.Join(done, "\n"), "stopped docker service") {
		t.Errorf("undo: %q, %v", done, err)
	}
	for _, left := range []string{o.RuntimeDir, filepath.Join(o.StateDir, "docker")} {
		if fileExists(left) {
			t.Errorf("%s is left", left)
		}
	}
}

// tinyImage makes an image from one static program, without a registry.
func tinyImage(t *testing.T, docker func(...string) string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	program := "package main\nimport (\"os\"; \"time\")\nfunc main() { if len(os.Args) < 2 { time.Sleep(time.Hour) } }\n"
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "tiny"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	archive := filepath.Join(dir, "tiny.tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", archive, "tiny").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	docker("import", "--change", `ENTRYPOINT ["/tiny"]`, archive, "tiny:1")
	return "tiny:1"
}
