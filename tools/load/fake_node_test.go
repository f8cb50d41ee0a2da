package load_test

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeNode is a containerd that forgets blobs nobody refers to, seen through
// ctr and the scripts of package node.
type fakeNode struct {
	name  string
	arch  string
	free  int64 // KB
	local string

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	snapshots map[digest.Digest]bool
	images    map[string]digest.Digest
	received  int64
	imports   int
	orphans   int
	// hook, if set, runs before an import and may replace its input or fail it.
	hook func(n int, stdin io.Reader) (io.Reader, error)
	// after, if set, gets the import's own error and returns what is reported.
	after func(n int, err error) error
	keeps []byte // the manifest that an OCI archive would carry
	down  error  // every exec fails with it

	unpacks  bool            // it can unpack layers as they come
	kept     []digest.Digest // snapshots that no image holds
	released int
}

func newNode(name string) *fakeNode {
	return &fakeNode{
		name: name, arch: "x86_64", free: 1 << 30, local: "1",
		blobs: map[digest.Digest][]byte{}, snapshots: map[digest.Digest]bool{}, images: map[string]digest.Digest{},
	}
}

func (n *fakeNode) Name() string { return n.name }

func (n *fakeNode) Exec(ctx context.Context, cmd []string, stdin io.Reader, stdout, _ io.Writer) error {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down != nil {
		return down
	}
	line := strings.Join(cmd, " ")
	switch {
	case strings.Contains(line, "# arch"):
		n.look(stdout)
	case strings.Contains(line, "images import"):
		return n.imported(ctx, stdin, strings.Contains(line, "snapshots prepare"))
	case strings.Contains(line, "gc.root"):
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, d := range n.kept {
			delete(n.snapshots, d)
		}
		n.kept, n.released = nil, n.released+1
	case strings.Contains(line, "kill -"):
		n.mu.Lock()
		if n.orphans > 0 {
			fmt.Fprintln(stdout, "1")
		}
		n.orphans = 0
		n.mu.Unlock()
	case strings.Contains(line, "echo running"):
	case strings.Contains(line, "images tag"):
		n.mu.Lock()
		defer n.mu.Unlock()
		n.images[cmd[len(cmd)-1]] = n.images[cmd[len(cmd)-2]]
	case strings.Contains(line, "images rm"):
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, name := range cmd[4:] {
			delete(n.images, name)
		}
	case strings.Contains(line, "config dump"):
		fmt.Fprint(stdout, "version = 3\n[plugins]\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'overlayfs'\n")
	default:
		return fmt.Errorf("fake node: unexpected %s", line)
	}
	return nil
}

func (n *fakeNode) look(w io.Writer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(w, "# arch\n%s\n# snapshotter\noverlayfs\n# local\n%s\n# unpacks\n%d\n# free\n/dev/vda 1 1 %d 1%% /var\n# blobs\n", n.arch, n.local, map[bool]int{true: 1}[n.unpacks], n.free)
	for d := range n.blobs {
		fmt.Fprintln(w, d)
	}
	fmt.Fprintln(w, "# snapshots\nKEY PARENT KIND")
	for d := range n.snapshots {
		fmt.Fprintln(w, d, "Committed")
	}
	fmt.Fprintln(w, "# images\nREF TYPE DIGEST SIZE PLATFORMS LABELS")
	for name, d := range n.images {
		fmt.Fprintln(w, name, ocispec.MediaTypeImageManifest, d, "1 MiB linux/amd64 -")
	}
	for _, d := range slices.Compact(slices.Sorted(maps.Values(n.images))) {
		fmt.Fprintf(w, "# blob %s\n%s\n", d, n.blobs[d])
	}
	fmt.Fprintln(w, "# kubelet\n# end")
}

func (n *fakeNode) imported(ctx context.Context, stdin io.Reader, layers bool) error {
	n.mu.Lock()
	n.imports++
	count := n.imports
	n.mu.Unlock()
	var err error
	if n.hook != nil {
		stdin, err = n.hook(count, stdin)
	}
	if err == nil && layers {
		stdin, err = n.layers(bufio.NewReader(stdin))
	}
	if err == nil {
		err = n.unpack(stdin)
	}
	if n.after != nil {
		err = n.after(count, err)
	}
	return errors.Join(err, ctx.Err())
}

