package bench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Machine says on what was measured.
type Machine struct {
	Host, Engine, Kind, Kubernetes, Containerd string
}

// Markdown is the table of docs/benchmarks.md.
func Markdown(m Machine, rows []Row, when time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Loading images: measurements\n\n")
	fmt.Fprintf(&b, "Made by `mage bench` on %s: %s, %d cores, %s/%s; engine %s, Kind %s, Kubernetes %s, containerd %s.\n",
		when.UTC().Format(time.DateOnly), m.Host, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, m.Engine, m.Kind, m.Kubernetes, m.Containerd)
	fmt.Fprintf(&b, "Medians, both ways alternating in the same run. Ordinary: `podman save -o` and Kind's `load image-archive`.\n\n")
	b.WriteString("| case | runs | ordinary | ours | ratio | goal | met | image data sent | our peak memory | strategy |\n|---|---:|---:|---:|---:|---:|---|---:|---:|---|\n")
	for _, r := range rows {
		met := "no"
		if r.Ratio() <= r.Goal {
			met = "yes"
		}
		fmt.Fprintf(&b, "| %s | %d | %.2f s | %.2f s | %.3f | %.2f | %s | %s | %s | %s |\n", r.Case, len(r.Ours), Median(r.Ordinary).Seconds(), Median(r.Ours).Seconds(),
			r.Ratio(), r.Goal, met, humanize.Bytes(uint64(r.Bytes)), humanize.Bytes(uint64(r.MostMemory)), strings.Join(r.Strategies, ", ")) //nolint:gosec // not negative
	}
	left := slices.DeleteFunc(caseNames(), func(name string) bool {
		return slices.ContainsFunc(rows, func(r Row) bool { return r.Case == name })
	})
	if len(left) > 0 {
		fmt.Fprintf(&b, "\nNot measured in this run: %s.\n", strings.Join(left, "; "))
	}
	for _, r := range rows {
		if len(r.Parts) > 0 {
			fmt.Fprintf(&b, "\nWhat \"%s\" is made of, each part measured by itself, once:\n\n| part | took |\n|---|---:|\n", r.Case)
		}
		for _, p := range r.Parts {
			fmt.Fprintf(&b, "| %s | %.2f s |\n", p.Name, p.Took.Seconds())
		}
	}
	b.WriteString(`
We write nothing beside the nodes. Podman itself spools what it hands out in its temporary folder, whichever way it is asked: an
export whole (ordinary, stream), a push layer by layer (thin).

The floor: nothing missing costs one question to the engine and one to each node. Otherwise every missing byte is read from the
engine's storage, spooled by the engine, hashed, sent, and written once by the node. thin does no more than that: a layer is
unpacked as it arrives. What remains above the floor is the way of the bytes into the node: an exec's input passes the engine's
API service and the container's monitor, each of which copies it. Ordinary (and stream) let containerd write each layer to its
content store, synced, and then read, hash and write it once more to unpack it.
`)
	return b.String()
}
