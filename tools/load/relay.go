package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
)

// smallLayer is up to which size, in bytes, a layer is held in memory until its
// turn comes; an image has at most 127 of them.
const smallLayer = 256 << 10

// relay is a receiver that passes uploads on into the nodes, one at a time.
type relay struct {
	fan    *transfer.Fan
	img    *content
	chains []digest.Digest

	mu    sync.Mutex // of the fan and what follows
	taken map[digest.Digest]bool
	// unnamed counts the uploads whose layer could not be told.
	unnamed int

	// Of a fan that unpacks: the layer whose turn it is, layers that came before
	// their turn, and what is closed when the turn changes.
	next  int
	small map[digest.Digest][]byte
	turn  chan struct{}
	err   error
}

func newRelay(fan *transfer.Fan, img *content, chains []digest.Digest) *relay {
	r := &relay{fan: fan, img: img, chains: chains, taken: map[digest.Digest]bool{}, small: map[digest.Digest][]byte{}, turn: make(chan struct{})}
	r.skip()
	return r
}

// wanted reports whether a node lacks the layer.
func (r *relay) wanted(i int) bool {
	if r.fan.Unpack {
		return r.fan.Wanted(r.chains[i])
	}
	return r.fan.Wanted(r.img.manifest.Layers[i].Digest)
}

// pending reports whether any node lacks any layer.
func (r *relay) pending() bool {
	for i := range r.img.manifest.Layers {
		if r.wanted(i) {
			return true
		}
	}
	return false
}

// Has reports whether no node lacks the blob. The configuration came before.
func (r *relay) Has(d digest.Digest) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size, has := int64(0), true
	for i, layer := range r.img.manifest.Layers {
		if layer.Digest == d {
			size, has = layer.Size, has && !r.wanted(i)
		}
	}
	if c := r.img.manifest.Config; c.Digest == d {
		size = c.Size
	}
	return size, has
}

func (r *relay) Blob(ctx context.Context, size int64, body io.Reader) error {
	if size < 0 {
		return errors.New("the engine sends a layer without telling its size: it compresses it")
	}
	if r.fan.Unpack {
		return r.inTurn(ctx, size, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.archived(size, body)
}

// archived finds out by its size which layer an upload is: the protocol tells
// its digest only afterwards. A size that two missing layers share goes to
// every node, which sorts it by its digest.
func (r *relay) archived(size int64, body io.Reader) error {
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
		r.taken[d] = true
	}
	return r.fan.Blob(transfer.Blob{Key: key(), Digest: d, Size: size}, body)
}

// had reports whether a layer of that size was taken already.
func (r *relay) had(size int64) bool {
	return slices.ContainsFunc(r.img.manifest.Layers, func(l ocispec.Descriptor) bool { return l.Size == size && r.taken[l.Digest] })
}

// inTurn passes a layer on when those below it have been. A small one is known
// by its digest, once it is here; a large one by its size, which no other has.
func (r *relay) inTurn(ctx context.Context, size int64, body io.Reader) error {
	if size <= smallLayer {
		data, err := io.ReadAll(io.LimitReader(body, size))
		if err == nil && int64(len(data)) < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return r.fail(fmt.Errorf("%d of %d bytes of a layer: %w", len(data), size, err))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.small[digest.FromBytes(data)] = data
		return r.advance()
	}
	i := slices.IndexFunc(r.img.manifest.Layers, func(l ocispec.Descriptor) bool { return l.Size == size })
	if i < 0 {
		return r.fail(fmt.Errorf("the engine sends %d bytes that no layer has", size))
	}
	for {
		r.mu.Lock()
		next, turn, err := r.next, r.turn, r.err
		if err != nil || next >= i {
			break
		}
		r.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return r.err
	case r.next > i:
		return r.failed(fmt.Errorf("the engine sends layer %d again", i+1))
	}
	if err := r.pass(body); err != nil {
		return err
	}
	return r.advance()
}

// advance passes on what has come already of the layers whose turn it is.
func (r *relay) advance() error {
	for r.err == nil && r.next < len(r.chains) {
		data, ok := r.small[r.img.manifest.Layers[r.next].Digest]
		if !ok {
			break
		}
		if err := r.pass(bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return r.err
}

// pass gives the layer whose turn it is to the nodes.
func (r *relay) pass(body io.Reader) error {
	i := r.next
	layer := r.img.manifest.Layers[i]
	blob := transfer.Blob{Key: layer.Digest.Encoded(), Digest: layer.Digest, Size: layer.Size, Chain: r.chains[i]}
	if i > 0 {
		blob.Parent = r.chains[i-1]
	}
	if err := r.fan.Blob(blob, body); err != nil {
		return r.failed(err)
	}
	r.next++
	r.skip()
	close(r.turn)
	r.turn = make(chan struct{})
	return nil
}

// skip goes on to the next layer that a node lacks.
func (r *relay) skip() {
	for r.fan.Unpack && r.next < len(r.chains) && !r.wanted(r.next) {
		r.next++
	}
}

func (r *relay) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed(err)
}

// failed ends the wait of the layers above one that failed.
func (r *relay) failed(err error) error {
	if r.err == nil {
		r.err = err
		close(r.turn)
		r.turn = make(chan struct{})
	}
	return err
}

func (r *relay) Manifest(m *transfer.Manifest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Digest() != r.img.manifest.Digest() {
		return fmt.Errorf("the engine pushed manifest %s after it named %s", m.Digest(), r.img.manifest.Digest())
	}
	if r.fan.Unpack && r.next < len(r.chains) {
		return fmt.Errorf("the engine did not push layer %d of %d", r.next+1, len(r.chains))
	}
	return nil
}
