package load_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// fakeImage is an image of a fakeEngine.
type fakeImage struct {
	layers   [][]byte
	config   []byte
	manifest []byte
	info     load.Image
}

func newImage(t testing.TB, name string, layers ...[]byte) *fakeImage {
	t.Helper()
	img := &fakeImage{layers: layers}
	c := ocispec.Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, l := range layers {
		d := digest.FromBytes(l)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, d)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(l))})
		img.info.DiffIDs = append(img.info.DiffIDs, d.String())
		img.info.Size += int64(len(l))
	}
	img.config = encode(t, c)
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(img.config), Size: int64(len(img.config))}
	img.manifest = encode(t, m)
	img.info.ID, img.info.Names = digest.FromBytes(img.config).String(), []string{name}
	img.info.Digests = []string{name + "@" + digest.FromBytes(img.manifest).String()}
	img.info.OS, img.info.Arch = "linux", "amd64"
	return img
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// layer is deterministic data that looks like a layer of n bytes.
func layer(seed byte, n int) []byte { return bytes.Repeat([]byte{seed, 1, 2, 3}, n/4) }

// fakeEngine can Image and Save; pushEngine can push too.
type fakeEngine struct {
	mu     sync.Mutex
	images map[string]*fakeImage // by reference and by ID
	cut    func(what string, w io.Writer) io.Writer
	saves  int
}

func newEngine(images ...*fakeImage) *fakeEngine {
	e := &fakeEngine{images: map[string]*fakeImage{}}
	for _, img := range images {
		for _, n := range append(slices.Clone(img.info.Names), img.info.ID) {
			e.images[n] = img
		}
	}
	return e
}

func (e *fakeEngine) find(ref string) (*fakeImage, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range []string{ref, "localhost/" + ref} {
		if img := e.images[name]; img != nil {
			return img, nil
		}
	}
	return nil, fmt.Errorf("fake: %s: %w", ref, load.ErrNotFound)
}

func (e *fakeEngine) Image(_ context.Context, ref string) (load.Image, error) {
	img, err := e.find(ref)
	if err != nil {
		return load.Image{}, err
	}
	return img.info, nil
}

func (e *fakeEngine) Save(_ context.Context, ref string, w io.Writer) error {
	img, err := e.find(ref)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.saves++
	if e.cut != nil {
		w = e.cut("save", w)
	}
	e.mu.Unlock()
	return img.save(w)
}

func (img *fakeImage) save(w io.Writer) error {
	tw := tar.NewWriter(w)
	put := func(name string, data []byte) error {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o444, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err := io.Copy(tw, bytes.NewReader(data))
		return err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	id := digest.FromBytes(img.config).Encoded()
	m := entry{Config: id + ".json", RepoTags: img.info.Names}
	for _, l := range img.layers {
		name := digest.FromBytes(l).Encoded() + ".tar"
		m.Layers = append(m.Layers, name)
		if err := put(name, l); err != nil {
			return err
		}
	}
	list, err := json.Marshal([]entry{m})
	if err != nil {
		return err
	}
	return errors.Join(put(m.Config, img.config), put("manifest.json", list), tw.Close())
}

// pushEngine pushes as Podman does: HEAD, then POST, PATCH and PUT.
type pushEngine struct{ *fakeEngine }

func (e pushEngine) Push(ctx context.Context, ref, dest string, _ progress.Func) error {
	img, err := e.find(ref)
	if err != nil {
		return err
	}
	host, rest, _ := strings.Cut(dest, "/")
	repo, want, _ := strings.Cut(rest, "@")
	base := "http://" + host + "/v2/" + repo
	call := func(method, url string, body []byte, size int64) (status int, location string, err error) {
		var r io.Reader = bytes.NewReader(body)
		if e.cut != nil && method == http.MethodPatch {
			pr, pw := io.Pipe()
			go func() {
				_, err := e.cut("push", pw).Write(body)
				pw.CloseWithError(err)
			}()
			r = pr
		}
		req, err := http.NewRequestWithContext(ctx, method, url, r)
		if err != nil {
			return 0, "", err
		}
		req.ContentLength = size
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		res.Body.Close()
		return res.StatusCode, res.Header.Get("Location"), nil
	}
	upload := func(data []byte) error {
		d := digest.FromBytes(data)
		if status, _, err := call(http.MethodHead, base+"/blobs/"+d.String(), nil, 0); err != nil || status == http.StatusOK {
			return err
		}
		_, location, err := call(http.MethodPost, base+"/blobs/uploads/", nil, 0)
		if err != nil {
			return err
		}
		at := "http://" + host + location
		if status, _, err := call(http.MethodPatch, at, data, int64(len(data))); err != nil || status != http.StatusAccepted {
			return fmt.Errorf("patch: %d %w", status, err)
		}
		_, _, err = call(http.MethodPut, at+"?digest="+d.String(), nil, 0)
		return err
	}
	var uploads sync.WaitGroup
	errs := make([]error, len(img.layers))
	for i, l := range img.layers {
		uploads.Go(func() { errs[i] = upload(l) })
	}
	uploads.Wait()
	if err := errors.Join(append(errs, upload(img.config))...); err != nil {
		return err
	}
	status, _, err := call(http.MethodPut, base+"/manifests/"+want, img.manifest, int64(len(img.manifest)))
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("manifest: %d", status)
	}
	return err
}
