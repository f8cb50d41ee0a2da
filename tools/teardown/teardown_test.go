package teardown

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

var ours = map[string]string{"kubernaut-e2e": "true"}

func options(t *testing.T, engines ...Engine) Options {
	t.Helper()
	return Options{Engines: engines, StateDir: t.TempDir(), KubeDir: t.TempDir(), TempDir: t.TempDir(), Network: "kubernaut-e2e"}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestRunWithNothingThere(t *testing.T) {
	for name, o := range map[string]Options{"an empty engine": options(t, &fakeEngine{}), "no engine": options(t)} {
		o.StateDir = filepath.Join(o.StateDir, "missing")
		if r, err := Run(t.Context(), o); err != nil || len(r.Removed)+len(r.Kept) != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestRunLeavesForeignThings puts beside each thing of ours one that looks like
// it and is somebody else's.
func TestRunLeavesForeignThings(t *testing.T) {
	e := &fakeEngine{
		images: []engine.Image{
			{ID: "i1", Tags: []string{"localhost/kubernaut-hapi:abc"}, Labels: ours},
			{ID: "i2", Tags: []string{"localhost/kubernaut-e2e/node:x"}, Labels: ours},
			{ID: "i3", Tags: []string{"localhost/derived:1"}, Labels: ours},
			{ID: "i4", Tags: []string{"localhost/kubernaut-theirs:1"}},
			{ID: "i5", Tags: []string{"localhost/kubernaut-both:1", "localhost/kept:1"}, Labels: ours},
		},
		containers: []engine.Container{
			{ID: "c1", Name: "helper", ImageID: "i4", Labels: ours},
			{ID: "c2", Name: "uses-our-node", ImageID: "i2", Labels: ours},
			{ID: "c3", Name: "plain", ImageID: "i4"},
			{ID: "c4", Name: "other-control-plane", ImageID: "i2", Networks: []string{"kind"},
				Labels: map[string]string{"kubernaut-e2e": "true", "io.x-k8s.kind.cluster": "other"}},
		},
		networks: []engine.Network{{Name: "kubernaut-e2e"}, {Name: "kind"}},
		volumes: []engine.Volume{{Name: "v1", Labels: ours}, {Name: "v2"},
			{Name: "v3", Labels: map[string]string{"other-control-plane": "true"}},
			{Name: "v4", Labels: map[string]string{"kubernaut-e2e-life-7-control-plane": "true"}}},
	}
	r, err := Run(t.Context(), options(t, e))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, c := range e.containers {
		left = append(left, c.Name)
	}
	for _, i := range e.images {
		left = append(left, i.Tags...)
	}
	for _, n := range e.networks {
		left = append(left, n.Name)
	}
	for _, v := range e.volumes {
		left = append(left, v.Name)
	}
	want := []string{"uses-our-node", "plain", "other-control-plane", "localhost/kubernaut-e2e/node:x", "localhost/derived:1",
		"localhost/kubernaut-theirs:1", "localhost/kept:1", "kind", "v2", "v3"}
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left %v\nwant %v\n%+v", left, want, r)
	}
	if len(r.Removed) != 6 {
		t.Errorf("removed %q", r.Removed)
	}
}

func TestRunReportsAnEngineThatDoesNotAnswer(t *testing.T) {
	refused := errors.New("connection refused")
	o := options(t, &fakeEngine{down: refused}, &fakeEngine{networks: []engine.Network{{Name: "kubernaut-e2e"}}})
	temp := filepath.Join(o.TempDir, "kubernaut-e2e-load-1")
	write(t, filepath.Join(temp, "part"), "x")
	undone := false
	o.Undo = func(context.Context) ([]string, error) { undone = true; return []string{"kept package podman"}, nil }
	r, err := Run(t.Context(), o)
	if e := failure.As(err); e == nil || e.Verdict(failure.Teardown) != failure.Infrastructure || !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if exists(temp) || !undone || !slices.Contains(r.Removed, "removed network kubernaut-e2e (podman)") {
		t.Errorf("what could be removed was not: %+v", r)
	}
	if !slices.Contains(r.Kept, "package podman") {
		t.Errorf("kept %q", r.Kept)
	}
}

func TestRunRemovesOnlyItsFiles(t *testing.T) {
	o := options(t)
	outside := filepath.Join(t.TempDir(), "theirs")
	kept := map[string]string{
		filepath.Join(o.KubeDir, "config"):                       "theirs",
		filepath.Join(o.KubeDir, "other-config"):                 "apiVersion: v1\nkind: Config\nclusters:\n- name: kind-other\n  cluster: {server: 'https://127.0.0.1:1'}\n",
		filepath.Join(o.TempDir, "kubernaut-something", "f"):     "theirs",
		filepath.Join(o.TempDir, "kubernaut-e2e-runtime", "s.c"): "Undo's",
		outside: "theirs",
	}
	for path, text := range kept {
		write(t, path, text)
	}
	o.KeepTemp = []string{filepath.Join(o.TempDir, "kubernaut-e2e-runtime")}
	mine := []string{filepath.Join(o.TempDir, "kubernaut-e2e-1"), filepath.Join(o.KubeDir, "gone-config"), filepath.Join(t.TempDir(), "build")}
	write(t, filepath.Join(mine[0], "f"), "x")
	if err := os.Symlink(outside, filepath.Join(mine[0], "link")); err != nil {
		t.Fatal(err)
	}
	write(t, mine[1], "apiVersion: v1\nkind: Config\nclusters:\n- name: kind-gone\n  cluster:\n    server: https://127.0.0.1:1\n    extensions:\n    - {name: kubernaut-e2e, extension: {cluster: gone}}\n")
	write(t, filepath.Join(mine[2], "f"), "x")
	o.Paths = []string{mine[2]}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range mine {
		if exists(f) {
			t.Errorf("%s is still there; %+v", f, r)
		}
	}
	for path, text := range kept {
		if raw, err := os.ReadFile(path); err != nil || string(raw) != text {
			t.Errorf("%s: %q, %v", path, raw, err)
		}
	}
}

func TestRunGoesOnAfterAFailure(t *testing.T) {
	e := &fakeEngine{refuse: errors.New("disk is full"), networks: []engine.Network{{Name: "kubernaut-e2e"}},
		images: []engine.Image{{ID: "i1", Tags: []string{"localhost/kubernaut-a:1"}, Labels: ours}}}
	r, err := Run(t.Context(), options(t, e))
	if !errors.Is(err, e.refuse) || !strings.Contains(err.Error(), "localhost/kubernaut-a:1") {
		t.Errorf("error %v", err)
	}
	if len(e.networks) != 0 || len(r.Removed) != 1 {
		t.Errorf("stopped at the first failure: %+v", r)
	}
}
