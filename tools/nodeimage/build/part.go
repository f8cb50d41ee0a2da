package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// part is one step of a build, kept as a folder of files.
type part struct {
	name  string
	key   string // of everything that goes in, those of needs included
	needs []*part
	heavy bool // wants a whole processor; needs nothing
	// make fills dir; in finds the finished folder of a needed part.
	make func(ctx context.Context, dir string, in func(name string) string) error
}

// newPart derives the key; inputs are what goes in beside the needed parts.
func newPart(name string, needs []*part, inputs ...string) *part {
	sum := sha256.New()
	fmt.Fprintf(sum, "recipe %s\n%s\n", recipe, name)
	for _, i := range inputs {
		fmt.Fprintf(sum, "%d %s\n", len(i), i)
	}
	for _, n := range needs {
		fmt.Fprintf(sum, "needs %s %s\n", n.name, n.key)
	}
	return &part{name: name, needs: needs, key: hex.EncodeToString(sum.Sum(nil))[:12]}
}

const temporary = ".tmp-"

// cache keeps finished parts, one folder each, named by name and key. Whoever
// uses it holds its lock.
type cache struct{ dir string }

func (c cache) path(p *part) string { return filepath.Join(c.dir, p.name+"-"+p.key) }

// has reports whether p is finished, and marks it as used.
func (c cache) has(p *part) bool {
	now := time.Now()
	return os.Chtimes(c.path(p), now, now) == nil
}

// heavyAtOnce on any number of processors: go build is parallel itself, a
// second one only fills the time of a lone linker.
const heavyAtOnce = 2

// touch marks p and all it was made from as used: a change to one of them
// should find the others.
func (c cache) touch(p *part) {
	c.has(p)
	for _, n := range p.needs {
		c.touch(n)
	}
}

// ensure makes what is missing of p and of what it needs, side by side where
// they do not need each other, the heavy ones in the order of needs. The first error stops the others; what was
// finished stays.
func (c cache) ensure(ctx context.Context, p *part, t *tracker) error {
	todo := map[*part]chan struct{}{}
	var order []*part
	var collect func(*part)
	collect = func(p *part) {
		if _, seen := todo[p]; seen || c.has(p) {
			return
		}
		for _, n := range p.needs {
			collect(n)
		}
		if _, seen := todo[p]; !seen {
			todo[p] = make(chan struct{})
			order = append(order, p)
		}
	}
	collect(p)
	t.total(len(order))
	group, ctx := errgroup.WithContext(ctx)
	finish := func(ctx context.Context, p *part) error {
		if err := c.build(ctx, p, t); err != nil {
			return err
		}
		close(todo[p])
		return nil
	}
	group.Go(func() error {
		heavy, ctx := errgroup.WithContext(ctx)
		heavy.SetLimit(heavyAtOnce)
		for _, p := range order {
			if p.heavy && ctx.Err() == nil {
				heavy.Go(func() error { return finish(ctx, p) })
			}
		}
		return heavy.Wait()
	})
	for _, p := range order {
		if p.heavy {
			continue
		}
		group.Go(func() error {
			for _, n := range p.needs {
				done, missing := todo[n]
				if !missing {
					continue
				}
				select {
				case <-done:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return finish(ctx, p)
		})
	}
	return group.Wait()
}

// build makes p in a temporary folder and puts it in place in one step.
func (c cache) build(ctx context.Context, p *part, t *tracker) (err error) {
	dir, err := os.MkdirTemp(c.dir, temporary+p.name+"-")
	if err != nil {
		return fmt.Errorf("make folder for %s: %w", p.name, err)
	}
	defer func() {
		if rmErr := removeAll(dir); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove unfinished %s: %w", p.name, rmErr))
		}
	}()
	// Root filesystems and images are read by others than their owner.
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("make folder for %s: %w", p.name, err)
	}
	in := func(name string) string {
		for _, n := range p.needs {
			if n.name == name {
				return c.path(n)
			}
		}
		panic(p.name + " uses " + name + " without needing it")
	}
	ctx = withTask(ctx, t.task(p.name))
	defer taskOf(ctx).end()
	if err := p.make(ctx, dir, in); err != nil {
		return fmt.Errorf("build %s for the node image: %w", p.name, err)
	}
	if err := os.Rename(dir, c.path(p)); err != nil {
		return fmt.Errorf("put %s into the cache: %w", p.name, err)
	}
	taskOf(ctx).finish()
	return nil
}

// removeAll tries for a while: the children of a program that was just killed
// may write their last file into a folder that is being removed.
func removeAll(dir string) error {
	var err error
	for range 10 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

// keep is how many versions of a part stay: the one in use and one to go back
// to. The last part alone is a gigabyte.
const keep = 2

// clean removes what interrupted builds left, the parts last used before limit,
// and of each part all but the versions used last.
func (c cache) clean(limit time.Time) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("read cache folder %q: %w", c.dir, err)
	}
	var errs []error
	versions := map[string][]fs.FileInfo{}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
			errs = append(errs, err)
		case !e.IsDir():
		case strings.HasPrefix(e.Name(), temporary):
			errs = append(errs, os.RemoveAll(filepath.Join(c.dir, e.Name())))
		default:
			name := e.Name()[:max(0, strings.LastIndex(e.Name(), "-"))]
			versions[name] = append(versions[name], info)
		}
	}
	for _, infos := range versions {
		slices.SortFunc(infos, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
		for i, info := range infos {
			if i >= keep || info.ModTime().Before(limit) {
				errs = append(errs, os.RemoveAll(filepath.Join(c.dir, info.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
