package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// Part is one thing that a cold load cannot do without, measured by itself.
type Part struct {
	Name string
	Took time.Duration
}

// inNode is where the archive lies in the node: on the disk of containerd's
// store, because a node's /tmp is in memory.
const inNode = "/var/lib/kubernaut-e2e-bench.tar"

// parts measures what a cold load is made of: the engine's export, the way into
// the node, and the node's import of an archive that is there already. The
// archive is removed from the node in any case.
func (b *bench) parts(ctx context.Context, row *Row, node load.Node, img string) (err error) {
	file := filepath.Join(b.dir, "parts.tar")
	defer os.Remove(file) //nolint:errcheck // Run removes what is left
	save := func(w io.Writer) error { return b.Engine.Save(ctx, img, w) }
	exec := func(stdin io.Reader, args ...string) error {
		return node.Exec(ctx, args, stdin, io.Discard, io.Discard)
	}
	defer func() {
		// Whatever happened: nothing else would remove it.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, node.Exec(clean, []string{"rm", "-f", inNode}, nil, io.Discard, io.Discard))
	}()
	for _, p := range []struct {
		name    string
		prepare func() error
		do      func() error
	}{
		{"the engine exports the image, to nowhere", nil, func() error { return save(io.Discard) }},
		{"the archive goes into the node and is written there once, synced", func() error {
			return withFile(file, os.O_CREATE|os.O_WRONLY, func(f *os.File) error { return save(f) })
		}, func() error {
			return withFile(file, os.O_RDONLY, func(f *os.File) error { return exec(f, "sh", "-c", "cat > "+inNode+" && sync "+inNode) })
		}},
		{"containerd imports the archive that is in the node", func() error { return b.forget(ctx, []load.Node{node}) }, func() error {
			return exec(nil, "ctr", "--namespace=k8s.io", "images", "import", "--local", "--snapshotter=overlayfs", inNode)
		}},
	} {
		if p.prepare != nil {
			if err := p.prepare(); err != nil {
				return err
			}
		}
		began := time.Now()
		if err := p.do(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		row.Parts = append(row.Parts, Part{p.name, time.Since(began)})
	}
	return nil
}

func withFile(name string, flag int, do func(*os.File) error) error {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f)
}
