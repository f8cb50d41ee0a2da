package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Import feeds an image archive from stdin to containerd and unpacks it.
// marker names this import among the node's processes, for [EndOrphans].
// A nil error says that ctr ended well, not that the image is there: ask.
//
// Of keep, what has come whole stays in the node when the import fails, until
// [Release]: containerd would drop it with the import's lease.
func (inv *Inventory) Import(ctx context.Context, r Runner, marker string, keep []digest.Digest, stdin io.Reader) error {
	cmd := []string{"ctr", "--namespace=k8s.io", "images", "import"}
	if inv.Local {
		cmd = append(cmd, "--local")
	}
	// --label is kept on the image and read by nobody: it marks the process.
	cmd = append(cmd, "--label="+MarkerLabel+"="+marker, "--snapshotter="+inv.Snapshotter, "-")
	plain := strings.Join(cmd, " ")
	if len(keep) > 0 {
		list := make([]string, len(keep))
		for i, d := range keep {
			list[i] = d.String()
		}
		cmd = append([]string{"sh", "-c", keepScript, "kubernaut-e2e", rootValue + marker, strings.Join(list, " ")}, cmd...)
	}
	var said bytes.Buffer
	if err := r.Exec(ctx, cmd, stdin, io.Discard, &tail{buf: &said}); err != nil {
		return failed(r, plain, short(err, cmd, plain), said.String())
	}
	return nil
}

// rootValue begins the value of the label containerd.io/gc.root that keeps a
// blob (containerd, docs/garbage-collection.md); the import's marker follows.
const rootValue = "kubernaut-e2e-"

// keepScript runs a command, as long as that runs labels each blob of a list as
// soon as it is there, and takes the labels back if the command ends well.
const keepScript = `
value=$1; list=$2; shift 2
store=/var/lib/containerd/io.containerd.content.v1.content/blobs
(
  trap exit TERM # after the command at hand
  set -- $list
  while test $# -gt 0 && kill -0 $$; do
    for d in "$@"; do
      shift
      test -e "$store/sha256/${d#sha256:}" && ctr -n k8s.io content label "$d" "containerd.io/gc.root=$value" || set -- "$@" "$d"
    done
    sleep 0.2
  done
) </dev/null >/dev/null 2>&1 &
"$@"
code=$?
kill $! 2>/dev/null
wait
test $code -eq 0 && { ` + releaseCommand + `; } >/dev/null 2>&1 </dev/null
exit $code
`

const releaseCommand = `for d in $(ctr -n k8s.io content ls -q "labels.\"containerd.io/gc.root\"==$value"); do ctr -n k8s.io content label "$d" containerd.io/gc.root= || bad=1; done`

// Release gives up what failed imports with this marker have kept.
func Release(ctx context.Context, r Runner, marker string) error {
	_, err := script(ctx, r, "release the parts of an image", "value=$1; bad=; "+releaseCommand+"; test -z \"$bad\"", rootValue+marker)
	return err
}

// MarkerLabel is the label that marks an import among a node's processes.
const MarkerLabel = "kubernaut-e2e.load"

const orphanScript = `
found=
for signal in TERM KILL; do
  left=
  for p in /proc/[0-9]*; do
    case "$(tr '\0' ' ' 2>/dev/null < $p/cmdline)" in
    'ctr '*"kubernaut-e2e.load=$1"*) kill -$signal ${p#/proc/} 2>/dev/null; left=1; found=1;;
    esac
  done
  test -n "$left" || break
  sleep 0.3
done
echo "$found"
`

const runningScript = `
for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' 2>/dev/null < $p/cmdline)" in
  'ctr '*"kubernaut-e2e.load=$1"*) echo running; exit 0;;
  esac
done
`

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
