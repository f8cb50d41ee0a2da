package transfer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest is an image's manifest with the bytes it is known by.
type Manifest struct {
	MediaType string
	Raw       []byte
	Config    ocispec.Descriptor
	Layers    []ocispec.Descriptor
}

// Digest returns the digest of the manifest's bytes.
func (m *Manifest) Digest() digest.Digest { return digest.FromBytes(m.Raw) }

// ParseManifest reads an OCI or Docker v2 schema 2 manifest of one platform.
func ParseManifest(raw []byte, mediaType string) (*Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("image manifest: %w", err)
	}
	if m.Config.Digest == "" {
		return nil, fmt.Errorf("image manifest of type %q names no configuration", mediaType)
	}
	if m.MediaType != "" {
		mediaType = m.MediaType
	}
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
	}
	return &Manifest{MediaType: mediaType, Raw: raw, Config: m.Config, Layers: m.Layers}, nil
}

// NewManifest makes the manifest of an image from its configuration and its
// uncompressed layers, bottom first.
func NewManifest(config []byte, layers []ocispec.Descriptor) (*Manifest, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config)),
		},
		Layers: layers,
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &Manifest{MediaType: m.MediaType, Raw: raw, Config: m.Config, Layers: layers}, nil
}

// archive writes one image as an OCI image layout in a tar stream.
//
// Layers may be left out if the receiver has them: containerd looks a
// manifest's blobs up in its own store. The index comes last, so that a
// stream that is cut is not an image. containerd finds blobs by the digest of
// what it received, not by their path in the archive.
type archive struct {
	tw *tar.Writer
}

// newArchive starts an archive on w.
func newArchive(w io.Writer) (*archive, error) {
	a := &archive{tw: tar.NewWriter(w)}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	return a, a.file(ocispec.ImageLayoutFile, layout)
}

func (a *archive) file(name string, data []byte) error {
	if err := a.tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(a.tw, bytes.NewReader(data))
	return err
}

// begin starts an entry, whose data the caller then writes.
func (a *archive) begin(b Blob) error {
	return a.tw.WriteHeader(&tar.Header{
		Name: ocispec.ImageBlobsDir + "/sha256/" + b.Key, Mode: 0o644, Size: b.Size, Typeflag: tar.TypeReg,
	})
}

// Write writes the data of the blob that was begun.
func (a *archive) Write(p []byte) (int, error) { return a.tw.Write(p) }

func (a *archive) end(Blob, *overlay) error { return nil }

// finish writes configuration and manifest and names the image.
func (a *archive) finish(m *Manifest, config []byte, names []string) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, n := range names {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: m.MediaType, Digest: m.Digest(), Size: int64(len(m.Raw)),
			Annotations: map[string]string{"io.containerd.image.name": n},
		})
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{ocispec.ImageBlobsDir + "/sha256/" + m.Config.Digest.Encoded(), config},
		{ocispec.ImageBlobsDir + "/sha256/" + m.Digest().Encoded(), m.Raw},
		{ocispec.ImageIndexFile, raw},
	} {
		if err := a.file(f.name, f.data); err != nil {
			return fmt.Errorf("archive entry %s: %w", f.name, err)
		}
	}
	return a.tw.Close()
}
