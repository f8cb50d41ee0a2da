package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"

	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// archive saves a tarball and lets Kind load it into each node, as `kind load
// image-archive` does. The tarball is removed in any case.
func (l *loader) archive(ctx context.Context, targets []*target) (err error) {
	for _, t := range targets {
		if t.err = l.fits(t, 2*l.src.size); t.err != nil {
			t.hard = true
		}
	}
	if targets = fitting(targets); len(targets) == 0 {
		return nil
	}
	path := ""
	if l.src.tarball != nil {
		path = l.src.tarball.path
	} else {
		dir, err := os.MkdirTemp(l.req.TempDir, "kubernaut-e2e-load-")
		if err != nil {
			return fmt.Errorf("folder for the image archive: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		path = dir + "/image.tar"
		if err := l.save(ctx, path); err != nil {
			return err
		}
	}
	l.each(targets, func(t *target) {
		t.err = l.loadArchive(ctx, t, path)
	})
	return nil
}

func (l *loader) save(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("image archive: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	saved := &tally{progress: func(n int64) {
		l.req.Progress(progress.Update{What: "save " + l.src.ref, Done: n, Total: l.src.size})
	}}
	// By name, so that the archive carries it.
	if err := l.req.Engine.Save(ctx, l.src.saveRef(), io.MultiWriter(f, saved)); err != nil {
		return fmt.Errorf("save image %s: %w", l.src.ref, err)
	}
	return nil
}

func (l *loader) loadArchive(ctx context.Context, t *target, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("image archive: %w", err)
	}
	defer f.Close()
	k := &kindNode{ctx: ctx, node: t.node, marker: l.marker}
	sent := &tally{progress: func(n int64) {
		l.req.Progress(progress.Update{What: "load " + l.src.ref + " into " + t.node.Name(), Done: n, Total: l.src.size})
	}}
	err = nodeutils.LoadImageArchive(k, io.TeeReader(f, sent))
	t.res.Bytes += sent.n
	return errors.Join(err, k.err)
}

// saveRef is what to ask the engine for: by name, so that the archive carries
// it, unless no tag leads there.
func (s *source) saveRef() string {
	if strings.Contains(s.name, "@") {
		return s.want.ID.String()
	}
	return s.name
}

// tally counts the bytes that are copied to it and tells of them.
type tally struct {
	n        int64
	progress func(int64)
}

func (t *tally) Write(p []byte) (int, error) {
	t.n += int64(len(p))
	t.progress(t.n)
	return len(p), nil
}

// kindNode lets Kind run its commands through our Exec, which does not take a
// lost connection for a success.
type kindNode struct {
	nodes.Node // nil: LoadImageArchive uses nothing but Command
	ctx        context.Context
	node       Node
	marker     string
	err        error
}

func (k *kindNode) Command(name string, args ...string) exec.Cmd {
	return &kindCmd{k: k, args: append([]string{name}, args...)}
}

type kindCmd struct {
	k      *kindNode
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func (c *kindCmd) SetEnv(...string) exec.Cmd      { return c }
func (c *kindCmd) SetStdin(r io.Reader) exec.Cmd  { c.stdin = r; return c }
func (c *kindCmd) SetStdout(w io.Writer) exec.Cmd { c.stdout = w; return c }
func (c *kindCmd) SetStderr(w io.Writer) exec.Cmd { c.stderr = w; return c }

func (c *kindCmd) Run() error {
	stdout, stderr := c.stdout, c.stderr
	var said strings.Builder
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = &said
	}
	cmd, what := append(node.Marked(c.k.marker), c.args...), strings.Join(c.args, " ")
	err := c.k.node.Exec(c.k.ctx, cmd, c.stdin, stdout, stderr)
	if err == nil {
		return nil
	}
	err = node.Short(err, cmd, what)
	// Kind drops the cause of some of its commands' errors.
	c.k.err = fmt.Errorf("%s: %w: %s", what, err, strings.TrimSpace(said.String()))
	return err
}
