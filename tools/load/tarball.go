package load

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
)

// tarball is an image in an uncompressed docker-archive or OCI layout archive.
// Its entries are read in place, so that only those that are needed are.
type tarball struct {
	*os.File
	path     string
	entries  map[string]*io.SectionReader
	links    map[string]string
	manifest *transfer.Manifest
	config   []byte
	layers   []string // names of the entries, as in the manifest
}

// openTarball reads what the tarball holds. The caller closes the source.
func openTarball(file string) (*source, error) {
	bad := func(err error) error {
		return failure.New(failure.ImageReference, fmt.Sprintf("%s is not an image archive that can be loaded", file),
			"make it with `podman save -o FILE IMAGE` (docker-archive or oci-archive, one image, not compressed)", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, failure.New(failure.ImageReference, fmt.Sprintf("image archive %s cannot be read", file),
			"give the path of a file made by `podman save -o`", err)
	}
	t := &tarball{File: f, path: file, entries: map[string]*io.SectionReader{}, links: map[string]string{}}
	s, err := t.open(file)
	if err != nil {
		f.Close()
		return nil, bad(err)
	}
	return s, nil
}

func (t *tarball) open(file string) (*source, error) {
	if err := t.scan(); err != nil {
		return nil, err
	}
	names, err := t.read()
	if err != nil {
		return nil, err
	}
	var c ocispec.Image
	if err := json.Unmarshal(t.config, &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(c.RootFS.DiffIDs) != len(t.layers) {
		return nil, fmt.Errorf("%d layers for a configuration of %d", len(t.layers), len(c.RootFS.DiffIDs))
	}
	if len(names) == 0 {
		return nil, errors.New("the image in it has no name")
	}
	s := &source{ref: file, arch: c.Architecture, os: c.OS, tarball: t}
	s.want.ID, s.want.DiffIDs = t.manifest.Config.Digest, c.RootFS.DiffIDs
	for i := range t.manifest.Layers {
		s.size += t.manifest.Layers[i].Size
	}
	s.name, err = normal(names[0])
	return s, err
}

func (t *tarball) scan() error {
	tr := tar.NewReader(t.File) // seeks over what is not read
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(hdr.Name)
		switch hdr.Typeflag {
		case tar.TypeReg:
			at, err := t.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			t.entries[name] = io.NewSectionReader(t.File, at, hdr.Size)
		case tar.TypeSymlink:
			t.links[name] = path.Join(path.Dir(name), hdr.Linkname)
		case tar.TypeLink:
			t.links[name] = path.Clean(hdr.Linkname)
		}
	}
}

func (t *tarball) entry(name string) (string, *io.SectionReader, error) {
	name = path.Clean(name)
	for hops := 0; t.links[name] != "" && hops < 8; hops++ {
		name = t.links[name]
	}
	r := t.entries[name]
	if r == nil {
		return "", nil, fmt.Errorf("entry %s is missing", name)
	}
	return name, r, nil
}

func (t *tarball) small(name string) ([]byte, error) {
	_, r, err := t.entry(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxConfig {
		return nil, fmt.Errorf("entry %s has %d bytes", name, r.Size())
	}
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

// read finds manifest, configuration and layers, and returns the image's names.
func (t *tarball) read() ([]string, error) {
	if t.entries["manifest.json"] != nil {
		return t.readDocker()
	}
	return t.readOCI()
}

func (t *tarball) readDocker() ([]string, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	text, err := t.small("manifest.json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("it holds %d images", len(list))
	}
	if t.config, err = t.small(list[0].Config); err != nil {
		return nil, err
	}
	var c ocispec.Image
	if err := json.Unmarshal(t.config, &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var layers []ocispec.Descriptor
	for i, l := range list[0].Layers {
		name, r, err := t.entry(l)
		if err != nil {
			return nil, err
		}
		t.layers = append(t.layers, name)
		if i < len(c.RootFS.DiffIDs) {
			layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: c.RootFS.DiffIDs[i], Size: r.Size()})
		}
	}
	t.manifest, err = transfer.NewManifest(t.config, layers)
	return list[0].RepoTags, err
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func (t *tarball) readOCI() ([]string, error) {
	var index ocispec.Index
	text, err := t.small("index.json")
	if err == nil {
		err = json.Unmarshal(text, &index)
	}
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("it holds %d images", len(index.Manifests))
	}
	d := index.Manifests[0]
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	if text, err = t.small(blobPath(d.Digest)); err != nil {
		return nil, err
	}
	if t.manifest, err = transfer.ParseManifest(text, d.MediaType); err != nil {
		return nil, err
	}
	if t.config, err = t.small(blobPath(t.manifest.Config.Digest)); err != nil {
		return nil, err
	}
	for _, l := range t.manifest.Layers {
		t.layers = append(t.layers, blobPath(l.Digest))
	}
	for _, key := range []string{"io.containerd.image.name", ocispec.AnnotationRefName} {
		if n := d.Annotations[key]; n != "" {
			return []string{n}, nil
		}
	}
	return nil, nil
}

// send writes what the branches lack into them.
func (t *tarball) send(f *transfer.Fan, names []string) error {
	for i, name := range t.layers {
		d := t.manifest.Layers[i].Digest
		if !f.Wanted(d) {
			continue
		}
		_, r, err := t.entry(name)
		if err == nil {
			err = f.Blob(transfer.Blob{Key: d.Encoded(), Digest: d, Size: r.Size()}, io.NewSectionReader(r, 0, r.Size()))
		}
		if err != nil {
			return fmt.Errorf("image archive %s: %w", t.path, err)
		}
	}
	f.Finish(t.manifest, t.config, names)
	return nil
}
