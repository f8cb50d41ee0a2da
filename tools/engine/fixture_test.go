package engine_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// onEngines runs a test against each engine that there is.
func onEngines(t *testing.T, test func(t *testing.T, f fixture)) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	for _, provider := range []string{engine.Podman, engine.Docker} {
		t.Run(provider, func(t *testing.T) {
			if provider == engine.Docker && engine.Reachable(t.Context(), engine.Docker) != nil {
				// Podman is what this project needs; Docker is tested where it runs.
				t.Skip("no Docker engine runs here")
			}
			enginetest.Connect(t, provider)
			e, err := engine.Open(t.Context(), engine.Options{Provider: provider})
			if err != nil {
				t.Fatal(err)
			}
			f := fixture{Engine: e, prefix: unique(t)}
			t.Cleanup(func() { f.sweep(t) })
			test(t, f)
		})
	}
}

type fixture struct {
	engine.Engine
	prefix string
}

func unique(t *testing.T) string {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return "enginetest-" + hex.EncodeToString(b[:])
}

// build makes an image of the probe and removes it after the test.
func (f fixture) build(t *testing.T) (ref, id string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write(t, dir, "Dockerfile", "FROM scratch\nARG GREETING\nLABEL greeting=$GREETING\nCOPY probe /probe\nENTRYPOINT [\"/probe\"]\nCMD [\"sleep\"]\n")
	ref = "localhost/" + f.prefix + ":one"
	f.cleanImage(t, ref)
	id, err := f.Build(t.Context(), engine.BuildRequest{
		Context: dir, Tag: ref, Args: map[string]string{"GREETING": "hello"},
		Labels: map[string]string{f.prefix: "true"},
	}, func(u progress.Update) { t.Log(u.Line) })
	if err != nil {
		t.Fatal(err)
	}
	return ref, id
}

func (f fixture) cleanImage(t *testing.T, ref string) {
	t.Cleanup(func() {
		if err := f.RemoveImage(context.Background(), ref, true); err != nil && !errors.Is(err, engine.ErrNotFound) {
			t.Error(err)
		}
	})
}

// sweep removes what builds keep as their cache.
func (f fixture) sweep(t *testing.T) {
	for range 10 { // an image goes only after those built on it
		list, err := f.Images(context.Background(), f.prefix)
		if err != nil {
			t.Error(err)
		}
		for _, i := range list {
			_ = f.RemoveImage(context.Background(), i.ID, true)
		}
		if len(list) == 0 {
			return
		}
	}
	t.Error("images of the test are left")
}

// run starts a container by the engine's CLI: making containers is none of
// this package's business.
func (f fixture) run(t *testing.T, ref string) string {
	t.Helper()
	box := f.prefix + "-box"
	if out, err := exec.CommandContext(t.Context(), f.Name(), "run", "-d", "--network=none", "--name", box, "--label", f.prefix+"=true", ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := f.RemoveContainer(context.Background(), box, true, true); err != nil && !errors.Is(err, engine.ErrNotFound) {
			t.Error(err)
		}
	})
	return box
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
