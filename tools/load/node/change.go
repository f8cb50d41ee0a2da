package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Marked is what goes before a command in a node so that it and all that it
// starts can be found there by the marker of its load.
func Marked(marker string) []string { return []string{"env", markerVariable + "=" + marker} }

const markerVariable = "KUBERNAUT_E2E_LOAD"

// importCommand is ctr's import of an archive on standard input.
func (inv *Inventory) importCommand() []string {
	cmd := []string{"ctr", "--namespace=k8s.io", "images", "import"}
	if inv.Local {
		cmd = append(cmd, "--local")
	}
	return append(cmd, "--snapshotter="+inv.Snapshotter, "-")
}

// Import feeds an image archive from stdin to containerd and unpacks it.
// marker names this import among the node's processes, for [EndOrphans].
// A nil error says that ctr ended well, not that the image is there: ask.
func (inv *Inventory) Import(ctx context.Context, r Runner, marker string, stdin io.Reader) error {
	cmd := inv.importCommand()
	return feed(ctx, r, strings.Join(cmd, " "), append(Marked(marker), cmd...), stdin)
}

func feed(ctx context.Context, r Runner, what string, cmd []string, stdin io.Reader) error {
	var said bytes.Buffer
	if err := r.Exec(ctx, cmd, stdin, io.Discard, &tail{buf: &said}); err != nil {
		return failed(r, what, Short(err, cmd, what), said.String())
	}
	return nil
}

const marked = `
marked() { grep -lszxe "` + markerVariable + `=$1" /proc/[0-9]*/environ; }
`

const orphanScript = marked + `
found=
for signal in TERM KILL; do
  left=$(marked "$1" | cut -d/ -f3)
  test -n "$left" || break
  kill -$signal $left 2>/dev/null
  found=1
  sleep 0.3
done
echo "$found"
`

const runningScript = marked + `test -z "$(marked "$1")" || echo running`

// Importing reports whether an import started with this marker runs in the node.
func Importing(ctx context.Context, r Runner, marker string) (bool, error) {
	out, err := script(ctx, r, "look for a running import", runningScript, marker)
	return out != "", err
}

// EndOrphans ends imports started with this marker that still run in the node
// although their client is gone. It reports whether there was one.
func EndOrphans(ctx context.Context, r Runner, marker string) (bool, error) {
	out, err := script(ctx, r, "end orphaned imports", orphanScript, marker)
	return len(strings.TrimSpace(out)) > 0, err
}

// Tag makes name point to what from points to.
func Tag(ctx context.Context, r Runner, from, name string) error {
	_, err := run(ctx, r, nil, "ctr", "--namespace=k8s.io", "images", "tag", "--force", from, name)
	return err
}

// Remove removes names, which need not be there. Their blobs go too, unless
// something else needs them.
func Remove(ctx context.Context, r Runner, names ...string) error {
	_, err := run(ctx, r, nil, append([]string{"ctr", "--namespace=k8s.io", "images", "rm"}, names...)...)
	return err
}

// Settle asks until want is proven under name, or until it is clear that it
// will not be: the kubelet's view follows containerd's within a moment.
func Settle(ctx context.Context, r Runner, name string, want Image) (*Inventory, error) {
	var last error
	for wait := 100 * time.Millisecond; wait < 4*time.Second; wait *= 2 {
		inv, err := Look(ctx, r, name, want.ID.String())
		if err != nil {
			return nil, err
		}
		if last = inv.Prove(r.Name(), name, want); last == nil {
			return inv, nil
		}
		var p *Problem
		if !errors.As(last, &p) || p.Dangling || inv.Images[name] == "" || inv.Kubelet == nil {
			return inv, last
		}
		select {
		case <-ctx.Done():
			return inv, fmt.Errorf("%w: %w", last, ctx.Err())
		case <-time.After(wait):
		}
	}
	return nil, last
}
