package buildcontext_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(t *testing.T, c *buildcontext.Context) []string {
	t.Helper()
	var got []string
	if err := c.Walk(func(name, _ string, _ fs.FileInfo) error { got = append(got, name); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWalk(t *testing.T) {
	tests := []struct {
		name       string
		files      map[string]string
		dockerfile string
		extra      []string
		want       []string
	}{
		{"all", map[string]string{"Dockerfile": "", "b/c": "", "a": ""}, "", nil, []string{"Dockerfile", "a", "b", "b/c"}},
		{"ignored", map[string]string{"Dockerfile": "", ".dockerignore": "b\n*.o\n", "b/c": "", "x.o": "", "d/x.o": ""}, "", nil,
			[]string{".dockerignore", "Dockerfile", "d", "d/x.o"}},
		{"all but one", map[string]string{"Dockerfile": "", ".dockerignore": "*\n!b/keep\n", "b/keep": "", "b/not": ""}, "", nil, []string{"Dockerfile", "b/keep"}},
		{"containerignore rules", map[string]string{"Dockerfile": "", ".dockerignore": "a", ".containerignore": "b\n.*ignore", "a": "", "b": ""}, "", nil, []string{"Dockerfile", "a"}},
		{"the Dockerfile's own rules", map[string]string{"x/My.Dockerfile": "", "x/My.Dockerfile.dockerignore": "*", ".dockerignore": "", "a": ""}, "x/My.Dockerfile", nil,
			[]string{"x/My.Dockerfile"}},
		{"Containerfile first", map[string]string{"Containerfile": "", "Dockerfile": ""}, "", []string{"Dockerfile"}, []string{"Containerfile"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := buildcontext.Open(tree(t, tt.files), tt.dockerfile, tt.extra...)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, c); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDockerfileOutside(t *testing.T) {
	outside := filepath.Join(tree(t, map[string]string{"Other": "FROM scratch"}), "Other")
	c, err := buildcontext.Open(tree(t, map[string]string{"a": ""}), outside)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, c); len(got) != 2 || got[1] != c.Dockerfile {
		t.Errorf("got %q with Dockerfile %q", got, c.Dockerfile)
	}
}

func TestStreamDependsOnContentOnly(t *testing.T) {
	sum := func(mode os.FileMode, text string, when time.Time) string {
		dir := tree(t, map[string]string{"Dockerfile": "FROM scratch", "d/a": text})
		if err := errors.Join(os.Symlink("a", filepath.Join(dir, "d/link")), os.Chmod(filepath.Join(dir, "d/a"), mode),
			os.Chtimes(filepath.Join(dir, "d/a"), when, when)); err != nil {
			t.Fatal(err)
		}
		c, err := buildcontext.Open(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := c.WriteTar(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))
	}
	first := sum(0o644, "text", time.Now())
	if sum(0o664, "text", time.Unix(1, 0)) != first || sum(0o600, "text", time.Now()) != first {
		t.Error("umask or time changed the stream")
	}
	if sum(0o755, "text", time.Now()) == first || sum(0o644, "Text", time.Now()) == first {
		t.Error("mode or content did not change the stream")
	}
}

// What a umask took away is given back: who runs in the image is not the owner.
func TestEverybodyMayReadAndRun(t *testing.T) {
	dir := tree(t, map[string]string{"Dockerfile": "", "bin/program": "", "data": ""})
	for name, mode := range map[string]os.FileMode{"bin/program": 0o700, "data": 0o600, "bin": 0o700} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	c, err := buildcontext.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.WriteTar(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"Dockerfile": 0o644, "bin/": 0o755, "bin/program": 0o755, "data": 0o644}
	got := map[string]int64{}
	r := tar.NewReader(&b)
	for h, err := r.Next(); !errors.Is(err, io.EOF); h, err = r.Next() {
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.Mode
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStreamHoldsNoSockets(t *testing.T) {
	dir := tree(t, map[string]string{"Dockerfile": ""})
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := buildcontext.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.WriteTar(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	if h, err := r.Next(); err != nil || h.Name != "Dockerfile" {
		t.Error(h, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error("more than the Dockerfile", err)
	}
}

func TestWriteTarStops(t *testing.T) {
	c, err := buildcontext.Open(tree(t, map[string]string{"Dockerfile": ""}), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.WriteTar(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBadInput(t *testing.T) {
	good := tree(t, map[string]string{"Dockerfile": ""})
	for _, in := range [][2]string{{good + "/nowhere", ""}, {good, "nowhere"}, {good + "/Dockerfile", ""}, {tree(t, map[string]string{"Dockerfile": "", ".dockerignore": "[a"}), ""}} {
		if _, err := buildcontext.Open(in[0], in[1]); failure.As(err) == nil || failure.As(err).Class != failure.Configuration {
			t.Errorf("%v: %v", in, err)
		}
	}
}
