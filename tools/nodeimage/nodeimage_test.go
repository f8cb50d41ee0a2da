package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/build"
)

// fakeEngine has the images in it and can pull those of its registry.
type fakeEngine struct {
	images   map[string]*Image
	registry map[string]bool
	broken   error
	cut      error // what every pull ends with
}

func (f *fakeEngine) Image(_ context.Context, ref string) (*Image, error) {
	return f.images[ref], f.broken
}

func (f *fakeEngine) Pull(_ context.Context, ref string) error {
	if f.cut != nil {
		return f.cut
	}
	if !f.registry[ref] {
		return errors.New("manifest unknown")
	}
	f.images[ref] = &Image{ID: "id of " + ref}
	return nil
}

func (f *fakeEngine) Label(_ context.Context, base, ref string) error {
	if f.images[base] == nil {
		return errors.New("no base " + base)
	}
	f.images[ref] = ours()
	return nil
}

func (f *fakeEngine) Import(_ context.Context, archive, ref string) error {
	if _, err := os.Stat(archive); err != nil {
		return err
	}
	f.images[ref] = ours()
	return nil
}

func ours() *Image { return &Image{ID: "ours", Labels: map[string]string{label: "true"}} }

func plain() *Image { return &Image{ID: "plain"} }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEnsure(t *testing.T) {
	kind := must(canonical(defaults.Image))
	kindRef := derived("kind", kind)
	built := must(BuiltRef())
	noRegistry := errors.New("no such host")
	tests := []struct {
		name   string
		image  string
		has    map[string]*Image
		pulls  []string
		probe  error
		ref    string
		source Source
		class  failure.Class
	}{
		{name: "Kind's own, labelled before", has: map[string]*Image{kindRef: ours()}, probe: noRegistry, ref: kindRef, source: Present},
		{name: "Kind's own, in the engine", has: map[string]*Image{kind: plain()}, probe: noRegistry, ref: kindRef, source: Present},
		{name: "Kind's own, pulled", pulls: []string{kind}, ref: kindRef, source: Pulled},
		{name: "Kind's own before one built here", has: map[string]*Image{built: ours()}, pulls: []string{kind}, ref: kindRef, source: Pulled},
		{name: "no registry", has: map[string]*Image{built: ours()}, pulls: []string{kind}, probe: noRegistry, ref: built, source: Present},
		{name: "registry refuses", has: map[string]*Image{built: ours()}, ref: built, source: Present},
		{name: "given and ours", image: "a:1", has: map[string]*Image{"a:1": ours()}, probe: noRegistry, ref: "a:1", source: Present},
		{name: "given and another's", image: "a:1", has: map[string]*Image{"a:1": plain()}, probe: noRegistry, ref: derived("given", "plain"), source: Present},
		{name: "given and pulled", image: "a:1", pulls: []string{"docker.io/library/a:1"}, ref: derived("given", "id of docker.io/library/a:1"), source: Pulled},
		{name: "given, no registry", image: "quay.io/a:1", has: map[string]*Image{built: ours()}, probe: noRegistry, class: failure.Network},
		{name: "given, does not exist", image: "quay.io/a:1", has: map[string]*Image{built: ours()}, class: failure.ImageReference},
		{name: "given, local, does not exist", image: "localhost/a:1", probe: noRegistry, class: failure.ImageReference},
		{name: "given is no reference", image: "::", class: failure.ImageReference},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			engine := &fakeEngine{images: map[string]*Image{}, registry: map[string]bool{}}
			for ref, i := range tt.has {
				engine.images[ref] = i
			}
			for _, ref := range tt.pulls {
				engine.registry[ref] = true
			}
			got, err := Ensure(t.Context(), Options{
				Image: tt.image, Engine: engine, CacheDir: t.TempDir(),
				Probe: func(context.Context, string) error { return tt.probe },
			})
			if tt.class != "" {
				if f := failure.As(err); f == nil || f.Class != tt.class || f.Remedy == "" {
					t.Fatalf("got %v, want a failure of class %s with a remedy", err, tt.class)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Ref != tt.ref || got.Source != tt.source {
				t.Errorf("got %s from %s, want %s from %s", got.Ref, got.Source, tt.ref, tt.source)
			}
			if i := engine.images[got.Ref]; i == nil || i.Labels[label] != "true" {
				t.Errorf("the engine has %+v as %s, want an image labelled %s", i, got.Ref, label)
			}
		})
	}
}

