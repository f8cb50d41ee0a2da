package host

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// realPodman gives options whose folders are the test's own, and an environment
// that names no engine, so that a service of the test's own is started.
func realPodman(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real service")
	}
	if _, err := exec.LookPath("podman"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("SKIP-NO-ENGINE: podman is not installed (CI=true: not skipping)")
		}
		t.Skip("SKIP-NO-ENGINE: podman is not installed")
	}
	dir, err := os.MkdirTemp("", "e2e-host") // t.TempDir's paths are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := Options{Provider: Podman, RuntimeDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state")}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name != "CONTAINER_HOST" && name != "CONTAINERS_CONF" && name != "CONTAINER_CONNECTION" {
			o.Environ = append(o.Environ, kv)
		}
	}
	o.Environ = append(o.Environ, "TMPDIR="+dir)
	t.Cleanup(func() {
		if _, err := Undo(context.Background(), o); err != nil {
			t.Errorf("undo: %v", err)
		}
	})
	return o
}

// ownService skips where another Podman answers first: nothing is started then.
func ownService(t *testing.T, o Options) Connection {
	t.Helper()
	c, err := EnsureEngine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Ours {
		t.Skipf("SKIP-FOREIGN-SERVICE: %s answers here, so no service of ours is started", c.URL)
	}
	return c
}

// spools are the folders of temporary files that services of o have now.
func spools(t *testing.T, o Options) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(o.StateDir), "kubernaut-e2e-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func pid(t *testing.T, o Options) int {
	t.Helper()
	st, ok := newHost(o).podmanService().Find()
	if !ok {
		t.Fatal("no service runs")
	}
	return st.PID
}

func TestServiceLife(t *testing.T) {
	o := realPodman(t)
	first := ownService(t, o)
	if !first.Started || len(first.Changes) == 0 {
		t.Errorf("first call: %+v, want a started service on record", first)
	}
	firstPID := pid(t, o)

	second, err := EnsureEngine(t.Context(), o)
	if err != nil || second.Started || len(second.Changes) != 0 || pid(t, o) != firstPID {
		t.Errorf("second call changed something: %+v, %v", second, err)
	}

	// Inside its own environment, as in a child process of a run.
	inside := o
	inside.Environ = append(append([]string{}, o.Environ...), first.Env...)
	third, err := EnsureEngine(t.Context(), inside)
	if err != nil || third.Started || !third.Ours {
		t.Errorf("call with our own CONTAINER_HOST: %+v, %v", third, err)
	}

	// Killed, as a fault would: the next call heals it, with stale pid and socket
	// in place, and removes what it was writing.
	left := filepath.Join(spools(t, o)[0], "layer")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(firstPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	healed, err := EnsureEngine(t.Context(), inside)
	if err != nil || !healed.Started || pid(t, o) == firstPID {
		t.Errorf("after SIGKILL: %+v, %v", healed, err)
	}
	if fileExists(left) || len(spools(t, o)) != 1 {
		t.Errorf("temporary files of the killed service: %q", spools(t, o))
	}

	before := pid(t, o)
	if did, err := RestartService(t.Context(), inside); err != nil || !did || pid(t, o) == before {
		t.Errorf("restart: %v, %v", did, err)
	}
	if _, err := Locate(t.Context(), o); err != nil {
		t.Errorf("after restart: %v", err)
	}

	done, err := Undo(t.Context(), o)
	if err != nil || !strings.Contains(strings.Join(done, "\n"), "stopped podman service") {
		t.Errorf("undo: %q, %v", done, err)
	}
	if fileExists(o.RuntimeDir) {
		t.Error("the runtime folder is still there")
	}
	if left := spools(t, o); len(left) > 0 {
		t.Errorf("temporary files are still there: %q", left)
	}
	if done, err = Undo(t.Context(), o); err != nil || strings.Contains(strings.Join(done, "\n"), "stopped") {
		t.Errorf("second undo: %q, %v", done, err)
	}
}

func TestServiceWithoutPidFileIsFoundAndStopped(t *testing.T) {
	o := realPodman(t)
	ownService(t, o)
	if err := os.Remove(filepath.Join(o.RuntimeDir, "podman.pid")); err != nil {
		t.Fatal(err)
	}
	was := pid(t, o)
	if _, err := Undo(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, ok := newHost(o).podmanService().Find(); ok {
		t.Errorf("pid %d still runs", was)
	}
}

// A pid file whose pid belongs to another process by now must not be believed.
func TestReusedPidIsNotKilled(t *testing.T) {
	o := realPodman(t)
	if err := os.MkdirAll(o.RuntimeDir, 0o700); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	data, err := json.Marshal(map[string]any{"pid": sleep.Process.Pid, "start": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.RuntimeDir, "podman.pid"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Undo(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the innocent process is gone: %v", err)
	}
}

func TestManyProcessesShareOneService(t *testing.T) {
	o := realPodman(t)
	var wg sync.WaitGroup
	started := make(chan bool, 4)
	for range 4 {
		wg.Go(func() {
			c, err := EnsureEngine(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			started <- c.Started
		})
	}
	wg.Wait()
	close(started)
	n := 0
	for s := range started {
		if s {
			n++
		}
	}
	if n > 1 {
		t.Errorf("%d calls started a service", n)
	}
}

func TestCorruptRecordIsMovedAside(t *testing.T) {
	h, _ := newFake(t, Options{}, easyHost())
	if err := os.WriteFile(h.recordFile(), []byte(`[{"kind":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.announce(Change{Kind: KindService, What: "x", Why: "y"}); err != nil {
		t.Fatal(err)
	}
	if !fileExists(h.recordFile() + ".corrupt") {
		t.Error("the corrupt file was not kept")
	}
	if all, err := h.readRecord(); err != nil || len(all) != 1 {
		t.Errorf("record: %v, %v", all, err)
	}
}

func TestUndoRemovesOnlyAnEmptyFolder(t *testing.T) {
	h, _ := newFake(t, Options{}, easyHost())
	empty, full := filepath.Join(t.TempDir(), "empty"), t.TempDir()
	if err := errorsOf(os.Mkdir(empty, 0o755), os.WriteFile(filepath.Join(full, "f"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{empty, full} {
		if err := h.announce(Change{Kind: KindDirectory, What: d}); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Undo(t.Context(), Options{RuntimeDir: h.RuntimeDir, StateDir: h.StateDir})
	if err != nil || fileExists(empty) || !fileExists(full) {
		t.Errorf("undo: %q, %v", done, err)
	}
}

func TestBrokenServiceSaysWhy(t *testing.T) {
	o := realPodman(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "podman"), []byte("#!/bin/sh\n[ \"$2\" = connection ] && exit 0\necho 'Error: the store is broken' >&2\nexit 125\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	_, err := EnsureEngine(t.Context(), o)
	e := failure.As(err)
	if err == nil {
		t.Skip("SKIP-FOREIGN-SERVICE: another Podman answers here")
	}
	if e == nil || e.Class != failure.EngineBroken || !strings.Contains(err.Error(), "the store is broken") {
		t.Errorf("got %v, want engine-broken with what Podman said", err)
	}
	if _, ok := newHost(o).podmanService().Find(); ok {
		t.Error("something was left running")
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
