package load_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// entries is a layer of them; those of regular files hold their own name.
func entries(t *testing.T, all ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, hdr := range all {
		if hdr.Typeflag == 0 {
			hdr.Typeflag = tar.TypeReg
			if !strings.Contains(hdr.Name, ".wh.") {
				hdr.Size = int64(len(hdr.Name))
			}
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o640
		}
		if hdr.ModTime.IsZero() {
			hdr.ModTime = time.Unix(1_600_000_000+int64(len(hdr.Name)), 0)
		}
		if err := tw.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if hdr.Size > 0 {
			if _, err := tw.Write([]byte(hdr.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// strange is an image with all that a layer may hold and say about those below.
func strange(t *testing.T, name string) *fakeImage {
	t.Helper()
	dir := func(name string, mode int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: 7, Gid: 8}
	}
	capability := map[string]string{
		// CAP_NET_BIND_SERVICE, permitted and effective, as capabilities(7) stores it.
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}
	long := strings.Repeat("long", 40)
	base := entries(t,
		dir("./", 0o751), dir("layer0/", 0o755), dir("tmp/", 0o1777), dir("deep/", 0o711), dir("deep/er/", 0o2750), dir("gone/", 0o700), dir("hidden/", 0o755),
		dir("hidden/sub/", 0o755), dir("becomes-file/", 0o755),
		tar.Header{Name: "layer0/setuid", Mode: 0o4755, Uid: 1000, Gid: 1001},
		tar.Header{Name: "layer0/" + long}, tar.Header{Name: "layer0/with space and ünïcode"},
		tar.Header{Name: "layer0/capable", Mode: 0o755, PAXRecords: capability},
		tar.Header{Name: "layer0/hard", Typeflag: tar.TypeLink, Linkname: "layer0/setuid", Mode: 0o4755, Uid: 1000, Gid: 1001, ModTime: time.Unix(1_600_000_013, 0)},
		tar.Header{Name: "layer0/soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/../layer0/capable"},
		tar.Header{Name: "layer0/device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "layer0/pipe", Typeflag: tar.TypeFifo},
		tar.Header{Name: "gone/file"}, tar.Header{Name: "hidden/file"}, tar.Header{Name: "hidden/sub/file"}, tar.Header{Name: "becomes-file/file"},
		tar.Header{Name: "becomes-dir"}, tar.Header{Name: "stays"}, tar.Header{Name: "goes"}, tar.Header{Name: "deep/er/goes"},
	)
	hides := entries(t,
		tar.Header{Name: ".wh.gone"}, tar.Header{Name: ".wh.goes"}, dir("hidden/", 0o755), tar.Header{Name: "hidden/.wh..wh..opq"},
		dir("hidden/sub/", 0o710), tar.Header{Name: "hidden/sub/new"}, tar.Header{Name: "becomes-file"}, dir("becomes-dir/", 0o755),
		tar.Header{Name: "becomes-dir/file"}, tar.Header{Name: "deep/er/.wh.goes"},
	)
	undescribed := entries(t, tar.Header{Name: "tmp/file"}, tar.Header{Name: "deep/er/file"}, tar.Header{Name: "new/folder/file"})
	tiny := entries(t, tar.Header{Name: "tiny-a"})
	other := entries(t, tar.Header{Name: "tiny-b"}) // of the same size
	large := entries(t, tar.Header{Name: "large"})
	large = append(large, make([]byte, 1<<20)...) // zeroes behind the end, as padding
	return newImage(t, name, base, hides, tiny, undescribed, other, tiny, large)
}

// Unpacked as they come, layers make the file system that containerd's own
// import makes of them: names, kinds, modes, owners, times, links, attributes,
// and nothing of what a layer hides.
func TestUnpackedAsContainerdDoes(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		c := w.bare(t, 2, storeSize)
		// Podman pushes a layer as it is only if an image built here has it.
		ref, base := c.ref("strange"), c.ref("base")
		img := strange(t, base)
		var archive bytes.Buffer
		if err := img.save(&archive); err != nil {
			t.Fatal(err)
		}
		if _, err := c.engine.Load(t.Context(), &archive); err != nil {
			t.Fatal(err)
		}
		c.removed(base)
		c.onTop(base, ref)
		var trees []string
		for i, strategy := range []string{load.Archive, load.Thin} {
			one := c.on(t)
			one.nodes = c.nodes[i : i+1]
			req := one.request(w.direct, ref)
			req.Strategy = strategy
			if _, err := load.Load(t.Context(), req); err != nil {
				t.Fatalf("%s: %v", strategy, err)
			}
			one.confirm(ref)
			trees = append(trees, one.tree(ref))
		}
		if packed := c.run(c.nodes[1], "ctr", "-n", "k8s.io", "content", "ls", "-q"); strings.Contains(packed, digest.FromBytes(img.layers[0]).String()) {
			t.Error("the second node was not unpacked into directly: its content store has a layer")
		}
		c.idle()
		if trees[0] != trees[1] || !strings.Contains(trees[0], "setuid") {
			t.Errorf("containerd unpacked\n%s\nwe unpacked\n%s", trees[0], trees[1])
		}
		// What no image needs any more goes with the image.
		c.forget(ref)
		if left := strings.Fields(c.run(c.nodes[1], "sh", "-c", "sleep 1; ctr -n k8s.io snapshots ls | tail -n +2")); len(left) > 0 {
			t.Errorf("snapshots without an image: %v", left)
		}
	})
}

// onTop makes an image that adds no layer to its base.
func (c *cluster) onTop(base, ref string) {
	c.t.Helper()
	dir := c.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+base+"\nLABEL made=here\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.removed(ref)
	if _, err := c.engine.Build(c.t.Context(), engine.BuildRequest{Context: dir, Tag: ref}, nil); err != nil {
		c.t.Fatal(err)
	}
}

// tree is what a container would see of an image, but for the sizes of folders
// and the times of those that no layer describes.
func (c *cluster) tree(ref string) string {
	c.t.Helper()
	return c.run(c.nodes[0], "sh", "-c", `d=$(mktemp -d) && ctr -n k8s.io images mount "$1" $d >/dev/null && cd $d &&
		find . -printf '%p %y %m %U:%G %s %n %Ts %l\n' | sed -E 's/^(.* d [0-7]+ [^ ]+) [0-9]+ [0-9]+/\1/; s/ 1[7-9][0-9]{8} $//' | sort &&
		find . -type f -exec sha256sum {} + | sort -k2 && getcap -r . 2>/dev/null; stat -c '%n %t:%T' layer0/device; cd / && ctr -n k8s.io images unmount --rm $d >/dev/null`, "sh", ref)
}
