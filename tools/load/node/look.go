package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inventory is what a node's image store held when it was asked.
type Inventory struct {
	Arch        string                   // as Go names it, e.g. "amd64"
	Snapshotter string                   // that the kubelet's images are unpacked with
	Local       bool                     // ctr can import without the transfer service (containerd ≥ 2)
	Unpacks     bool                     // layers can be unpacked there without containerd's import
	Free        int64                    // bytes free where containerd keeps its content; -1 if unknown
	Blobs       map[digest.Digest]bool   // whole blobs in the content store
	Snapshots   map[digest.Digest]bool   // chain IDs of unpacked layers
	Images      map[string]digest.Digest // the names asked for → what they point to
	Kubelet     map[string]digest.Digest // name → config digest, as the kubelet sees it; nil if it cannot be asked

	texts map[digest.Digest][]byte // manifests and indexes of Images
}

// Image identifies an image independently of how it was packed.
type Image struct {
	// ID is the digest of the configuration. Docker's containerd image store
	// names images by the digest of their manifest or index instead.
	ID      digest.Digest
	DiffIDs []digest.Digest // of the layers, uncompressed, bottom first
}

// Problem is why an image that should be on a node is not proven to be.
type Problem struct {
	Node, Name, Reason string
	Dangling           bool // the name is there but does not lead to a whole image
}

func (p *Problem) Error() string {
	return fmt.Sprintf("node %s: image %s: %s", p.Node, p.Name, p.Reason)
}

// The answer is sections that start with a line "# name". ctr warns on
// standard error about images whose layers were discarded: that is no failure.
const lookScript = `
echo '# arch'; uname -m
sn=$(containerd config dump 2>/dev/null | awk '
  /cri\.v1\.images.\]$|grpc\.v1\.cri.\.containerd\]$/ { on = 1; next }
  on && $1 == "snapshotter" { print substr($3, 2, length($3) - 2); exit }')
sn=${sn:-overlayfs}
echo '# snapshotter'; echo "$sn"
echo '# local'; ctr images import --help 2>/dev/null | grep -c -e --local
read -r inside outside all </proc/self/uid_map
echo '# unpacks'; test "$sn" = overlayfs && test "$inside $outside" = '0 0' && tar --version 2>/dev/null | grep -c 'GNU tar'
echo '# free'; d=/var/lib/containerd; test -d $d || d=/var; df -Pk $d | tail -n 1
echo '# blobs'; ctr -n k8s.io content ls -q || exit 1
echo '# snapshots'; ctr -n k8s.io snapshots --snapshotter "$sn" ls || exit 1
echo '# images'; list=$(ctr -n k8s.io images ls "$@" 2>/dev/null) || exit 1; echo "$list"
get() { echo "# blob $1"; ctr -n k8s.io content get "$1" 2>/dev/null; echo; }
echo "$list" | awk 'NR > 1 { print $2, $3 }' | sort -u | while read t d; do
  get "$d"
  case "$t" in *index*|*list*)
    for m in $(ctr -n k8s.io content get "$d" 2>/dev/null | grep -o 'sha256:[0-9a-f]\{64\}' | sort -u); do get "$m"; done;;
  esac
done
echo '# kubelet'; crictl --timeout 5s images -o json 2>/dev/null
echo '# end'
`

// Look asks the node afresh about its store and the given image names.
func Look(ctx context.Context, r Runner, names ...string) (*Inventory, error) {
	filters := make([]string, 0, len(names))
	for _, n := range names {
		filters = append(filters, "name=="+strconv.Quote(n))
	}
	out, err := script(ctx, r, "list images, blobs and snapshots", lookScript, filters...)
	if err != nil {
		return nil, err
	}
	inv, err := parse(out)
	if err != nil {
		return nil, fmt.Errorf("node %s: list images, blobs and snapshots: %w", r.Name(), err)
	}
	return inv, nil
}

