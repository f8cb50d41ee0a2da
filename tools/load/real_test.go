package load_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

func TestRealNodes(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) { realNodes(t, w.bare(t, 2, storeSize)) })
}

func realNodes(t *testing.T, c *cluster) {
	t.Helper()
	sizes := []int{40 << 20, 20 << 20, 3 << 20}
	first, changed := c.ref("first"), c.ref("changed")
	c.build(first, sizes, []byte{1, 2, 3})
	c.build(changed, sizes, []byte{1, 2, 4})
	short := strings.TrimPrefix(changed, "localhost/")

	for _, step := range []struct {
		what, ref, strategy, want string
		most                      int64 // bytes to each node
	}{
		{"cold", first, "", load.Thin, 66 << 20},
		{"again", first, "", load.Present, 0},
		{"one small layer changed", short, "", load.Thin, 33 << 17 /* 1.03 × 4 MB */},
		{"short name again", short, "", load.Present, 0},
		{"cold, streamed", c.ref("streamed"), load.Stream, load.Stream, 34 << 20},
		{"cold, as an archive", c.ref("archived"), load.Archive, load.Archive, 68 << 20},
	} {
		t.Run(step.what, func(t *testing.T) {
			if step.strategy != "" {
				c.build(step.ref, []int{20 << 20, 10 << 20}, []byte{byte(len(step.ref)), 9})
			}
			req := c.request(c.engine, step.ref)
			req.Strategy = step.strategy
			results, err := load.Load(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if !r.Verified || r.Strategy != step.want || r.Bytes > step.most {
					t.Errorf("%+v, want %s with at most %d bytes", r, step.want, step.most)
				}
				t.Logf("%s: %s, %d bytes, %s", r.Node, r.Strategy, r.Bytes, r.Duration)
			}
			c.confirm(results[0].Name)
		})
	}

	t.Run("two loads at once", func(t *testing.T) {
		third := c.ref("third")
		c.build(third, sizes, []byte{7, 8, 9})
		c.forget(first)
		var both sync.WaitGroup
		for _, ref := range []string{first, first, third} {
			both.Go(func() {
				if _, err := load.Load(t.Context(), c.request(c.engine, ref)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		c.confirm(first)
		c.confirm(third)
	})

	t.Run("tarball", func(t *testing.T) {
		ref := c.ref("tarball")
		c.build(ref, []int{40 << 20, 1 << 20}, []byte{1, 5}) // the first layer is there
		file := filepath.Join(c.workdir, "image.tar")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.engine.Save(t.Context(), ref, f), f.Close()); err != nil {
			t.Fatal(err)
		}
		req := c.request(c.engine, file)
		req.Engine = nil
		results, err := load.Load(t.Context(), req)
		if err != nil || results[0].Bytes > 2<<20 {
			t.Errorf("%+v, %v", results, err)
		}
		c.confirm(ref)
	})
}
