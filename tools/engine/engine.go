// Package engine speaks to a container engine: Podman through its bindings'
// connection and the documented libpod REST endpoints, Docker through its
// official client, both behind [Engine].
//
// It owns finding the engine, the connection, and the proof that a call did
// what was asked. It does not start engines or machines, know Kind, or decide
// what to retry: a lost connection is reported at once, and the next call
// connects anew.
package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// The engines.
const (
	Podman = "podman"
	Docker = "docker"
)

// Options says which engine to open.
type Options struct {
	Provider string       // Podman or Docker
	Log      *slog.Logger // nil: discard
}

// Engine is a container engine. All methods may be called concurrently and end
// promptly when their context does. A reference that the engine does not know
// is an error that is [ErrNotFound]; a connection that cannot be made or is lost
// is a [failure.Error] of class engine-connection.
type Engine interface {
	Name() string
	// Info is asked of the engine afresh each time.
	Info(context.Context) (Info, error)
	// Ping returns nil if the engine answers now.
	Ping(context.Context) error
	// HostAddress is the name or address by which the engine reaches a port
	// that this process listens on, and the address to listen on for it. Not ok
	// if no such way is known.
	HostAddress(context.Context) (HostAddress, bool)

	// Build builds, tags and returns the image ID of the tag, asked afresh.
	// Output lines go to the progress function as they come. A Dockerfile that
	// does not build is a test-failure with the failing step and the last lines.
	Build(context.Context, BuildRequest, progress.Func) (string, error)
	Image(ctx context.Context, ref string) (Image, error)
	// Images lists images that have every label ("key" or "key=value"), without
	// their layers. Untagged ones that a build keeps as its cache may be among them.
	Images(ctx context.Context, labels ...string) ([]Image, error)
	// Tag gives the image one more reference.
	Tag(ctx context.Context, ref, newRef string) error
	// RemoveImage removes the reference, and the image with its last one.
	RemoveImage(ctx context.Context, ref string, force bool) error
	// Save writes a docker-archive of the image. An archive that ends early is
	// an error even where the engine reports none.
	Save(ctx context.Context, ref string, w io.Writer) error
	// SaveAll is Save for several images in one archive, shared layers once.
	SaveAll(ctx context.Context, refs []string, w io.Writer) error
	// Load reads a docker or OCI archive and returns the references in it.
	Load(ctx context.Context, r io.Reader) ([]string, error)
	// Push sends the image to dest, HOST:PORT/NAME:TAG, over plain HTTP. It is
	// [errors.ErrUnsupported] where the engine cannot do that (Docker, unless
	// HOST is on its loopback).
	Push(ctx context.Context, ref, dest string, p progress.Func) error

	// Exec runs a command in a container. Nil only if the engine, asked afresh
	// afterwards, says that it ended with 0 and all of Stdin was delivered. A
	// command that ended otherwise is an [*ExitError]; one whose connection was
	// lost or whose context ended is a [*LostExec] and may still run: see EndExec.
	Exec(ctx context.Context, container string, r ExecRequest) error
	// EndExec ends what is left of a lost exec: TERM, then KILL. The container
	// needs a shell and grep. Nothing left is no error.
	EndExec(ctx context.Context, lost *LostExec) error

	// Containers lists containers in every state that have every label.
	Containers(ctx context.Context, labels ...string) ([]Container, error)
	// Started is when the container was started last, by the clock of the
	// engine's host.
	Started(ctx context.Context, container string) (time.Time, error)
	StartContainer(ctx context.Context, container string) error
	// StopContainer asks the container to stop and kills it after grace.
	StopContainer(ctx context.Context, container string, grace time.Duration) error
	// KillContainer sends a signal such as "KILL".
	KillContainer(ctx context.Context, container, signal string) error
	RemoveContainer(ctx context.Context, container string, force, volumes bool) error
	// Logs writes the last lines (0: all) of both of a container's outputs.
	Logs(ctx context.Context, container string, lines int, w io.Writer) error

	Networks(ctx context.Context, labels ...string) ([]Network, error)
	RemoveNetwork(ctx context.Context, name string) error
	Volumes(ctx context.Context, labels ...string) ([]Volume, error)
	RemoveVolume(ctx context.Context, name string, force bool) error
}

// Open finds and connects to an engine.
//
// Podman: CONTAINER_HOST with CONTAINER_SSHKEY; else the default connection
// that `podman system connection list` names, if any; else the socket of root's
// service or of the user's. Docker: DOCKER_HOST; else DOCKER_CONTEXT or the
// current context; else the system's socket or the user's.
//
// The error names the address that was tried and what helps.
func Open(ctx context.Context, o Options) (Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch o.Provider {
	case Podman:
		return openPodman(ctx, o.Log)
	case Docker:
		return openDocker(ctx, o.Log)
	default:
		return nil, failure.New(failure.Configuration, fmt.Sprintf("no engine is called %q", o.Provider),
			"set KIND_EXPERIMENTAL_PROVIDER to podman or docker", nil)
	}
}

// Reachable returns nil if the engine answers within three seconds, else why
// it does not.
func Reachable(ctx context.Context, provider string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	e, err := Open(ctx, Options{Provider: provider})
	if err != nil {
		return err
	}
	return e.Ping(ctx)
}