func parse(out string) (*Inventory, error) {
	inv := &Inventory{
		Free:  -1,
		Blobs: map[digest.Digest]bool{}, Snapshots: map[digest.Digest]bool{},
		Images: map[string]digest.Digest{}, texts: map[digest.Digest][]byte{},
	}
	section, ended := "", false
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "# "); ok {
			section, ended = name, name == "end"
			continue
		}
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch name, of, _ := strings.Cut(section, " "); name {
		case "arch":
			inv.Arch = goArch(f[0])
		case "snapshotter":
			inv.Snapshotter = f[0]
		case "local":
			inv.Local = f[0] != "0"
		case "unpacks":
			inv.Unpacks = f[0] != "0"
		case "free":
			if len(f) >= 4 {
				kb, err := strconv.ParseInt(f[3], 10, 64)
				if err != nil {
					return nil, fmt.Errorf("free space %q: %w", line, err)
				}
				inv.Free = kb << 10
			}
		case "blobs":
			inv.Blobs[digest.Digest(f[0])] = true
		case "snapshots":
			if f[len(f)-1] == "Committed" {
				inv.Snapshots[digest.Digest(f[0])] = true
			}
		case "images":
			if len(f) >= 3 && strings.HasPrefix(f[2], "sha256:") {
				inv.Images[f[0]] = digest.Digest(f[2])
			}
		case "blob":
			d := digest.Digest(of)
			inv.texts[d] = append(inv.texts[d], line+"\n"...)
		case "kubelet":
			inv.texts["kubelet"] = append(inv.texts["kubelet"], line...)
		}
	}
	if !ended {
		return nil, errors.New("the answer is cut short")
	}
	inv.Kubelet = kubeletImages(inv.texts["kubelet"])
	return inv, nil
}

func kubeletImages(text []byte) map[string]digest.Digest {
	var list struct {
		Images []struct {
			ID          string   `json:"id"`
			RepoTags    []string `json:"repoTags"`
			RepoDigests []string `json:"repoDigests"`
		} `json:"images"`
	}
	if len(text) == 0 || json.Unmarshal(text, &list) != nil {
		return nil
	}
	byName := map[string]digest.Digest{}
	for _, img := range list.Images {
		for _, n := range slices.Concat(img.RepoTags, img.RepoDigests) {
			byName[n] = digest.Digest(img.ID)
		}
	}
	return byName
}

// Prove returns nil if name leads to the whole, unpacked image. Otherwise the
// error is a *Problem.
func (inv *Inventory) Prove(node, name string, want Image) error {
	fail := func(dangling bool, format string, args ...any) error {
		return &Problem{Node: node, Name: name, Dangling: dangling, Reason: fmt.Sprintf(format, args...)}
	}
	target, ok := inv.Images[name]
	if !ok {
		return fail(false, "not there")
	}
	config, err := inv.config(target)
	if err != nil {
		return fail(true, "%v", err)
	}
	if config != want.ID && target != want.ID {
		return fail(false, "is another image, %s instead of %s", config, want.ID)
	}
	if !inv.Blobs[config] {
		return fail(true, "its configuration %s is not in the content store", config)
	}
	for i, chain := range ChainIDs(want.DiffIDs) {
		if !inv.Snapshots[chain] {
			return fail(true, "layer %d of %d (%s) is not unpacked", i+1, len(want.DiffIDs), want.DiffIDs[i])
		}
	}
	if inv.Kubelet != nil && !strings.HasPrefix(name, "sha256:") {
		if seen, ok := inv.Kubelet[name]; !ok || seen != config {
			return fail(false, "containerd has it but its CRI service does not show it to the kubelet yet")
		}
	}
	return nil
}

// config follows a manifest, or an index's manifest for this node, to the
// digest of the configuration.
func (inv *Inventory) config(target digest.Digest) (digest.Digest, error) {
	var m struct {
		Config    ocispec.Descriptor   `json:"config"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	text := inv.texts[target]
	if len(strings.TrimSpace(string(text))) == 0 {
		return "", fmt.Errorf("its manifest %s cannot be read", target)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("its manifest %s: %w", target, err)
	}
	if m.Config.Digest != "" {
		return m.Config.Digest, nil
	}
	for _, d := range m.Manifests {
		if d.Platform == nil || d.Platform.Architecture == inv.Arch {
			if _, ok := inv.texts[d.Digest]; ok {
				return inv.config(d.Digest)
			}
		}
	}
	return "", fmt.Errorf("it points to an index (%s), not to one platform's manifest", target)
}

// ChainIDs returns the snapshot keys of the layers, bottom first.
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	return identity.ChainIDs(slices.Clone(diffIDs))
}

func goArch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armv7l":
		return "arm"
	}
	return machine
}
