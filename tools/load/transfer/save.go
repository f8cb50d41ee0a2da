package transfer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallBlob bounds what is kept in memory of an export: configurations and
// manifests are some kilobytes.
const (
	smallBlob = 4 << 20
	smallSum  = 32 << 20
)

// hexName matches the names that carry a digest: Podman's "<diffID>.tar" and
// the "blobs/sha256/<digest>" of Docker since 25.
var hexName = regexp.MustCompile(`^(?:blobs/sha256/)?([0-9a-f]{64})(?:\.tar)?$`)

// Save turns a docker-archive stream, as `podman save` and `docker save` write
// it, into the blobs of an image, on the fly.
//
// Layers whose entry is named by their digest are not sent to branches that
// have them; older Docker names them otherwise, and then all are sent. The
// stream must hold one image, want.
func (f *Fan) Save(r io.Reader, want digest.Digest, names []string) error {
	s := saved{small: map[string][]byte{}, sizes: map[string]int64{}, links: map[string]string{}}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("image export: %w", err)
		}
		if err := s.entry(f, hdr, tr); err != nil {
			return fmt.Errorf("image export: entry %s: %w", hdr.Name, err)
		}
	}
	m, config, err := s.manifest(want)
	if err != nil {
		return fmt.Errorf("image export: %w", err)
	}
	f.Finish(m, config, names)
	return nil
}

type saved struct {
	small map[string][]byte
	sum   int
	sizes map[string]int64
	links map[string]string
}

func (s *saved) entry(f *Fan, hdr *tar.Header, r io.Reader) error {
	name := path.Clean(hdr.Name)
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		s.links[name] = path.Join(path.Dir(name), hdr.Linkname)
		return nil
	case tar.TypeLink:
		s.links[name] = path.Clean(hdr.Linkname)
		return nil
	case tar.TypeReg:
	default:
		return nil
	}
	s.sizes[name] = hdr.Size
	layer := strings.HasSuffix(name, ".tar") || strings.HasPrefix(name, "blobs/")
	if hdr.Size <= smallBlob && s.sum+int(hdr.Size) <= smallSum {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, ".tar") {
			s.small[name], s.sum = data, s.sum+len(data)
		}
		r = bytes.NewReader(data)
	}
	if !layer {
		return nil
	}
	key, d := digest.FromString(name).Encoded(), digest.Digest("")
	if m := hexName.FindStringSubmatch(name); m != nil {
		key, d = m[1], digest.NewDigestFromEncoded(digest.SHA256, m[1])
	}
	if d != "" && !f.Wanted(d) {
		return nil
	}
	return f.Blob(Blob{Key: key, Digest: d, Size: hdr.Size}, r)
}

// manifest builds the image's manifest from manifest.json and the
// configuration, whose layers stand in the same order.
func (s *saved) manifest(want digest.Digest) (*Manifest, []byte, error) {
	var list []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(s.small["manifest.json"], &list); err != nil {
		return nil, nil, fmt.Errorf("manifest.json: %w", err)
	}
	for _, img := range list {
		config := s.small[path.Clean(img.Config)]
		if config == nil || digest.FromBytes(config) != want {
			continue
		}
		var c ocispec.Image
		if err := json.Unmarshal(config, &c); err != nil {
			return nil, nil, fmt.Errorf("configuration %s: %w", img.Config, err)
		}
		if len(c.RootFS.DiffIDs) != len(img.Layers) {
			return nil, nil, fmt.Errorf("%d layers for a configuration of %d", len(img.Layers), len(c.RootFS.DiffIDs))
		}
		var layers []ocispec.Descriptor
		for i, name := range img.Layers {
			name = path.Clean(name)
			for hops := 0; s.links[name] != "" && hops < 8; hops++ {
				name = s.links[name]
			}
			size, ok := s.sizes[name]
			if !ok {
				return nil, nil, fmt.Errorf("layer %s is not in the export", name)
			}
			layers = append(layers, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageLayer, Digest: c.RootFS.DiffIDs[i], Size: size,
			})
		}
		m, err := NewManifest(config, layers)
		return m, config, err
	}
	return nil, nil, fmt.Errorf("it holds no image %s", want)
}
