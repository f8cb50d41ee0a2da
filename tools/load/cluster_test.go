package load_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// realEngine is an engine as a load sees it.
type realEngine struct {
	engine.Engine
	direct engine.Engine // by which the way back to us is known, if Engine is behind a proxy
}

func (e realEngine) Image(ctx context.Context, ref string) (load.Image, error) {
	i, err := e.Engine.Image(ctx, ref)
	if errors.Is(err, engine.ErrNotFound) {
		err = fmt.Errorf("%w: %w", load.ErrNotFound, err)
	}
	return load.Image{ID: i.ID, Names: i.Tags, Digests: i.Digests, OS: i.OS, Arch: i.Arch, DiffIDs: i.Layers, Size: i.Size}, err
}

func (e realEngine) HostAddress(ctx context.Context) (listen, dial string, ok bool) {
	a, ok := e.direct.HostAddress(ctx)
	return a.Listen, a.Dial, ok
}

// realNode ends what is left of a lost command, as the pipeline's nodes do.
type realNode struct {
	engine engine.Engine
	name   string
	lost   func(*engine.LostExec) // told of one that could not be ended
}

func (n realNode) Name() string { return n.name }

func (n realNode) Exec(ctx context.Context, cmd []string, stdin io.Reader, stdout, stderr io.Writer) error {
	err := n.engine.Exec(ctx, n.name, engine.ExecRequest{Cmd: cmd, Stdin: stdin, Stdout: stdout, Stderr: stderr, Privileged: true})
	var lost *engine.LostExec
	if errors.As(err, &lost) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if endErr := n.engine.EndExec(ctx, lost); endErr != nil {
			n.lost(lost)
			return errors.Join(err, endErr)
		}
	}
	return err
}

// cluster is some nodes and images for them. It is removed with the test.
type cluster struct {
	t       *testing.T
	engine  engine.Engine // straight to the engine, for building and for looking from outside
	name    string
	nodes   []string
	workdir string
	world   *world // of bare nodes
}

// build makes an image whose layers are files of those sizes in bytes, with
// content that depends on the seeds alone.
func (c *cluster) build(name string, sizes []int, seeds []byte) {
	c.t.Helper()
	dir, err := os.MkdirTemp(c.workdir, "context")
	if err != nil {
		c.t.Fatal(err)
	}
	dockerfile := "FROM scratch\n"
	for i, size := range sizes {
		file := fmt.Sprintf("layer%d", i)
		data := make([]byte, size)
		for at := 0; at < size; at += 64 { // not compressible to nothing
			copy(data[at:], fmt.Sprintf("%d %d %d", seeds[i], i, at))
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			c.t.Fatal(err)
		}
		dockerfile += fmt.Sprintf("COPY %s /%s\n", file, file)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.engine.Build(c.t.Context(), engine.BuildRequest{Context: dir, Tag: name, Labels: map[string]string{settings.Label: "true"}}, nil); err != nil {
		c.t.Fatal(err)
	}
	c.removed(name)
}

// removed has an image removed from the engine at the end.
func (c *cluster) removed(name string) {
	c.t.Helper()
	c.t.Cleanup(func() {
		if err := c.engine.RemoveImage(context.Background(), name, true); err != nil && !errors.Is(err, engine.ErrNotFound) {
			c.t.Error(err)
		}
	})
}

// run runs a command in a node, past the code under test.
func (c *cluster) run(node string, cmd ...string) string {
	c.t.Helper()
	var out bytes.Buffer
	if err := c.engine.Exec(c.t.Context(), node, engine.ExecRequest{Cmd: cmd, Stdout: &out, Privileged: true}); err != nil {
		c.t.Fatalf("%s: %v: %v", node, cmd, err)
	}
	return out.String()
}

// confirm fails the test unless every node shows the engine's image to the
// kubelet and can make a container's file system of it.
func (c *cluster) confirm(name string) {
	c.t.Helper()
	img, err := c.engine.Image(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, node := range c.nodes {
		if out := c.run(node, "crictl", "inspecti", "-o", "go-template", "--template", "{{.status.id}}", name); strings.TrimSpace(out) != img.ID {
			c.t.Errorf("%s: crictl says %q for %s, the engine %s", node, out, name, img.ID)
		}
		probe := "/tmp/" + rand.Text()
		c.run(node, "sh", "-c", "mkdir "+probe+" && ctr -n k8s.io images mount "+name+" "+probe+" && ls "+probe+
			"/layer0 && ctr -n k8s.io images unmount --rm "+probe)
	}
}

// request loads over the given engine, which may be reached over a proxy.
func (c *cluster) request(over engine.Engine, refs ...string) load.Request {
	direct := c.engine
	if _, _, ok := (realEngine{over, over}).HostAddress(c.t.Context()); ok {
		direct = over
	}
	req := load.Request{Refs: refs, Engine: realEngine{over, direct}, TempDir: c.workdir, Note: func(e load.Event) {
		c.t.Logf("%s %s %s %s #%d %d bytes %s %v", e.Kind, e.Ref, e.Node, e.Strategy, e.Attempt, e.Bytes, e.Detail, e.Err)
	}}
	for _, n := range c.nodes {
		req.Nodes = append(req.Nodes, realNode{over, n, c.lost})
	}
	return req
}

// lost is told of commands that may still run in a node.
func (c *cluster) lost(l *engine.LostExec) { c.t.Logf("may still run in %s: %v", l.Container, l.Cmd) }

// forget removes an image from the nodes.
func (c *cluster) forget(name string) {
	c.t.Helper()
	for _, n := range c.nodes {
		c.run(n, "sh", "-c", "crictl rmi "+name+" >/dev/null 2>&1; ctr -n k8s.io images rm --sync "+name+" >/dev/null 2>&1; true")
	}
}

func (c *cluster) ref(name string) string { return "localhost/" + c.name + "-" + name + ":1" }
