// Package build makes a Kind node image without an image registry: from Go
// modules, Debian packages and the files of the kind module.
//
// It owns the parts, their pins and their cache, and ends with an archive of a
// root filesystem; it knows no container engine. It has to run as root on
// Linux: debootstrap and unpacking images into containerd's store need both.
package build

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// unusedFor is how long a part nobody asked for stays in the cache: long enough
// for switching between branches, short enough not to fill a disk.
const unusedFor = 30 * 24 * time.Hour

// Options says where and how to build.
type Options struct {
	CacheDir string // absolute; made if absent
	Mirror   string // of Debian; empty: debootstrap's default
	Log      *slog.Logger
	Progress progress.Func
	// Install puts missing packages on this host before a build; nil: a missing
	// one is a failure.
	Install func(ctx context.Context, packages []string) error
}

// Key identifies the image that [Archive] makes on this architecture: twelve
// hex digits over everything that goes in. The Go toolchain is left out: every
// release able to build these sources makes an equal program of them, and a
// security update of Go should not cost a quarter of an hour.
func Key() (string, error) {
	node, err := recipes(Options{})
	if err != nil {
		return "", err
	}
	return node.key, nil
}

const debootstrap = "debootstrap"

// hostPackages lists the Debian packages the build needs on the host, beside
// an engine and Go.
func hostPackages() []string { return []string{debootstrap, "debian-archive-keyring"} }

// Archive returns the path of the image's root filesystem as a tar archive,
// and whether it had to be built. Each part is kept as it is finished, so an
// interrupted build goes on at the first part that is missing. The caller holds
// [Lock].
//
// A host that cannot build gets a [failure.Error] of class configuration.
func Archive(ctx context.Context, o Options) (path string, built bool, err error) {
	node, err := recipes(o)
	if err != nil {
		return "", false, err
	}
	c := cache{dir: o.CacheDir}
	path = filepath.Join(c.path(node), "node.tar")
	c.touch(node)
	if c.has(node) {
		return path, false, nil
	}
	if err := checkHost(ctx, o); err != nil {
		return "", false, err
	}
	if err := c.clean(time.Now().Add(-unusedFor)); err != nil {
		o.Log.Warn("old parts of node images not removed", "error", err)
	}
	track := newTracker(o.Progress)
	defer track.stop()
	if err := c.ensure(ctx, node, track); err != nil {
		return "", false, err
	}
	return path, true, nil
}

// Lock takes the cache folder for this process, making it if need be, and
// returns what gives it back. While another process has it, Lock waits and says
// so every few seconds. The lock goes with the process, however that ends.
func Lock(ctx context.Context, o Options) (unlock func(), err error) {
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder %q: %w", o.CacheDir, err)
	}
	l := flock.New(filepath.Join(o.CacheDir, ".lock"))
	for {
		wait, cancel := context.WithTimeout(ctx, reportEvery)
		ok, err := l.TryLockContext(wait, 200*time.Millisecond)
		cancel()
		if ok {
			return func() { _ = l.Unlock() }, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for another build of the node image: %w", ctx.Err())
		}
		if err != nil && wait.Err() == nil {
			return nil, fmt.Errorf("lock cache folder %q: %w", o.CacheDir, err)
		}
		o.Progress.Or()(progress.Update{What: "node image", Line: "waiting for another build of it to end"})
	}
}

// checkHost installs what is missing, or says so before anything is begun.
func checkHost(ctx context.Context, o Options) error {
	const registry = "or make docker.io reachable, or set E2E_NODE_IMAGE to an image the engine has"
	if runtime.GOOS != "linux" {
		return failure.New(failure.Configuration, "no node image, and one can be built on Linux only",
			strings.TrimPrefix(registry, "or "), nil)
	}
	if os.Geteuid() != 0 {
		return failure.New(failure.Configuration, "no node image, and building one needs root (debootstrap, mounts)",
			"run `setup` once as root, "+registry, nil)
	}
	if _, err := command.LookPath("go"); err != nil {
		return failure.New(failure.Configuration, "no node image, and building one needs the go command",
			"put Go on PATH, "+registry, err)
	}
	_, err := command.LookPath(debootstrap)
	if err != nil && o.Install != nil {
		if err := o.Install(ctx, hostPackages()); err != nil {
			return err
		}
		_, err = command.LookPath(debootstrap)
	}
	if err != nil {
		return failure.New(failure.Configuration, "no node image, and building one needs debootstrap",
			"install the packages "+strings.Join(hostPackages(), " ")+", "+registry, err)
	}
	return nil
}
