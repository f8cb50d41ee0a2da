package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	kind "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// ordinary saves each image to a file with the engine's command and loads that
// through Kind's own code, as `kind load image-archive` does.
func (b *bench) ordinary(ctx context.Context, nodes []load.Node, images []string) error {
	option := kind.ProviderWithPodman()
	if b.Provider == "docker" {
		option = kind.ProviderWithDocker()
	}
	all, err := kind.NewProvider(option).ListInternalNodes(b.Cluster)
	if err != nil {
		return fmt.Errorf("nodes of cluster %s: %w", b.Cluster, err)
	}
	wanted := map[string]bool{}
	for _, n := range nodes {
		wanted[n.Name()] = true
	}
	file := filepath.Join(b.dir, "image.tar")
	for _, img := range images {
		b.loaded[img] = true
		if _, err := command.Run(ctx, command.Command{Name: b.Provider, Args: []string{"save", "-o", file, img}}); err != nil {
			return err
		}
		var g errgroup.Group
		for _, n := range all {
			if !wanted[n.String()] {
				continue
			}
			g.Go(func() error {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				return nodeutils.LoadImageArchive(n, f)
			})
		}
		if err := errors.Join(g.Wait(), os.Remove(file)); err != nil {
			return fmt.Errorf("load %s the ordinary way: %w", img, err)
		}
	}
	return nil
}

// ours loads the images with package load and adds what it took to row.
func (b *bench) ours(ctx context.Context, row *Row, nodes []load.Node, images ...string) error {
	for _, img := range images {
		b.loaded[img] = true
	}
	resetPeak()
	began := time.Now()
	results, err := load.Load(ctx, load.Request{Refs: images, Nodes: nodes, Engine: b.Engine, TempDir: b.dir, Log: b.Log})
	if err != nil {
		return err
	}
	row.Ours = append(row.Ours, time.Since(began))
	row.MostMemory = max(row.MostMemory, peak())
	var sent int64
	for _, r := range results {
		sent += r.Bytes
		if !slices.Contains(row.Strategies, r.Strategy) {
			row.Strategies = append(row.Strategies, r.Strategy)
		}
	}
	row.Bytes = max(row.Bytes, sent)
	return nil
}

// forget removes every image of the benchmark from the nodes, and waits for
// their data to be gone.
func (b *bench) forget(ctx context.Context, nodes []load.Node) error {
	for _, n := range nodes {
		for img := range b.loaded {
			var out bytes.Buffer
			script := `id=$(crictl inspecti -o go-template --template '{{.status.id}}' "$1" 2>/dev/null)
				test -z "$id" || crictl rmi "$id" >/dev/null 2>&1
				old=$(ctr -n k8s.io images ls -q | grep -e "^import-" -e "^$1$"); test -z "$old" || ctr -n k8s.io images rm --sync $old >/dev/null 2>&1; true`
			if err := n.Exec(ctx, []string{"sh", "-c", script, "sh", img}, nil, &out, io.Discard); err != nil {
				return fmt.Errorf("remove %s from node %s: %w", img, n.Name(), err)
			}
		}
	}
	return nil
}

func (b *bench) removeImages(ctx context.Context) error {
	var errs []error
	for _, img := range slices.Backward(b.built) {
		if _, err := b.Engine.Image(ctx, img); err == nil {
			errs = append(errs, b.Engine.RemoveImage(ctx, img, true))
		}
	}
	return errors.Join(errs...)
}

// peak is the most memory this process has had since resetPeak; 0 where the
// system does not tell.
func peak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

func resetPeak() {
	// See proc(5), clear_refs. Where it cannot be, the peak is of the whole run.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}
