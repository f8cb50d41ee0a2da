// Package nodeimage provides the image a Kind cluster's nodes run: Kind's own
// default wherever the engine has it or can get it, otherwise one built on this
// host (package build) from Go modules and Debian packages.
//
// It owns that choice and the label on the result. It creates no cluster; what
// it needs on the host it asks [Options.Install] for.
package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/build"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Options says which image, for which engine.
type Options struct {
	Image    string // E2E_NODE_IMAGE; empty: Kind's own, or built here
	Provider string // podman or docker: the command to call, unless Engine is set
	CacheDir string // of builds; empty: in the user's cache folder
	Mirror   string // of Debian, for a build; empty: debootstrap's default
	Log      *slog.Logger
	Progress progress.Func

	// Install puts packages that a build lacks on this host; nil: that they are
	// missing is a failure.
	Install func(ctx context.Context, packages []string) error

	Engine Engine                                           // empty: Provider's command
	Probe  func(ctx context.Context, registry string) error // empty: ask over HTTPS
}

// Source says where an image came from.
type Source string

// The sources.
const (
	Present Source = "present" // the engine had it
	Pulled  Source = "pulled"  // from its registry
	Cached  Source = "cache"   // from the archive of an earlier build
	Built   Source = "built"
)

// Result is an image the engine has, labelled as ours.
type Result struct {
	Ref               string // what to give Kind
	Base              string // what it was made from; empty for one built here
	KubernetesVersion string // for example v1.34.4; empty if the image does not tell
	Source            Source
}

// BuiltRef is the reference of the image that this host would build.
func BuiltRef() (string, error) {
	key, err := build.Key()
	if err != nil {
		return "", fmt.Errorf("identify the node image: %w", err)
	}
	return repository + ":" + build.KubernetesVersion + "-" + key, nil
}

const repository = "localhost/kubernaut-e2e/node"

// Ensure returns an image that the engine has and that carries our label, so
// that every node container inherits it, even that of a cluster that failed
// half-way.
//
// A first build takes many minutes and reports progress every few seconds. What
// it finished stays in the cache when ctx ends. An image is built only where no
// registry answers or has Kind's: a pull that fails otherwise is the error, as
// the engine says it. A host that can neither pull nor build gets a
// [failure.Error]: of class configuration where something is missing on it,
// image-reference where the given image does not exist, network where its
// registry does not answer.
func Ensure(ctx context.Context, o Options) (Result, error) {
	e, err := newEnsurer(o)
	if err != nil {
		return Result{}, err
	}
	if o.Image != "" {
		return e.given(ctx, o.Image)
	}
	result, pullErr := e.kinds(ctx)
	if pullErr == nil {
		return result, nil
	}
	if ctx.Err() != nil || !errors.Is(pullErr, errUnavailable) {
		return Result{}, pullErr
	}
	e.log.Info("Kind's own node image is not to be had, using one built here", "reason", pullErr)
	result, err = e.built(ctx)
	if f := failure.As(err); f != nil {
		// What would have spared the build belongs to the explanation.
		f.Err = errors.Join(pullErr, f.Err)
	}
	return result, err
}

type ensurer struct {
	Options
	engine Engine
	log    *slog.Logger
}

func newEnsurer(o Options) (*ensurer, error) {
	e := &ensurer{Options: o, engine: o.Engine, log: o.Log}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.engine == nil {
		if o.Provider != "podman" && o.Provider != "docker" {
			return nil, failure.New(failure.Configuration, fmt.Sprintf("unknown engine %q", o.Provider),
				"set KIND_EXPERIMENTAL_PROVIDER to podman or docker", nil)
		}
		e.engine = Command(o.Provider)
	}
	if e.Probe == nil {
		e.Probe = probe
	}
	if e.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, failure.New(failure.Configuration, "no folder for the node image's cache", "set HOME or XDG_CACHE_HOME", err)
		}
		e.CacheDir = filepath.Join(dir, "kubernaut-e2e", "nodeimage")
	}
	return e, nil
}

// built provides the image built here, from the engine, the cache or anew.
func (e *ensurer) built(ctx context.Context) (Result, error) {
	ref, err := BuiltRef()
	if err != nil {
		return Result{}, err
	}
	result := Result{Ref: ref, KubernetesVersion: build.KubernetesVersion, Source: Present}
	if image, err := e.engine.Image(ctx, ref); err != nil || image != nil {
		return result, err
	}
	o := build.Options{CacheDir: e.CacheDir, Mirror: e.Mirror, Log: e.log, Progress: e.Progress, Install: e.Install}
	unlock, err := build.Lock(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	// Whoever had the lock may have brought it.
	if image, err := e.engine.Image(ctx, ref); err != nil || image != nil {
		return result, err
	}
	archive, fresh, err := build.Archive(ctx, o)
	if err != nil {
		return Result{}, err
	}
	result.Source = Cached
	if fresh {
		result.Source = Built
	}
	err = during(e.Progress, "load node image", ref, func() error { return e.engine.Import(ctx, archive, ref) })
	if err != nil {
		return Result{}, err
	}
	if image, err := e.engine.Image(ctx, ref); err != nil || image == nil {
		return Result{}, errors.Join(fmt.Errorf("find node image %q after it was loaded", ref), err)
	}
	return result, nil
}

var versionTag = regexp.MustCompile(`:(v\d+\.\d+\.\d+)`)

// versionIn returns the Kubernetes version in an image's tag, or nothing.
func versionIn(ref string) string {
	if m := versionTag.FindStringSubmatch(ref); m != nil {
		return m[1]
	}
	return ""
}
