// Package load brings images into Kind nodes: nothing is sent that a node has,
// and nothing is believed that the node, asked afresh, does not confirm.
//
// It owns the strategies, their order and what happens after a failure. It
// reaches engine and nodes only through the interfaces declared here.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Engine is what a load asks of a container engine.
type Engine interface {
	// Image inspects a reference, in any form the engine understands. For one
	// that it does not know the error is [ErrNotFound].
	Image(ctx context.Context, ref string) (Image, error)
	// Save writes the image as a docker-archive. An export that ends early is an
	// error.
	Save(ctx context.Context, ref string, w io.Writer) error
}

// Pusher is an Engine that can push to a registry over plain HTTP; without it
// the thin strategy is skipped. dest is HOST:PORT/NAME@DIGEST with the digest
// of the manifest as the engine stores it: since that may not change, Podman
// sends layers as they are instead of compressing them. An engine that cannot
// returns [errors.ErrUnsupported].
type Pusher interface {
	Push(ctx context.Context, ref, dest string, p progress.Func) error
}

// Reacher is an Engine that knows how it reaches this process. Without it the
// engine is taken to share this host's loopback.
type Reacher interface {
	// HostAddress returns the address to listen on and the host by which the
	// engine dials it; not ok if there is no way.
	HostAddress(ctx context.Context) (listen, dial string, ok bool)
}

// Pinger is an Engine that can be asked whether it answers: after a failure
// the next attempt waits for it.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Node is one node of the cluster.
type Node = node.Runner

// ErrNotFound is the error of [Engine.Image] for an unknown reference.
var ErrNotFound = errors.New("no such image")

// Image is an image of the engine.
type Image struct {
	ID      string   // "sha256:…" of the configuration; Docker's containerd image store: of the manifest
	Names   []string // full references, NAME:TAG
	Digests []string // of manifests, bare or NAME@DIGEST; may be empty
	OS      string
	Arch    string   // as Go names it
	DiffIDs []string // "sha256:…", bottom layer first
	Size    int64    // bytes, about
}

// The strategies, in the order in which they are tried.
const (
	Present = "present" // nothing is sent; at most a name is added
	Thin    = "thin"    // only blobs that the node lacks are sent
	Stream  = "stream"  // one export feeds all nodes, without a file
	Archive = "archive" // a tarball, loaded as `kind load image-archive` does
)

// Request is one load.
type Request struct {
	// Refs are references as the engine knows them (short, full, by ID or by
	// digest; several in one string are separated by commas) or paths of image
	// tarballs (docker-archive or OCI layout, not compressed).
	Refs     []string
	Nodes    []Node
	Engine   Engine // may be nil if all Refs are tarballs
	Strategy string // empty: the usual order; else only this one, after looking
	TempDir  string // for the archive strategy's tarball; empty: the system's
	// Stall is how long a transfer may stand still; 0 means 1 minute.
	Stall time.Duration
	// Attempts is how often each strategy is tried; 0 means 3.
	Attempts int

	Log      *slog.Logger
	Progress progress.Func
	// Note, if not nil, gets what happens as it happens, for a journal. It may
	// be called from several goroutines.
	Note func(Event)
}

// Event is something that happened to a load.
type Event struct {
	Kind     string // skip, attempt, heal, done or fail
	Ref      string
	Node     string // empty: concerns all
	Strategy string
	Attempt  int
	Bytes    int64 // layer data sent
	Duration time.Duration
	Detail   string
	Err      error
}

// Result is one image on one node.
type Result struct {
	Node     string
	Ref      string // as asked for
	Name     string // as the node knows it
	Strategy string // that brought it there; of a failure, the last one tried
	Bytes    int64  // of image data sent, in all attempts
	Duration time.Duration
	Attempts int // that sent something or tried to
	Verified bool
	Skipped  []string // "strategy: reason"
	Err      error    // why it is not verified
}

// Load brings every image to every node and returns one result for each pair,
// also when it fails. The error is nil only if all are verified; it names each
// node that is not. On failure no name on a node is left pointing to an image
// that is not whole, no import runs on there, and no file or listener stays
// behind here.
//
// What a reference means is what it means at the end: of an image that was built
// anew under the same name meanwhile, the new one is loaded too.
//
// An image's name on the nodes is its full name in the engine:
// "localhost/foo:tag" of Podman stays that, Docker's "foo:tag" becomes
// "docker.io/library/foo:tag", as the kubelet will ask for it.
func Load(ctx context.Context, req Request) ([]Result, error) {
	req.defaults()
	refs, err := split(req.Refs)
	if err != nil {
		return nil, err
	}
	if len(req.Nodes) == 0 {
		return nil, errors.New("load images: the cluster has no nodes")
	}
	if err := checkStrategy(req.Strategy); err != nil {
		return nil, err
	}
	sources := make([]*source, len(refs))
	for i, ref := range refs {
		if sources[i], err = req.open(ctx, ref); err != nil {
			return nil, err
		}
		defer sources[i].close()
	}
	var results []Result
	var failed []error
	for _, src := range sources {
		res, err := req.load(ctx, src)
		results = append(results, res...)
		if err != nil {
			failed = append(failed, fmt.Errorf("load image %s: %w", src.ref, err))
		}
	}
	return results, errors.Join(failed...)
}

func (r *Request) defaults() {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.Stall == 0 {
		r.Stall = time.Minute
	}
	if r.Attempts == 0 {
		r.Attempts = 3
	}
	r.Progress = r.Progress.Or()
	if r.Note == nil {
		r.Note = func(Event) {}
	}
}
