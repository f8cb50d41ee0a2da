package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// image is one container image by the names of its layers, lowest first.
type image struct {
	ref        string
	layers     []string
	entrypoint string // a program in /usr/local/bin
}

type layer struct {
	file   string
	digest string // hex SHA-256 of the uncompressed archive: the diff ID
}

// imageArchive collects layers and writes images that share them in the format
// of `docker save`, uncompressed: what follows only unpacks them.
type imageArchive struct {
	dir    string
	layers map[string]layer
}

// addLayer writes a layer's archive below the folder.
func (b *imageArchive) addLayer(name string, fill func(*archive) error) (err error) {
	path := filepath.Join(b.dir, "layer-"+name+".tar")
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make layer %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	a := newArchive(io.MultiWriter(f, sum))
	if err := fill(a); err != nil {
		return fmt.Errorf("make layer %q: %w", name, err)
	}
	if err := a.tar.Close(); err != nil {
		return fmt.Errorf("make layer %q: %w", name, err)
	}
	b.layers[name] = layer{file: path, digest: hex.EncodeToString(sum.Sum(nil))}
	return nil
}

// write makes the archive at path.
func (b *imageArchive) write(path string, images []image) error {
	return writeArchive(path, func(a *archive) error {
		type entry struct {
			Config   string
			RepoTags []string
			Layers   []string
		}
		var manifest []entry
		written := map[string]bool{}
		for _, i := range images {
			config, layers, err := b.config(i)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(config)
			e := entry{Config: hex.EncodeToString(sum[:]) + ".json", RepoTags: []string{i.ref}}
			for _, l := range layers {
				name := l.digest + ".tar"
				e.Layers = append(e.Layers, name)
				if written[name] {
					continue
				}
				written[name] = true
				if err := a.file(name, 0o644, l.file); err != nil {
					return err
				}
			}
			if !written[e.Config] {
				written[e.Config] = true
				if err := a.bytes(e.Config, 0o644, config); err != nil {
					return err
				}
			}
			manifest = append(manifest, e)
		}
		data, err := json.Marshal(manifest)
		if err != nil {
			return fmt.Errorf("describe the images: %w", err)
		}
		return a.bytes("manifest.json", 0o644, data)
	})
}

// config is the image's configuration (OCI image specification 1.1, config.md).
func (b *imageArchive) config(i image) ([]byte, []layer, error) {
	var layers []layer
	var diffIDs []string
	for _, name := range i.layers {
		l, ok := b.layers[name]
		if !ok {
			return nil, nil, fmt.Errorf("image %q: no layer %q", i.ref, name)
		}
		layers = append(layers, l)
		diffIDs = append(diffIDs, "sha256:"+l.digest)
	}
	type m = map[string]any
	data, err := json.Marshal(m{
		"os": "linux", "architecture": runtime.GOARCH,
		"config": m{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": []string{"/usr/local/bin/" + i.entrypoint},
			"WorkingDir": "/",
		},
		"rootfs": m{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("describe image %q: %w", i.ref, err)
	}
	return data, layers, nil
}
