package load_test

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
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

// A long export that nobody hears of would be taken for one that stands still.
func TestSavingAnArchiveIsProgress(t *testing.T) {
	img := newImage(t, name, tarred(t, layer(1, 300_000)))
	req := request(newEngine(img), newNode("a"))
	req.Strategy, req.TempDir = load.Archive, t.TempDir()
	var mu sync.Mutex
	var saved []int64
	req.Progress = func(u progress.Update) {
		mu.Lock()
		defer mu.Unlock()
		if u.What == "save "+name {
			saved = append(saved, u.Done)
		}
	}
	if _, err := load.Load(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if len(saved) < 2 || !slices.IsSorted(saved) || saved[len(saved)-1] < img.info.Size {
		t.Errorf("reported %d bytes as saved, want them to grow to %d at least", saved, img.info.Size)
	}
}

func TestStrategies(t *testing.T) {
	img := newImage(t, name, tarred(t, layer(1, 3_000_000)), tarred(t, layer(2, 400_000)), tarred(t, layer(3, 4_000)), tarred(t, layer(4, 4_000)))
	for _, tc := range []struct {
		test, force, want string
		push, unpacks     bool
		skipped           string
	}{
		{"thin where the engine pushes", "", load.Thin, true, false, ""},
		{"thin, unpacked as it comes", "", load.Thin, true, true, ""},
		{"stream where it cannot", "", load.Stream, false, true, "thin: this engine cannot push"},
		{"forced stream", load.Stream, load.Stream, true, true, ""},
		{"forced archive", load.Archive, load.Archive, true, false, ""},
	} {
		t.Run(tc.test, func(t *testing.T) {
			fake := newEngine(img)
			var e load.Engine = fake
			if tc.push {
				e = pushEngine{fake}
			}
			nodes := []*fakeNode{newNode("a"), newNode("b"), newNode("c")}
			for _, n := range nodes {
				n.unpacks = tc.unpacks
			}
			req := request(e, nodes...)
			req.Strategy, req.TempDir = tc.force, t.TempDir()
			results, err := load.Load(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range nodes {
				proven(t, n, name, img)
				r := results[i]
				if packed := n.blobs[digest.FromBytes(img.layers[0])] != nil; packed != (!tc.unpacks || tc.want != load.Thin) {
					t.Errorf("%s: a layer lies in the content store: %t", n.name, packed)
				}
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

// Docker's containerd image store calls the manifest's digest the image's ID.
func TestImageNamedByItsManifest(t *testing.T) {
	img := newImage(t, name, layer(1, 100_000))
	e := newEngine(img)
	_, manifest, _ := strings.Cut(img.info.Digests[0], "@")
	img.info.ID = manifest
	n := newNode("a")
	n.keeps = img.manifest
	req := request(e, n)
	req.TempDir = t.TempDir()
	r, err := load.Load(t.Context(), req)
	if err != nil || r[0].Strategy != load.Archive || len(r[0].Skipped) != 2 {
		t.Errorf("%+v, %v", r, err)
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
