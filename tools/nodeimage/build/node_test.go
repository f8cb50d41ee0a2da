package build

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/programs"
)

// The versions that are said twice are said alike.
func TestPins(t *testing.T) {
	project, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ module, line string }{
		{"kubernetes", "k8s.io/kubernetes " + KubernetesVersion},
		{"kind", "sigs.k8s.io/kind " + versionOf(string(project), "sigs.k8s.io/kind")},
	} {
		data, err := programs.Read(tt.module + "/module.mod")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), tt.line) {
			t.Errorf("module file of %s does not hold %q", tt.module, tt.line)
		}
	}
}

func versionOf(modFile, module string) string {
	for line := range strings.Lines(modFile) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == module {
			return f[1]
		}
	}
	return "none"
}

func TestManifestsNameOurImages(t *testing.T) {
	for file, images := range map[string][]string{
		"manifests/default-cni.yaml":     {podNetworkImage},
		"manifests/default-storage.yaml": {provisionerImage, helperImage},
	} {
		data, err := programs.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			if !strings.Contains(string(data), i) {
				t.Errorf("%s does not use %s", file, i)
			}
		}
		for doc := range strings.SplitSeq(string(data), "\n---\n") {
			var object map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
				t.Errorf("%s: %v in %s", file, err, doc)
			}
		}
	}
}

func TestKubernetesImage(t *testing.T) {
	for ref, want := range map[string]string{
		"registry.k8s.io/kube-apiserver:v1.34.4":  "base kubernetes",
		"registry.k8s.io/kube-proxy:v1.34.4":      "base kubernetes nettools",
		"registry.k8s.io/coredns/coredns:v1.12.1": "base coredns",
		"registry.k8s.io/pause:3.10":              "base pause",
	} {
		got, err := kubernetesImage(ref)
		if err != nil || strings.Join(got.layers, " ") != want || got.ref != ref {
			t.Errorf("%s: got %+v, %v; want layers %s", ref, got, err, want)
		}
	}
	if _, err := kubernetesImage("registry.k8s.io/new:1"); err == nil {
		t.Error("an image nobody knows was accepted")
	}
}

func TestSandboxImage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	for content, want := range map[string]string{
		"[plugins.x]\n  sandbox_image = \"registry.k8s.io/pause:3.10\"\n": "registry.k8s.io/pause:3.10",
		"[plugins.x]\n": "",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := sandboxImage(file); got != want || (err == nil) != (want != "") {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	for name, want := range map[string]bool{
		"var/cache/apt/archives/x.deb": true, "var/cache/apt": false, "tmp": false, "tmp/x": true,
		"usr/share/doc/jq/copyright": false, "usr/share/doc/jq": false, "usr/share/doc/jq/README": true,
		"etc/machine-id": true, "etc/hosts": false, "usr/bin/jq": false, "devices": false,
	} {
		if needless(name) != want {
			t.Errorf("needless(%q) = %t", name, !want)
		}
	}
	for name, want := range map[string]bool{
		"lib/systemd/system/multi-user.target.wants/getty.target":                    true,
		"usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service": true,
		"usr/lib/systemd/system/sockets.target.wants/systemd-udevd-kernel.socket":    true,
		"usr/lib/systemd/system/sockets.target.wants/dbus.socket":                    false,
		"etc/systemd/system/getty.target.wants/getty@tty1.service":                   true,
		"usr/lib/systemd/system/dbus.service":                                        false,
	} {
		if unwantedUnit(name) != want {
			t.Errorf("unwantedUnit(%q) = %t", name, !want)
		}
	}
}

func TestEdits(t *testing.T) {
	unit := "[Service]\nExecStart=/usr/local/bin/containerd\nLimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n"
	got, err := edits["etc/systemd/system/containerd.service"]([]byte(unit))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"LimitNOFILE", "OOMScoreAdjust"} {
		if strings.Contains(string(got), gone) {
			t.Errorf("%s is still in %s", gone, got)
		}
	}
	if !strings.Contains(string(got), "TasksMax") {
		t.Errorf("more than the limits is gone from %s", got)
	}
	for name, edit := range edits {
		if _, err := edit([]byte("something else")); err == nil {
			t.Errorf("%s: content that cannot be edited was accepted", name)
		}
	}
}

func TestEditSpec(t *testing.T) {
	got, err := editSpec([]byte(`{"process":{"rlimits":[1],"cwd":"/"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Process map[string]any
		Hooks   struct{ CreateContainer []struct{ Path string } }
	}
	if err := json.Unmarshal(got, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Process["rlimits"] != nil || spec.Process["cwd"] != "/" || len(spec.Hooks.CreateContainer) != 1 {
		t.Errorf("got %s", got)
	}
}

func TestTree(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"a", "skipped/deep"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(root, "a", "one"), []byte("content"), 0o640),
		os.Link(filepath.Join(root, "a", "one"), filepath.Join(root, "a", "two")),
		os.Symlink("one", filepath.Join(root, "a", "three")),
	)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	err = writeArchive(file, func(a *archive) error {
		return a.tree("below/here", root, func(name string) bool { return name == "skipped" })
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]byte{}
	for name, h := range entries(t, file) {
		got[name] = h.Typeflag
	}
	want := map[string]byte{
		"below/": tar.TypeDir, "below/here/": tar.TypeDir, "below/here/a/": tar.TypeDir,
		"below/here/a/one": tar.TypeReg, "below/here/a/two": tar.TypeLink, "below/here/a/three": tar.TypeSymlink,
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for name, kind := range want {
		if got[name] != kind {
			t.Errorf("%s: got type %q, want %q", name, got[name], kind)
		}
	}
}

func TestImagesShareLayers(t *testing.T) {
	dir := t.TempDir()
	b := imageArchive{dir: dir, layers: map[string]layer{}}
	for _, name := range []string{"low", "high"} {
		if err := b.addLayer(name, func(a *archive) error { return a.bytes("f/"+name, 0o644, []byte(name)) }); err != nil {
			t.Fatal(err)
		}
	}
	images := []image{
		{ref: "x/a:1", layers: []string{"low"}, entrypoint: "a"},
		{ref: "x/b:1", layers: []string{"low", "high"}, entrypoint: "b"},
	}
	var files [2][]byte
	for i := range files {
		file := filepath.Join(dir, "images.tar")
		if err := b.write(file, images); err != nil {
			t.Fatal(err)
		}
		var err error
		if files[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same images gave different archives")
	}
	layers := 0
	for name := range entries(t, filepath.Join(dir, "images.tar")) {
		if strings.HasSuffix(name, ".tar") {
			layers++
		}
	}
	if layers != 2 {
		t.Errorf("got %d layers, want each of the two once", layers)
	}
	if err := b.write(filepath.Join(dir, "bad.tar"), []image{{ref: "x", layers: []string{"none"}}}); err == nil {
		t.Error("an image of an unknown layer was accepted")
	}
}

func entries(t *testing.T, file string) map[string]*tar.Header {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]*tar.Header{}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name] != nil {
			t.Errorf("%s is in the archive twice", h.Name)
		}
		out[h.Name] = h
	}
}
