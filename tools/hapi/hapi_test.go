package hapi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// fakeEngine holds images by reference and records what it was asked to build.
type fakeEngine struct {
	images   map[string]engine.Image
	builds   []engine.BuildRequest
	staged   [][]string // names in the context of each build
	buildErr error
	lookErr  error
	forgets  bool // a build that succeeds and leaves nothing
}

func (f *fakeEngine) Image(_ context.Context, ref string) (engine.Image, error) {
	if f.lookErr != nil {
		return engine.Image{}, f.lookErr
	}
	if i, ok := f.images[ref]; ok {
		return i, nil
	}
	return engine.Image{}, engine.ErrNotFound
}

func (f *fakeEngine) Build(_ context.Context, r engine.BuildRequest, _ progress.Func) (string, error) {
	f.builds = append(f.builds, r)
	if f.buildErr != nil {
		return "", f.buildErr
	}
	var names []string
	entries, err := os.ReadDir(r.Context)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	f.staged = append(f.staged, names)
	if !f.forgets {
		if f.images == nil {
			f.images = map[string]engine.Image{}
		}
		f.images[r.Tag] = engine.Image{ID: "sha256:1234", Tags: []string{r.Tag}}
	}
	return "sha256:1234", nil
}

// plain is a request for an image without a program.
func plain(t *testing.T) Request {
	t.Helper()
	root := t.TempDir()
	write(t, root, "app/Dockerfile", "FROM scratch\nCOPY data /data\n")
	write(t, root, "app/data", "one")
	return Request{Root: root, Work: filepath.Join(root, "work"), Image: settings.Image{Name: "app", Context: "app"}, Platform: "linux/amd64"}
}

func TestSameInputsAreBuiltOnce(t *testing.T) {
	e, r := &fakeEngine{}, plain(t)
	first, err := Ensure(t.Context(), e, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(t.Context(), e, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Built || second.Built || first.Ref != second.Ref || first.ID != "sha256:1234" || second.ID != first.ID || len(e.builds) != 1 {
		t.Errorf("first %+v, second %+v after %d builds", first, second, len(e.builds))
	}
	if !strings.HasPrefix(first.Ref, "localhost/kubernaut-app:") {
		t.Errorf("reference %s", first.Ref)
	}
	if b := e.builds[0]; b.Tag != first.Ref || b.Labels[settings.Label] != "true" || b.Platform != "linux/amd64" {
		t.Errorf("built %+v", b)
	}
	write(t, r.Root, "app/data", "two")
	third, err := Ensure(t.Context(), e, r, nil)
	if err != nil || !third.Built || third.Ref == first.Ref {
		t.Errorf("changed content: %+v, %v", third, err)
	}
}

func TestFailuresKeepTheirCause(t *testing.T) {
	broken := failure.New(failure.TestFailure, "step 2 failed", "correct the Dockerfile", nil)
	lost := failure.New(failure.EngineConnection, "the connection was cut", "podman machine start", nil)
	for name, c := range map[string]struct {
		engine fakeEngine
		want   failure.Class
		builds int
	}{
		"the Dockerfile does not build":  {fakeEngine{buildErr: broken}, failure.TestFailure, 1},
		"the engine is lost in a build":  {fakeEngine{buildErr: lost}, failure.EngineConnection, 1},
		"the engine is lost before that": {fakeEngine{lookErr: lost}, failure.EngineConnection, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Ensure(t.Context(), &c.engine, plain(t), nil)
			if f := failure.As(err); f == nil || f.Class != c.want || got != (Image{}) || len(c.engine.builds) != c.builds {
				t.Errorf("got %+v, %v after %d builds, want class %s after %d", got, err, len(c.engine.builds), c.want, c.builds)
			}
			if c.builds > 0 && !strings.Contains(err.Error(), "localhost/kubernaut-app:") {
				t.Errorf("%q does not name the image", err)
			}
		})
	}
}

func TestBuildThatLeavesNothingIsAFailure(t *testing.T) {
	_, err := Ensure(t.Context(), &fakeEngine{forgets: true}, plain(t), nil)
	if !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotThereIsConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Request){
		"context":                func(r *Request) { r.Image.Context = "missing" },
		"Dockerfile":             func(r *Request) { r.Image.Dockerfile = "missing" },
		"context with a program": func(r *Request) { r.Image.Context, r.Image.Program = "missing", "./missing" },
	} {
		t.Run(name, func(t *testing.T) {
			e, r := &fakeEngine{}, plain(t)
			change(&r)
			_, err := Ensure(t.Context(), e, r, nil)
			if f := failure.As(err); f == nil || f.Class != failure.Configuration || !strings.Contains(err.Error(), "missing") {
				t.Errorf("got %v", err)
			}
			if len(e.builds) != 0 {
				t.Error("something was built")
			}
		})
	}
}

// program is a request for an image of a Go program in a module of its own.
func program(t *testing.T, source string) Request {
	t.Helper()
	root := t.TempDir()
	write(t, root, "go.mod", "module example.org/app\n\ngo 1.24\n")
	write(t, root, "cmd/main.go", source)
	write(t, root, "image/Dockerfile", "FROM scratch\nCOPY app /app\n")
	return Request{Root: root, Work: filepath.Join(root, "work"), Image: settings.Image{Name: "app", Context: "image", Program: "./cmd"}, Platform: "linux/amd64"}
}

func TestUnchangedProgramIsNotLinkedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	e, r := &fakeEngine{}, program(t, "package main\n\nfunc main() { println(1) }\n")
	first, err := Ensure(t.Context(), e, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(e.staged[0], " "); got != "Dockerfile app" {
		t.Errorf("the engine got %s", got)
	}
	binary := filepath.Join(r.Work, "app", "bin", "linux-amd64", "app")
	before, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(t.Context(), e, r, nil)
	if err != nil || second.Built || second.Ref != first.Ref {
		t.Fatalf("second %+v, %v", second, err)
	}
	if after, err := os.Stat(binary); err != nil || !os.SameFile(before, after) {
		t.Errorf("the unchanged program was linked again: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(r.Root, "image")); len(entries) != 1 {
		t.Error("the program was put into the source folder")
	}

	write(t, r.Root, "cmd/main.go", "package main\n\nfunc main() { println(2) }\n")
	third, err := Ensure(t.Context(), e, r, nil)
	if err != nil || !third.Built || third.Ref == first.Ref {
		t.Errorf("changed program: %+v, %v", third, err)
	}

	write(t, r.Root, "cmd/main.go", "package main\n\nfunc main() { println(undefinedName) }\n")
	_, err = Ensure(t.Context(), e, r, nil)
	if f := failure.As(err); f == nil || f.Class != failure.TestFailure || !strings.Contains(err.Error(), "undefinedName") {
		t.Errorf("a program that does not compile: %v", err)
	}
	if len(e.builds) != 2 {
		t.Errorf("%d builds, want 2", len(e.builds))
	}
}

func TestCompileEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	started := time.Now()
	_, err := Ensure(ctx, &fakeEngine{}, program(t, "package main\n\nfunc main() {}\n"), nil)
	if err == nil || failure.As(err) != nil || time.Since(started) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(started), err)
	}
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
