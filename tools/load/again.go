package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avast/retry-go/v4"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// inspect asks the engine for an image, again when the connection is lost.
func (r *Request) inspect(ctx context.Context, ref string) (Image, error) {
	for attempt := 1; ; attempt++ {
		limited, cancel := context.WithTimeout(ctx, lookTimeout)
		img, err := r.Engine.Image(limited, ref)
		cancel()
		lost := failure.As(err)
		if lost == nil || lost.Class != failure.EngineConnection || attempt >= r.Attempts || ctx.Err() != nil {
			return img, err
		}
		r.Note(Event{Kind: "fail", Ref: ref, Attempt: attempt, Detail: "inspect the image", Err: err})
		r.reachable(ctx, ref)
	}
}

// reachable waits a while for an engine that does not answer: it may be
// restarting. Attempts fail fast enough by themselves if it stays away.
func (r *Request) reachable(ctx context.Context, ref string) {
	p, ok := r.Engine.(Pinger)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := retry.Do(func() error { return p.Ping(ctx) }, retry.Context(ctx), retry.Attempts(0),
		retry.Delay(200*time.Millisecond), retry.MaxDelay(2*time.Second))
	if err != nil {
		r.Note(Event{Kind: "heal", Ref: ref, Detail: "the engine does not answer", Err: err})
	}
}

// errMoved says that a name of the engine's leads to another image than at the
// start of the load.
var errMoved = errors.New("the name leads to another image now: it was built or tagged anew meanwhile")

// current returns nil if the engine still knows the image by the name that it
// was asked for, or cannot be asked.
func (l *loader) current(ctx context.Context) error {
	if l.src.tarball != nil || ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	img, err := l.req.Engine.Image(ctx, l.src.ref)
	switch {
	case errors.Is(err, ErrNotFound):
		return failure.New(failure.ImageReference, fmt.Sprintf("image %s was removed from the engine while it was loaded", l.src.ref),
			"build or pull it again, and keep whatever removes images from running beside a load", err)
	case err == nil && bareDigest(img.ID) != l.src.want.ID:
		return errMoved
	}
	return nil
}

// rounds bounds how often an image that is built anew all the time is followed.
const rounds = 3

// load brings to every node what the source's reference means, also if that
// changes meanwhile.
func (r *Request) load(ctx context.Context, src *source) ([]Result, error) {
	var before []Result
	for round := 1; ; round++ {
		l := newLoader(r, src)
		results, err := l.run(ctx)
		for i, b := range before {
			results[i].Bytes += b.Bytes
			results[i].Attempts += b.Attempts
		}
		before = results
		sent := slices.ContainsFunc(results, func(res Result) bool { return res.Strategy != Present })
		moved := errors.Is(err, errMoved) || (err == nil && sent && errors.Is(l.current(ctx), errMoved))
		if !moved {
			return results, err
		}
		if round == rounds {
			err = failure.New(failure.StaleState, fmt.Sprintf("image %s is built or tagged anew faster than it can be loaded", src.ref),
				"end what builds it, then load again", errMoved)
			return unproven(results, err)
		}
		r.Note(Event{Kind: "heal", Ref: src.ref, Detail: "load what the name leads to now", Err: errMoved})
		if src, err = r.open(ctx, src.ref); err != nil {
			return unproven(results, err)
		}
	}
}

// unproven are results that err has made worthless.
func unproven(results []Result, err error) ([]Result, error) {
	for i := range results {
		results[i].Verified, results[i].Err = false, at(results[i].Node, err)
	}
	return results, err
}
