package load_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

const name = "localhost/app:1"

func request(e load.Engine, nodes ...*fakeNode) load.Request {
	req := load.Request{Refs: []string{name}, Engine: e, Stall: 5 * time.Second}
	for _, n := range nodes {
		req.Nodes = append(req.Nodes, n)
	}
	return req
}

// proven fails the test unless the node has the image, whole.
func proven(t *testing.T, n *fakeNode, name string, img *fakeImage) {
	t.Helper()
	if got := n.images[name]; got == "" {
		t.Errorf("%s: no %s", n.name, name)
	} else if manifest := string(n.blobs[got]); !strings.Contains(manifest, img.info.ID) {
		t.Errorf("%s: %s leads to %s", n.name, name, manifest)
	}
	if len(n.snapshots) < len(img.layers) {
		t.Errorf("%s: %d snapshots for %d layers", n.name, len(n.snapshots), len(img.layers))
	}
}

func TestStrategies(t *testing.T) {
	img := newImage(t, name, layer(1, 3_000_000), layer(2, 400_000))
	for _, tc := range []struct {
		test, force, want string
		push              bool
		skipped           string
	}{
		{"thin where the engine pushes", "", load.Thin, true, ""},
		{"stream where it cannot", "", load.Stream, false, "thin: this engine cannot push"},
		{"forced stream", load.Stream, load.Stream, true, ""},
		{"forced archive", load.Archive, load.Archive, true, ""},
	} {
		t.Run(tc.test, func(t *testing.T) {
			fake := newEngine(img)
			var e load.Engine = fake
			if tc.push {
				e = pushEngine{fake}
			}
			nodes := []*fakeNode{newNode("a"), newNode("b"), newNode("c")}
			req := request(e, nodes...)
			req.Strategy, req.TempDir = tc.force, t.TempDir()
			results, err := load.Load(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range nodes {
				proven(t, n, name, img)
				r := results[i]
				if !r.Verified || r.Strategy != tc.want || r.Bytes < img.info.Size || r.Attempts != 1 {
					t.Errorf("%+v", r)
				}
				if tc.skipped != "" && !strings.HasPrefix(strings.Join(r.Skipped, ""), tc.skipped) {
					t.Errorf("skipped %q", r.Skipped)
				}
			}
			if left, _ := os.ReadDir(req.TempDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			again, err := load.Load(t.Context(), req)
			if err != nil || again[0].Strategy != load.Present || again[0].Bytes != 0 {
				t.Errorf("loaded again: %+v, %v", again, err)
			}
		})
	}
}

func TestOnlyWhatIsMissing(t *testing.T) {
	base, one, two := layer(1, 4_000_000), layer(2, 200_000), layer(3, 300_000)
	before, after := newImage(t, "localhost/app:0", base, one), newImage(t, name, base, two)
	for _, force := range []string{"", load.Stream} {
		e := pushEngine{newEngine(before, after)}
		has, empty := newNode("has"), newNode("empty")
		req := request(e, has)
		req.Refs = []string{"localhost/app:0"}
		if _, err := load.Load(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		// As after a pull: unpacked, without the blob.
		delete(has.blobs, digest.FromBytes(base))
		req = request(e, has, empty)
		req.Strategy = force
		results, err := load.Load(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		proven(t, has, name, after)
		proven(t, empty, name, after)
		if results[0].Bytes != int64(len(two)) || results[1].Bytes != after.info.Size {
			t.Errorf("%q sent %d and %d bytes", force, results[0].Bytes, results[1].Bytes)
		}
	}
}

func TestTagOnly(t *testing.T) {
	img := newImage(t, name, layer(1, 100_000))
	n := newNode("a")
	e := pushEngine{newEngine(img)}
	if _, err := load.Load(t.Context(), request(e, n)); err != nil {
		t.Fatal(err)
	}
	n.images[img.info.ID] = n.images[name] // the CRI service names every image by its ID
	delete(n.images, name)
	r, err := load.Load(t.Context(), request(e, n))
	if err != nil || r[0].Strategy != load.Present || r[0].Bytes != 0 || n.imports != 1 {
		t.Errorf("%+v %v, %d imports", r, err, n.imports)
	}
	proven(t, n, name, img)
}

// cutAfter lets n bytes through and then fails.
func cutAfter(w io.Writer, n int64) io.Writer { return &cutter{w: w, left: n} }

type cutter struct {
	w    io.Writer
	left int64
}

var errCut = errors.New("connection reset by peer")

func (c *cutter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		n, _ := c.w.Write(p[:c.left])
		c.left = 0
		return n, errCut
	}
	c.left -= int64(len(p))
	return c.w.Write(p)
}

// once gives f's writer the first time and afterwards the plain one.
func once(f func(io.Writer) io.Writer) func(string, io.Writer) io.Writer {
	var mu sync.Mutex
	used := false
	return func(_ string, w io.Writer) io.Writer {
		mu.Lock()
		defer mu.Unlock()
		if used {
			return w
		}
		used = true
		return f(w)
	}
}

func TestCutExport(t *testing.T) {
	img := newImage(t, name, layer(1, 1_000_000), layer(2, 1_000_000))
	for _, strategy := range []string{load.Thin, load.Stream, load.Archive} {
		for _, at := range []int64{0, 1000, 700_000, 999_999} {
			fake := newEngine(img)
			fake.cut = once(func(w io.Writer) io.Writer { return cutAfter(w, at) })
			nodes := []*fakeNode{newNode("a"), newNode("b")}
			req := request(pushEngine{fake}, nodes...)
			req.Strategy, req.TempDir = strategy, t.TempDir()
			results, err := load.Load(t.Context(), req)
			// A probe that is cut says no more than that the engine cannot push.
			if err != nil && strategy == load.Thin && at < 1000 {
				continue
			}
			if err != nil {
				t.Fatalf("%s cut after %d bytes: %v", strategy, at, err)
			}
			for i, n := range nodes {
				proven(t, n, name, img)
				if !results[i].Verified {
					t.Errorf("%s cut after %d bytes: %+v", strategy, at, results[i])
				}
			}
			if left, _ := os.ReadDir(req.TempDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	}
}

func TestLyingNode(t *testing.T) {
	img := newImage(t, name, layer(1, 500_000))
	swallow := func(_ int, r io.Reader) (io.Reader, error) {
		io.Copy(io.Discard, r) //nolint:errcheck // that is the point
		return nil, errors.New("gone")
	}
	t.Run("says that it worked, once", func(t *testing.T) {
		n, other := newNode("liar"), newNode("good")
		n.hook = func(count int, r io.Reader) (io.Reader, error) {
			if count == 1 {
				return swallow(count, r)
			}
			return r, nil
		}
		n.after = func(int, error) error { return nil }
		r, err := load.Load(t.Context(), request(pushEngine{newEngine(img)}, n, other))
		if err != nil {
			t.Fatal(err)
		}
		proven(t, n, name, img)
		if r[0].Attempts != 2 || r[1].Attempts != 1 || other.imports != 1 {
			t.Errorf("only the node that is not proven is tried again: %+v", r)
		}
	})
	t.Run("says so for ever", func(t *testing.T) {
		n := newNode("liar")
		n.hook, n.after = swallow, func(int, error) error { return nil }
		req := request(pushEngine{newEngine(img)}, n)
		req.Attempts = 1
		r, err := load.Load(t.Context(), req)
		if err == nil || r[0].Verified || !strings.Contains(err.Error(), "node liar") {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("keeps a broken name", func(t *testing.T) {
		n := newNode("broken")
		n.after = func(int, error) error {
			clear(n.snapshots)
			return nil
		}
		n.orphans = 1
		req := request(pushEngine{newEngine(img)}, n)
		req.Attempts, req.TempDir = 1, t.TempDir()
		var healed []string
		var mu sync.Mutex
		req.Note = func(e load.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == "heal" {
				healed = append(healed, e.Detail)
			}
		}
		_, err := load.Load(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), "not unpacked") {
			t.Errorf("error %v", err)
		}
		if len(n.images) > 0 || n.orphans > 0 || len(healed) < 2 {
			t.Errorf("left: %v, %d orphans; healed %q", n.images, n.orphans, healed)
		}
	})
}

func TestWrongImageUnderTheName(t *testing.T) {
	old, img := newImage(t, name, layer(9, 100_000)), newImage(t, name, layer(1, 100_000))
	n := newNode("a")
	if _, err := load.Load(t.Context(), request(pushEngine{newEngine(old)}, n)); err != nil {
		t.Fatal(err)
	}
	n.hook = func(int, io.Reader) (io.Reader, error) { return nil, errors.New("no") }
	n.after = func(int, error) error { return nil }
	req := request(pushEngine{newEngine(img)}, n)
	req.Attempts = 1
	if _, err := load.Load(t.Context(), req); err == nil || !strings.Contains(err.Error(), "is another image") {
		t.Errorf("error %v", err)
	}
	if n.images[name] == "" {
		t.Error("the old image, which is whole, lost its name")
	}
}

func TestStalledNode(t *testing.T) {
	img := newImage(t, name, layer(1, 8_000_000))
	hangs, good := newNode("hangs"), newNode("good")
	hangs.hook = func(int, io.Reader) (io.Reader, error) {
		time.Sleep(1500 * time.Millisecond)
		return nil, errors.New("killed")
	}
	req := request(pushEngine{newEngine(img)}, hangs, good)
	req.Stall, req.Attempts, req.Strategy = 300*time.Millisecond, 1, load.Thin
	r, err := load.Load(t.Context(), req)
	if err == nil || r[0].Verified || !r[1].Verified {
		t.Errorf("%+v, %v", r, err)
	}
	proven(t, good, name, img)
}

func TestStoppedNodeAndDeadline(t *testing.T) {
	img := newImage(t, name, layer(1, 1_000_000))
	down, up := newNode("down"), newNode("up")
	down.down = errors.New("container state improper")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req := request(pushEngine{newEngine(img)}, down, up)
	req.Attempts = 2
	r, err := load.Load(ctx, req)
	if err == nil || !strings.Contains(err.Error(), "node down") || !strings.Contains(err.Error(), "state improper") {
		t.Errorf("error %v", err)
	}
	if !r[1].Verified || r[0].Verified {
		t.Errorf("%+v", r)
	}
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := load.Load(past, request(pushEngine{newEngine(img)}, newNode("a"))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
}

func TestRefused(t *testing.T) {
	img := newImage(t, name, layer(1, 1_000_000))
	full, arm := newNode("full"), newNode("arm")
	full.free, arm.arch = 100, "aarch64"
	for _, tc := range []struct {
		ref   string
		node  *fakeNode
		class failure.Class
		says  []string
	}{
		{name, full, failure.Resources, []string{"node full", "102 kB free", "2.0 MB"}},
		{name, arm, failure.ImageReference, []string{"linux/amd64", "arm64", "--platform"}},
		{"localhost/none:1", full, failure.ImageReference, []string{"localhost/none:1"}},
		{"UPPER CASE", full, failure.ImageReference, []string{"not an image reference"}},
		{" , ", full, failure.ImageReference, []string{"no image"}},
		{"./nowhere.tar", full, failure.ImageReference, []string{"nowhere.tar"}},
	} {
		req := request(pushEngine{newEngine(img)}, tc.node)
		req.Refs = []string{tc.ref}
		_, err := load.Load(t.Context(), req)
		f := failure.As(err)
		if f == nil || f.Class != tc.class || f.Remedy == "" {
			t.Errorf("%q: %v", tc.ref, err)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v does not say %q", tc.ref, err, s)
			}
		}
		if tc.node.imports > 0 {
			t.Errorf("%q: something was sent", tc.ref)
		}
	}
}

func TestTarball(t *testing.T) {
	base := layer(1, 2_000_000)
	before, img := newImage(t, "localhost/app:0", base), newImage(t, name, base, layer(2, 50_000))
	file := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(img.save(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	n := newNode("a")
	if _, err := load.Load(t.Context(), load.Request{Refs: []string{"localhost/app:0"}, Nodes: []load.Node{n}, Engine: newEngine(before)}); err != nil {
		t.Fatal(err)
	}
	r, err := load.Load(t.Context(), load.Request{Refs: []string{file}, Nodes: []load.Node{n}})
	if err != nil || r[0].Strategy != load.Thin || r[0].Bytes != 50_000 || r[0].Name != name {
		t.Errorf("%+v, %v", r, err)
	}
	proven(t, n, name, img)
}
