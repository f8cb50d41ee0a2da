package load

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
)

// relay is a receiver that passes uploads on into the nodes.
type relay struct {
	fan   *transfer.Fan
	img   *content
	taken map[digest.Digest]bool
	// unnamed counts the uploads whose layer could not be told.
	unnamed int
}

// Has reports whether no node lacks the blob. The configuration came before.
func (r *relay) Has(d digest.Digest) (int64, bool) {
	if d == r.img.manifest.Config.Digest {
		return r.img.manifest.Config.Size, true
	}
	for _, layer := range r.img.manifest.Layers {
		if layer.Digest == d {
			return layer.Size, !r.fan.Wanted(d)
		}
	}
	return 0, !r.fan.Wanted(d)
}

// Blob finds out by its size which layer an upload is: the protocol tells its
// digest only afterwards. A size that two missing layers share goes to every
// node, which sorts it by its digest.
func (r *relay) Blob(size int64, body io.Reader) error {
	if size < 0 {
		return errors.New("the engine sends a layer without telling its size: it compresses it")
	}
	var d digest.Digest
	matches := 0
	for _, layer := range r.img.manifest.Layers {
		if layer.Size == size && !r.taken[layer.Digest] && r.fan.Wanted(layer.Digest) && layer.Digest != d {
			d = layer.Digest
			matches++
		}
	}
	key := d.Encoded
	switch {
	case matches == 0 && r.had(size):
		// An image may hold one layer twice, and the engine sends both at once.
		_, err := io.Copy(io.Discard, body)
		return err
	case matches == 0:
		return fmt.Errorf("the engine sends %d bytes that no missing layer has", size)
	case matches > 1:
		d = ""
		r.unnamed++
		key = func() string { return digest.FromString(fmt.Sprint(size, r.unnamed)).Encoded() }
	default:
		if r.taken == nil {
			r.taken = map[digest.Digest]bool{}
		}
		r.taken[d] = true
	}
	return r.fan.Blob(key(), d, size, body)
}

// had reports whether a layer of that size was taken already.
func (r *relay) had(size int64) bool {
	for _, layer := range r.img.manifest.Layers {
		if layer.Size == size && r.taken[layer.Digest] {
			return true
		}
	}
	return false
}

func (r *relay) Manifest(m *transfer.Manifest) error {
	if m.Digest() != r.img.manifest.Digest() {
		return fmt.Errorf("the engine pushed manifest %s after it named %s", m.Digest(), r.img.manifest.Digest())
	}
	return nil
}
