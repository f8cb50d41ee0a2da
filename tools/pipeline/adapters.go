package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// loadEngine is an engine as the load package sees it.
type loadEngine struct {
	engine.Engine
	connect func(context.Context) error // to an engine that does not answer
}

// Ping asks the engine, and gets one back that went away.
func (e loadEngine) Ping(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, silentLimit)
	defer cancel()
	if e.Engine.Ping(ask) == nil {
		return nil
	}
	return e.connect(ctx)
}

// Image inspects an image.
func (e loadEngine) Image(ctx context.Context, ref string) (load.Image, error) {
	i, err := e.Engine.Image(ctx, ref)
	if errors.Is(err, engine.ErrNotFound) {
		return load.Image{}, fmt.Errorf("%w: %w", load.ErrNotFound, err)
	}
	return load.Image{ID: i.ID, Names: i.Tags, Digests: i.Digests, OS: i.OS, Arch: i.Arch, DiffIDs: i.Layers, Size: i.Size}, err
}

// HostAddress says how the engine reaches this process.
func (e loadEngine) HostAddress(ctx context.Context) (listen, dial string, ok bool) {
	a, ok := e.Engine.HostAddress(ctx)
	return a.Listen, a.Dial, ok
}

// loadNode is a node's container as the load package sees it.
type loadNode struct {
	engine engine.Engine
	name   string
	lost   func(*engine.LostExec) // told of a command that may still run
}

// Name is the container's name.
func (n loadNode) Name() string { return n.name }

// Exec runs cmd in the node, privileged as Kind does, because importing mounts
// snapshots. What is left of a lost one is ended before it returns.
func (n loadNode) Exec(ctx context.Context, cmd []string, stdin io.Reader, stdout, stderr io.Writer) error {
	err := n.engine.Exec(ctx, n.name, engine.ExecRequest{Cmd: cmd, Stdin: stdin, Stdout: stdout, Stderr: stderr, Privileged: true})
	var lost *engine.LostExec
	if !errors.As(err, &lost) {
		return err
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if endErr := n.engine.EndExec(end, lost); endErr != nil {
		n.lost(lost)
		return errors.Join(err, fmt.Errorf("end what is left of it: %w", endErr))
	}
	return err
}
