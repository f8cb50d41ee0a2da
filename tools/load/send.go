package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// feed runs an import in every target and fill to feed them all; unpack says in
// which form. It returns when fill and all imports have ended. What concerns one
// node is in its target; the error is of fill.
func (l *loader) feed(ctx context.Context, targets []*target, total int64, blobs []digest.Digest, unpack bool, fill func(context.Context, *transfer.Fan) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	what := "load " + l.src.ref + " into " + targets[0].node.Name()
	if n := len(targets) - 1; n > 0 {
		what += fmt.Sprintf(" and %d more", n)
	}
	var done atomic.Int64
	fan := &transfer.Fan{Unpack: unpack, Progress: func(n int64) {
		l.req.Progress(progress.Update{What: what, Done: done.Add(n), Total: total})
	}}
	var imports sync.WaitGroup
	for _, t := range targets {
		t.err = nil
		// An import ends by itself when its input fails, unless the way to it
		// hangs: it gets a moment to say why.
		ctx, drop := context.WithCancelCause(ctx)
		defer drop(nil)
		dropped := func(err error) { time.AfterFunc(lastWords, func() { drop(err) }) }
		b := &transfer.Branch{Dropped: dropped, Name: t.node.Name(), Lane: transfer.NewLane(l.req.Stall), Skip: owned(t, blobs, l.src.want.DiffIDs)}
		receive := t.inv.Import
		if unpack {
			b.Skip, receive, t.kept = t.inv.Snapshots, t.inv.Unpack, true
		}
		fan.Branches = append(fan.Branches, b)
		imports.Go(func() {
			err := receive(ctx, t.node, l.marker, b.Lane)
			b.Lane.CloseRead(err)
			if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
				err = errors.Join(cause, err)
			}
			t.err = err
			drop(nil)
		})
		imports.Go(func() { l.attend(ctx, t, b, drop) })
	}
	err := fill(ctx, fan)
	if err != nil {
		fan.Abort(err)
	}
	imports.Wait()
	for i, t := range targets {
		b := fan.Branches[i]
		t.res.Bytes += b.Bytes()
		t.err = errors.Join(t.err, b.Err())
	}
	if errors.Is(err, transfer.ErrNoReceiver) {
		return nil // every node says itself what happened
	}
	return err
}

const (
	lastWords  = 3 * time.Second
	attendTick = 3 * time.Second
)

var errSilent = errors.New("the import has ended in the node, but its end was never reported")

// attend watches an import that has got all of its data: if it no longer runs
// in the node, or the node cannot be asked, its report is not waited for.
func (l *loader) attend(ctx context.Context, t *target, b *transfer.Branch, drop context.CancelCauseFunc) {
	tick := time.NewTicker(attendTick)
	defer tick.Stop()
	gone, asked := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !b.Lane.Drained() {
			asked = time.Now()
			continue
		}
		askCtx, cancel := context.WithTimeout(ctx, l.req.Stall)
		running, err := node.Importing(askCtx, t.node, l.marker)
		cancel()
		switch {
		case err != nil:
			if time.Since(asked) > l.req.Stall {
				drop(fmt.Errorf("%w: %w", transfer.ErrStalled, err))
				return
			}
			continue
		case running:
			gone = 0
		default:
			if gone++; gone > 2 {
				drop(errSilent)
				return
			}
		}
		asked = time.Now()
	}
}

// stream feeds all nodes from one export.
func (l *loader) stream(ctx context.Context, targets []*target) error {
	diffs := l.src.want.DiffIDs
	if l.src.tarball == nil && slices.Contains(l.src.digests, l.src.want.ID) {
		return &impossible{"the engine names images by their manifest (containerd image store), which an export made anew would not keep"}
	}
	blobs := diffs // an engine's export names uncompressed layers
	if l.src.tarball != nil {
		blobs = (&content{manifest: l.src.tarball.manifest}).blobs()
	}
	for _, t := range targets {
		if len(lacks(t.inv, blobs, diffs)) > 0 {
			// Uncompressed content and its unpacked form.
			if t.err = l.fits(t, 2*l.src.size); t.err != nil {
				t.hard = true
			}
		}
	}
	if targets = fitting(targets); len(targets) == 0 {
		return nil
	}
	return l.feed(ctx, targets, l.src.size, blobs, false, func(ctx context.Context, fan *transfer.Fan) error {
		if l.src.tarball != nil {
			return l.src.tarball.send(fan, []string{l.src.name})
		}
		return l.export(ctx, fan)
	})
}

func (l *loader) export(ctx context.Context, fan *transfer.Fan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lane := transfer.NewLane(l.req.Stall)
	saved := make(chan error, 1)
	go func() {
		err := l.req.Engine.Save(ctx, l.src.want.ID.String(), lane)
		lane.CloseWrite(err)
		saved <- err
	}()
	give := func() { cancel(); lane.CloseRead(transfer.ErrStalled) }
	err := fan.Save(transfer.Watch(lane, prepare+l.req.Stall, l.req.Stall, give), l.src.want.ID, []string{l.src.name})
	lane.CloseRead(err)
	cancel()
	if saveErr := <-saved; saveErr != nil && err != nil && !errors.Is(saveErr, context.Canceled) {
		err = saveErr
	}
	if err != nil {
		return fmt.Errorf("export image %s: %w", l.src.ref, err)
	}
	return nil
}

func fitting(targets []*target) []*target {
	var out []*target
	for _, t := range targets {
		if !t.hard {
			out = append(out, t)
		}
	}
	return out
}

// owned is the set of a manifest's blobs that need not be sent to t.
func owned(t *target, blobs, diffIDs []digest.Digest) map[digest.Digest]bool {
	have := map[digest.Digest]bool{}
	for _, b := range blobs {
		have[b] = true
	}
	for _, i := range lacks(t.inv, blobs, diffIDs) {
		delete(have, blobs[i])
	}
	return have
}

// prepare is how long an engine may work on an export before its first byte:
// Podman's service writes the archive to a file of its own first.
const prepare = 5 * time.Minute