// A pull that may well succeed the next time is no reason to build for a
// quarter of an hour, or to say that this host cannot.
func TestEnsurePullThatFailed(t *testing.T) {
	for _, said := range []string{
		"toomanyrequests: You have reached your unauthenticated pull rate limit",
		"read tcp 10.0.0.2:40000->3.4.5.6:443: read: connection reset by peer",
		"write /var/tmp/storage: no space left on device",
	} {
		for _, image := range []string{"", "quay.io/a:1"} {
			engine := &fakeEngine{images: map[string]*Image{must(BuiltRef()): ours()}, cut: errors.New(said)}
			_, err := Ensure(t.Context(), Options{
				Image: image, Engine: engine, CacheDir: t.TempDir(), Probe: func(context.Context, string) error { return nil },
			})
			if !errors.Is(err, engine.cut) || failure.As(err) != nil {
				t.Errorf("image %q, %q: got %v, want the pull's own error", image, said, err)
			}
		}
	}
}

func TestEnsureBehindAProxyThatLetsNobodyThrough(t *testing.T) {
	built := must(BuiltRef())
	got, err := Ensure(t.Context(), Options{
		Engine:   &fakeEngine{images: map[string]*Image{built: ours()}, cut: errors.New("invalid status code from registry 403 (Forbidden)")},
		CacheDir: t.TempDir(), Probe: func(context.Context, string) error { return nil },
	})
	if err != nil || got.Ref != built {
		t.Errorf("got %+v, %v, want the image built here", got, err)
	}
}

// A host that can neither pull nor build has two reasons.
func TestEnsureKeepsWhyThereIsNoRegistry(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	noRegistry := errors.New("no such host")
	_, err := Ensure(t.Context(), Options{
		Engine: &fakeEngine{images: map[string]*Image{}}, CacheDir: t.TempDir(),
		Probe: func(context.Context, string) error { return noRegistry },
	})
	if f := failure.As(err); f == nil || f.Class != failure.Configuration || !errors.Is(err, noRegistry) || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("got %v, want a configuration failure that says why no registry was used", err)
	}
}

func TestEnsureFromCache(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, "node-"+must(build.Key()))
	if err := os.MkdirAll(part, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(part, "node.tar"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	engine := &fakeEngine{images: map[string]*Image{}}
	got, err := Ensure(t.Context(), Options{
		Engine: engine, CacheDir: dir,
		Probe: func(context.Context, string) error { return errors.New("no such host") },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Result{Ref: must(BuiltRef()), KubernetesVersion: build.KubernetesVersion, Source: Cached}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func ExampleEnsure() {
	// An engine that has Kind's own image; Provider: "podman" asks the real one.
	engine := &fakeEngine{images: map[string]*Image{must(canonical(defaults.Image)): plain()}}
	image, err := Ensure(context.Background(), Options{Engine: engine})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(image.Base == defaults.Image, image.Source)
	// Output: true present
}

func TestEnsureBrokenEngine(t *testing.T) {
	broken := errors.New("connection refused")
	for _, image := range []string{"", "a:1"} {
		_, err := Ensure(t.Context(), Options{Image: image, Engine: &fakeEngine{broken: broken}, CacheDir: t.TempDir()})
		if !errors.Is(err, broken) {
			t.Errorf("image %q: got %v, want the engine's own error", image, err)
		}
	}
}

func TestEnsureUnknownProvider(t *testing.T) {
	_, err := Ensure(t.Context(), Options{Provider: "lxc", CacheDir: t.TempDir()})
	if f := failure.As(err); f == nil || f.Class != failure.Configuration {
		t.Errorf("got %v, want a configuration failure", err)
	}
}

func TestCanonical(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for in, want := range map[string]string{
		"kindest/node:v1.0.0" + digest: "docker.io/kindest/node" + digest,
		"kindest/node:v1.0.0":          "docker.io/kindest/node:v1.0.0",
		"quay.io/a/b":                  "quay.io/a/b:latest",
		"localhost:5000/a:1":           "localhost:5000/a:1",
	} {
		if got, err := canonical(in); err != nil || got != want {
			t.Errorf("canonical(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestVersionIn(t *testing.T) {
	for in, want := range map[string]string{
		"kindest/node:v1.37.0@sha256:00": "v1.37.0",
		"localhost/x:v1.34.4-abc":        "v1.34.4",
		"localhost/x:latest":             "",
	} {
		if got := versionIn(in); got != want {
			t.Errorf("versionIn(%q) = %q, want %q", in, got, want)
		}
	}
}
