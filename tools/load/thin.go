package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// thin lets the engine push to an endpoint of ours that claims to have every
// blob which all nodes have. What arrives goes straight on into the nodes that
// lack it.
//
// A first push, to an endpoint that claims to have all layers, brings manifest
// and configuration: it says which blobs there are, and how large.
func (l *loader) thin(ctx context.Context, targets []*target) error {
	if l.src.tarball != nil {
		return l.stream(ctx, targets) // a tarball is read thinly anyway
	}
	p, err := l.pusher(ctx)
	if err != nil {
		return err
	}
	img, err := p.probe(ctx, l)
	if err != nil {
		return err
	}
	blobs := img.blobs()
	if len(blobs) != len(l.src.want.DiffIDs) {
		return &impossible{fmt.Sprintf("the engine pushes %d layers of an image that has %d", len(blobs), len(l.src.want.DiffIDs))}
	}
	unpack := l.unpackable(targets, img)
	var total int64
	for _, t := range targets {
		var need int64
		for _, i := range lacks(t.inv, blobs, l.src.want.DiffIDs) {
			need += img.manifest.Layers[i].Size
		}
		total = max(total, need)
		if !unpack {
			need *= 2 // as it comes, and unpacked
		}
		if t.err = l.fits(t, need); t.err != nil {
			t.hard = true
		}
	}
	if targets = fitting(targets); len(targets) == 0 {
		return nil
	}
	return l.feed(ctx, targets, total, blobs, unpack, func(ctx context.Context, fan *transfer.Fan) error {
		r := newRelay(fan, img, node.ChainIDs(l.src.want.DiffIDs))
		if r.pending() {
			if err := p.push(ctx, l, r); err != nil {
				return err
			}
		}
		fan.Finish(img.manifest, img.config, []string{l.src.name})
		return nil
	})
}

// unpackable reports whether layers can be unpacked in all targets as they come:
// they can, are not compressed, none lies there packed, and each large one can
// be told from the others by its size, before it has come.
func (l *loader) unpackable(targets []*target, img *content) bool {
	diffIDs := l.src.want.DiffIDs
	sizes := map[int64]bool{}
	for i, d := range img.blobs() {
		size := img.manifest.Layers[i].Size
		if d != diffIDs[i] || (size > smallLayer && sizes[size]) {
			return false
		}
		sizes[size] = true
	}
	chains := node.ChainIDs(diffIDs)
	for _, t := range targets {
		if !t.inv.Unpacks {
			return false
		}
		for i, chain := range chains {
			if !t.inv.Snapshots[chain] && t.inv.Blobs[diffIDs[i]] {
				return false
			}
		}
	}
	return true
}

// pusher is an engine that can push to us.
type pusher struct {
	Pusher
	listen, dial string
	digest       digest.Digest // of the manifest as the engine stores it
}

func (l *loader) pusher(ctx context.Context) (*pusher, error) {
	push, ok := l.req.Engine.(Pusher)
	if !ok {
		return nil, &impossible{"this engine cannot push uncompressed layers"}
	}
	p := &pusher{Pusher: push, listen: "127.0.0.1", dial: "127.0.0.1"}
	if r, ok := l.req.Engine.(Reacher); ok {
		if p.listen, p.dial, ok = r.HostAddress(ctx); !ok {
			return nil, &impossible{"no way from the engine to this process is known"}
		}
	}
	if len(l.src.digests) == 0 {
		return nil, &impossible{"the engine names no manifest digest of the image"}
	}
	if slices.Contains(l.src.digests, l.src.want.ID) {
		return nil, &impossible{"the engine names images by their manifest (containerd image store)"}
	}
	p.digest = l.src.digests[0]
	return p, nil
}

// push pushes the image into rcv. The endpoint lives no longer than that.
func (p *pusher) push(ctx context.Context, l *loader, rcv transfer.Receiver) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := transfer.Listen(ctx, net.JoinHostPort(p.listen, "0"), rcv, l.req.Log)
	if err != nil {
		return &impossible{err.Error()}
	}
	defer e.Close() //nolint:errcheck // nothing is kept that could be lost
	dest := net.JoinHostPort(p.dial, strconv.Itoa(e.Port())) + "/" + e.Repository() + "@" + p.digest.String()
	go attend(ctx, e, 2*l.req.Stall, cancel)
	pushErr := p.Push(ctx, l.src.want.ID.String(), dest, progress.Discard)
	// What our side saw is the truth: the engine only says that it was refused,
	// and its own answer can be lost after everything has come.
	err = e.Err()
	if err != nil && !e.Touched() && errors.Is(pushErr, errors.ErrUnsupported) {
		return &impossible{pushErr.Error()}
	}
	if err != nil {
		return errors.Join(err, pushErr)
	}
	return nil
}

// answerTime is how long the engine may take to report a push that is complete.
const answerTime = 5 * time.Second

// attend gives a push up that stands still, and stops waiting for the engine's
// answer to a complete one.
func attend(ctx context.Context, e *transfer.Endpoint, limit time.Duration, give func()) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			idle, complete := e.Idle()
			if idle > limit || (complete && idle > answerTime) {
				give()
				return
			}
		}
	}
}

// content is an image's manifest and configuration.
type content struct {
	manifest *transfer.Manifest
	config   []byte
}

func (c *content) blobs() []digest.Digest {
	var out []digest.Digest
	for _, d := range c.manifest.Layers {
		out = append(out, d.Digest)
	}
	return out
}

func (p *pusher) probe(ctx context.Context, l *loader) (*content, error) {
	r := &probe{id: l.src.want.ID}
	ctx, cancel := context.WithTimeout(ctx, l.req.Stall)
	defer cancel()
	if err := p.push(ctx, l, r); err != nil {
		var no *impossible
		f := failure.As(err)
		lost := f != nil && f.Class == failure.EngineConnection
		if !errors.As(err, &no) && !lost && ctx.Err() == nil {
			// Podman refuses when it would have to change the manifest, as for
			// a pulled image, which it stores uncompressed.
			err = &impossible{"the engine cannot push the image unchanged: " + err.Error()}
		}
		return nil, err
	}
	if r.img.config == nil || digest.FromBytes(r.img.config) != l.src.want.ID {
		return nil, &impossible{"the engine pushed another configuration than it named"}
	}
	return &r.img, nil
}

// probe is a receiver that has all layers.
type probe struct {
	id  digest.Digest
	img content
}

func (p *probe) Has(d digest.Digest) (int64, bool) { return 0, d != p.id }

func (p *probe) Blob(_ context.Context, size int64, r io.Reader) error {
	if size > maxConfig {
		return fmt.Errorf("a configuration of %d bytes", size)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxConfig))
	p.img.config = data
	return err
}

func (p *probe) Manifest(m *transfer.Manifest) error {
	p.img.manifest = m
	return nil
}

const maxConfig = 8 << 20
