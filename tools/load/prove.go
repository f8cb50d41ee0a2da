package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
)

// lookTimeout bounds one question to a node.
const lookTimeout = 45 * time.Second

func humanBytes(n int64) string { return humanize.SIWithDigits(float64(max(0, n)), 1, "B") }

// look asks the node afresh; t.inv is nil if it did not answer, and the
// target is verified if the image turns out to be there.
func (l *loader) look(ctx context.Context, t *target) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	inv, err := node.Look(ctx, t.node, l.src.name, l.src.want.ID.String())
	t.inv = inv
	if err != nil {
		t.err = err
		return
	}
	if inv.Prove(t.node.Name(), l.src.name, l.src.want) == nil {
		l.verified(t)
	}
}

// present is the first look, and the naming of an image that is there under
// another name.
func (l *loader) present(ctx context.Context, t *target) {
	l.look(ctx, t)
	if t.inv == nil || t.res.Verified {
		if t.res.Verified {
			t.res.Strategy = Present
		}
		return
	}
	if l.src.arch != "" && t.inv.Arch != l.src.arch {
		t.hard = true
		t.err = failure.New(failure.ImageReference,
			fmt.Sprintf("image %s is for %s/%s, node %s is %s", l.src.ref, l.src.os, l.src.arch, t.node.Name(), t.inv.Arch),
			fmt.Sprintf("build it with --platform=linux/%s", t.inv.Arch), nil)
		return
	}
	byID := l.src.want.ID.String()
	if l.forced() || t.inv.Prove(t.node.Name(), byID, l.src.want) != nil {
		return
	}
	t.res.Strategy = Present
	if err := node.Tag(ctx, t.node, byID, l.src.name); err != nil {
		t.err = err
		return
	}
	l.prove(ctx, t)
}

func (l *loader) forced() bool { return l.req.Strategy != "" && l.req.Strategy != Present }

func (l *loader) verified(t *target) {
	t.err = nil
	t.res.Verified = true
	t.res.Duration = time.Since(l.start)
	if t.res.Strategy == "" {
		t.res.Strategy = Present
	}
	l.note(Event{Kind: "done", Node: t.node.Name(), Strategy: t.res.Strategy, Attempt: t.res.Attempts, Bytes: t.res.Bytes, Duration: t.res.Duration})
}

// prove asks the node whether the image is there now. If not, it puts right
// what an interrupted import leaves: the import itself, still running without
// its client, and a name that leads to nothing whole.
func (l *loader) prove(ctx context.Context, t *target) {
	// The clean-up must happen even if the caller has given up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	sent := t.err
	if sent != nil {
		l.endOrphans(ctx, t)
	}
	inv, err := node.Settle(ctx, t.node, l.src.name, l.src.want)
	if byID := l.src.want.ID.String(); err != nil && inv != nil && inv.Images[l.src.name] == "" && inv.Prove(t.node.Name(), byID, l.src.want) == nil {
		// Imported whole, from an archive that does not carry the name.
		if err = node.Tag(ctx, t.node, byID, l.src.name); err == nil {
			inv, err = node.Settle(ctx, t.node, l.src.name, l.src.want)
		}
	}
	t.inv = inv
	if err == nil {
		l.verified(t)
		return
	}
	if sent == nil {
		l.endOrphans(ctx, t)
	}
	l.removeDangling(ctx, t, err)
	if sent != nil {
		t.err = fmt.Errorf("%w (%w)", sent, err)
	} else {
		t.err = fmt.Errorf("the load was reported to have worked, but: %w", err)
	}
	if f := failure.As(sent); f != nil && f.Class == failure.Resources {
		t.hard = true
	}
}

// removeDangling removes the name that leads to nothing whole, and what the CRI
// service made of it under the image's ID.
func (l *loader) removeDangling(ctx context.Context, t *target, err error) {
	var p *node.Problem
	if !errors.As(err, &p) || !p.Dangling {
		return
	}
	names := []string{l.src.name}
	byID := l.src.want.ID.String()
	if _, there := t.inv.Images[byID]; there && t.inv.Prove(t.node.Name(), byID, l.src.want) != nil {
		names = append(names, byID)
	}
	err = node.Remove(ctx, t.node, names...)
	l.note(Event{Kind: "heal", Node: t.node.Name(), Detail: "removed the name " + l.src.name + ": " + p.Reason, Err: err})
}

func (l *loader) endOrphans(ctx context.Context, t *target) {
	found, err := node.EndOrphans(ctx, t.node, l.marker)
	if found || err != nil {
		l.note(Event{Kind: "heal", Node: t.node.Name(), Detail: "ended an orphaned import", Err: err})
	}
}

// release gives up what failed attempts have kept in the node. One that cannot
// be reached keeps it, as a node whose load has failed may keep anything.
func (l *loader) release(ctx context.Context, t *target) {
	if !t.kept {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if err := node.Release(ctx, t.node, l.marker); err != nil {
		l.note(Event{Kind: "heal", Node: t.node.Name(), Detail: "release the parts of the image that had come", Err: err})
	}
}

// lacks returns the indexes of the layers that have to be sent: neither is
// the blob in the content store nor the layer unpacked. blobs are the layers'
// digests as the manifest lists them.
func lacks(inv *node.Inventory, blobs []digest.Digest, diffIDs []digest.Digest) []int {
	var missing []int
	for i, chain := range node.ChainIDs(diffIDs) {
		if !inv.Snapshots[chain] && !inv.Blobs[blobs[i]] {
			missing = append(missing, i)
		}
	}
	return missing
}
