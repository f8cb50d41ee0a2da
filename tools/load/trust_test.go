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

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

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
		time.Sleep(6 * time.Second)
		return nil, errors.New("killed")
	}
	req := request(pushEngine{newEngine(img)}, hangs, good)
	req.Stall, req.Attempts, req.Strategy = 2*time.Second, 1, load.Thin
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
		{name, full, failure.Resources, []string{"node full has 102.4 kB free", "needs 2 MB there"}},
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
		if twice := "node full: node full"; strings.Contains(err.Error(), twice) {
			t.Errorf("%q: the node is named twice: %v", tc.ref, err)
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
