package load_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// renamed lets the engine's name lead elsewhere as soon as something is sent;
// to nothing if img is nil. The first cuts transfers break as well.
func renamed(e *fakeEngine, cuts int, images ...*fakeImage) {
	sent := 0
	e.cut = func(_ string, w io.Writer) io.Writer { // e is locked
		img := images[min(sent, len(images)-1)]
		sent++
		if img == nil {
			delete(e.images, name)
		} else {
			e.images[name], e.images[img.info.ID] = img, img
		}
		if sent <= cuts {
			return cutAfter(w, 1000)
		}
		return w
	}
}

func streamed(e *fakeEngine, n *fakeNode) load.Request {
	req := request(e, n)
	req.Strategy = load.Stream
	return req
}

func TestNameMovesMeanwhile(t *testing.T) {
	old, img := newImage(t, name, layer(1, 500_000)), newImage(t, name, layer(2, 400_000))
	for what, cuts := range map[string]int{"and nothing else": 0, "and the transfer is cut": 1} {
		t.Run(what, func(t *testing.T) {
			e, n := newEngine(old), newNode("a")
			renamed(e, cuts, img)
			r, err := load.Load(t.Context(), streamed(e, n))
			if err != nil {
				t.Fatal(err)
			}
			proven(t, n, name, img)
			if !r[0].Verified || r[0].Bytes < img.info.Size {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("all the time", func(t *testing.T) {
		e, n := newEngine(old), newNode("a")
		renamed(e, 0, img, old, img, old, img)
		r, err := load.Load(t.Context(), streamed(e, n))
		if f := failure.As(err); f == nil || f.Class != failure.StaleState || r[0].Verified || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("to nothing", func(t *testing.T) {
		e, n := newEngine(old), newNode("a")
		renamed(e, 1, nil)
		r, err := load.Load(t.Context(), streamed(e, n))
		if f := failure.As(err); f == nil || f.Class != failure.ImageReference || r[0].Attempts != 1 || !strings.Contains(err.Error(), "node a") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// unsteady is an engine that loses the connection at its first questions.
type unsteady struct {
	pushEngine
	left int
	lost error
}

func (e *unsteady) Ping(context.Context) error { return nil }

func (e *unsteady) Image(ctx context.Context, ref string) (load.Image, error) {
	if e.left--; e.left >= 0 {
		return load.Image{}, e.lost
	}
	return e.pushEngine.Image(ctx, ref)
}

func TestConnectionLostAtTheStart(t *testing.T) {
	img := newImage(t, name, layer(1, 500_000))
	lost := failure.New(failure.EngineConnection, "gone", "wait", io.EOF)
	for _, tc := range []struct {
		left int
		err  error
		ok   bool
	}{{2, lost, true}, {9, lost, false}, {1, errors.New("storage is broken"), false}} {
		n := newNode("a")
		var noted int
		req := request(&unsteady{pushEngine{newEngine(img)}, tc.left, tc.err}, n)
		req.Note = func(e load.Event) {
			if e.Kind == "fail" {
				noted++
			}
		}
		_, err := load.Load(t.Context(), req)
		if (err == nil) != tc.ok || (tc.ok && noted != tc.left) {
			t.Errorf("%d times %v: %v, %d times noted", tc.left, tc.err, err, noted)
		}
		if tc.ok {
			proven(t, n, name, img)
		}
	}
}

// What has come whole is not sent again; nothing is held for ever.
func TestAttemptGoesOn(t *testing.T) {
	first, second := tarred(t, layer(1, 6_000_000)), tarred(t, layer(2, 4_000_000))
	img := newImage(t, name, first, second)
	for _, attempts := range []int{1, 3} {
		e, n := newEngine(img), newNode("a")
		n.unpacks = true
		cut := once(func(w io.Writer) io.Writer { return cutAfter(w, 2_000_000) })
		e.cut = func(what string, w io.Writer) io.Writer {
			return writerFunc(func(p []byte) (int, error) {
				if len(p) == len(second) {
					w = cut(what, w)
				}
				return w.Write(p)
			})
		}
		req := request(pushEngine{e}, n)
		req.Attempts, req.Strategy = attempts, load.Thin
		r, err := load.Load(t.Context(), req)
		if n.released != 1 || len(n.kept) > 0 {
			t.Errorf("released %d times, %v are left", n.released, n.kept)
		}
		if attempts == 1 {
			if err == nil || len(n.snapshots) > 0 {
				t.Errorf("%v, left %v", err, n.snapshots)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		proven(t, n, name, img)
		if most := int64(len(first) + len(second) + 2_100_000); r[0].Attempts != 2 || r[0].Bytes > most {
			t.Errorf("%d attempts sent %d bytes", r[0].Attempts, r[0].Bytes)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// tarred is data as the one file of a layer.
func tarred(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	if err := tw.WriteHeader(&tar.Header{Name: "file", Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