// unpack does what `ctr images import --local` does: it names the image first
// and unpacks then, so that a missing layer leaves a broken name.
func (n *fakeNode) unpack(r io.Reader) error {
	got := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.received += int64(len(data))
		n.mu.Unlock()
		got[hdr.Name] = data
	}
	io.Copy(io.Discard, r) //nolint:errcheck // the end of the input
	n.mu.Lock()
	defer n.mu.Unlock()
	have := maps.Clone(n.blobs)
	for _, data := range got {
		have[digest.FromBytes(data)] = data
	}
	targets, manifests, err := n.index(got, have)
	if err != nil {
		return err
	}
	maps.Copy(n.images, targets)
	for _, m := range manifests {
		var c ocispec.Image
		if err := json.Unmarshal(have[m.Config.Digest], &c); err != nil {
			return err
		}
		n.blobs[digest.FromBytes(encodeAny(m))] = encodeAny(m)
		n.blobs[m.Config.Digest] = have[m.Config.Digest]
		for i, chain := range identity.ChainIDs(slices.Clone(c.RootFS.DiffIDs)) {
			if data, ok := have[m.Layers[i].Digest]; ok {
				n.blobs[m.Layers[i].Digest] = data
			} else if !n.snapshots[chain] {
				return fmt.Errorf("layer %s: not found", m.Layers[i].Digest)
			}
			n.snapshots[chain] = true
		}
	}
	n.kept = nil // the image holds them now
	return nil
}

// layers takes layers as the script of package node does, and returns the
// archive behind them.
func (n *fakeNode) layers(r *bufio.Reader) (io.Reader, error) {
	below := digest.Digest("-")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("the image ended before it was whole: %w", err)
		}
		var size int64
		var chain digest.Digest
		switch {
		case line == "import\n":
			return r, nil
		case read(line, "layer %d %s", &size, &chain):
			n.mu.Lock()
			known := chain == "-" || n.snapshots[chain]
			n.mu.Unlock()
			if !known {
				return nil, fmt.Errorf("parent snapshot %s does not exist", chain)
			}
			below = chain
			if _, err := io.CopyN(io.Discard, r, size); err != nil {
				return nil, err
			}
			n.mu.Lock()
			n.received += size
			n.mu.Unlock()
		case read(line, "commit %s", &chain):
			if chain == below {
				return nil, fmt.Errorf("snapshot %s is its own parent", chain)
			}
			n.mu.Lock()
			n.snapshots[chain] = true
			n.kept = append(n.kept, chain)
			n.mu.Unlock()
		default:
			return nil, fmt.Errorf("unexpected %q", line)
		}
	}
}

func read(line, format string, into ...any) bool {
	n, _ := fmt.Sscanf(line, format, into...)
	return n == len(into)
}

func (n *fakeNode) index(got map[string][]byte, have map[digest.Digest][]byte) (map[string]digest.Digest, []ocispec.Manifest, error) {
	targets := map[string]digest.Digest{}
	var index ocispec.Index
	if text, ok := got["index.json"]; ok {
		if err := json.Unmarshal(text, &index); err != nil {
			return nil, nil, err
		}
		var m ocispec.Manifest
		for _, d := range index.Manifests {
			targets[d.Annotations["io.containerd.image.name"]] = d.Digest
			if err := json.Unmarshal(have[d.Digest], &m); err != nil {
				return nil, nil, err
			}
		}
		return targets, []ocispec.Manifest{m}, nil
	}
	var list []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(got["manifest.json"], &list); err != nil {
		return nil, nil, fmt.Errorf("unrecognized image format: %w", err)
	}
	m := ocispec.Manifest{Config: ocispec.Descriptor{Digest: digest.FromBytes(got[list[0].Config])}}
	for _, l := range list[0].Layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{Digest: digest.FromBytes(got[l])})
	}
	for _, tag := range list[0].RepoTags {
		targets[tag] = digest.FromBytes(encodeAny(m))
		if n.keeps != nil {
			targets[tag] = digest.FromBytes(n.keeps)
			n.blobs[targets[tag]] = n.keeps
		}
	}
	return targets, []ocispec.Manifest{m}, nil
}

func encodeAny(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}
