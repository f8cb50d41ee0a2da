package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// The images that ../programs/manifests name.
const (
	podNetworkImage  = "localhost/kubernaut-e2e/pod-network:built"
	provisionerImage = "localhost/kubernaut-e2e/local-path-provisioner:built"
	helperImage      = "localhost/kubernaut-e2e/local-path-helper:built"
)

// makeImages is the part "images": the cluster's own images in containerd's
// store, as containerd.tar, laid out as below /var/lib/containerd.
func makeImages(ctx context.Context, dir string, in func(string) string) error {
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("make folder for images: %w", err)
	}
	images, err := clusterImages(ctx, work, in)
	if err != nil {
		return err
	}
	b := imageArchive{dir: work, layers: map[string]layer{}}
	for _, l := range clusterLayers(in) {
		if err := b.addLayer(l.name, l.fill); err != nil {
			return err
		}
	}
	file := filepath.Join(work, "images.tar")
	if err := b.write(file, images); err != nil {
		return err
	}
	store := filepath.Join(work, "store")
	if err := fillStore(ctx, in("containerd"), work, store, file); err != nil {
		return err
	}
	err = writeArchive(filepath.Join(dir, "containerd.tar"), func(a *archive) error {
		return a.tree("var/lib/containerd", store, nil)
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// clusterImages are those that kubeadm asks for, under its names, the sandbox
// of Kind's containerd settings, and those of our two manifests.
func clusterImages(ctx context.Context, work string, in func(string) string) ([]image, error) {
	// The program does kubeadm's work when called by that name.
	kubeadm := filepath.Join(work, "kubeadm")
	if err := os.Symlink(filepath.Join(in("kubernetes"), "kubernetes"), kubeadm); err != nil {
		return nil, fmt.Errorf("name kubeadm: %w", err)
	}
	out, err := output(ctx, command.Command{Name: kubeadm, Args: []string{
		"config", "images", "list", "--kubernetes-version", KubernetesVersion,
	}})
	if err != nil {
		return nil, err
	}
	sandbox, err := sandboxImage(filepath.Join(in("kind"), "files", "etc", "containerd", "config.toml"))
	if err != nil {
		return nil, err
	}
	var images []image
	for _, ref := range append(strings.Fields(out), sandbox) {
		i, err := kubernetesImage(ref)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	return append(images,
		image{ref: podNetworkImage, layers: []string{"base", "nettools", "nodetool"}, entrypoint: "pod-network"},
		image{ref: provisionerImage, layers: []string{"base", "localpath"}, entrypoint: "local-path-provisioner"},
		image{ref: helperImage, layers: []string{"base", "volume"}, entrypoint: "volume-setup"},
	), nil
}

// kubernetesImage says what an image that kubeadm names consists of. The order
// of layers is chosen so that the large one is always second and therefore
// unpacked once.
func kubernetesImage(ref string) (image, error) {
	name := ref[strings.LastIndex(ref, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	i := image{ref: ref, entrypoint: name}
	switch name {
	case "kube-apiserver", "kube-controller-manager", "kube-scheduler":
		i.layers = []string{"base", "kubernetes"}
	case "kube-proxy":
		i.layers = []string{"base", "kubernetes", "nettools"}
	case "coredns", "etcd", "pause":
		i.layers = []string{"base", name}
	default:
		return image{}, fmt.Errorf("image %q: this build does not know what it consists of", ref)
	}
	return i, nil
}

var sandboxSetting = regexp.MustCompile(`(?m)^\s*sandbox_image\s*=\s*"([^"]+)"`)

func sandboxImage(config string) (string, error) {
	data, err := os.ReadFile(config)
	if err != nil {
		return "", fmt.Errorf("find the sandbox image: %w", err)
	}
	m := sandboxSetting.FindSubmatch(data)
	if m == nil {
		return "", fmt.Errorf("find the sandbox image: no sandbox_image in %q", config)
	}
	return string(m[1]), nil
}

type layerRecipe struct {
	name string
	fill func(*archive) error
}

// clusterLayers lists the layers in the images' own terms.
func clusterLayers(in func(string) string) []layerRecipe {
	const bin = "usr/local/bin/"
	program := func(name, file string, links ...string) layerRecipe {
		return layerRecipe{name: name, fill: func(a *archive) error {
			if err := a.file(bin+filepath.Base(file), 0o755, file); err != nil {
				return err
			}
			for _, l := range links {
				if err := a.link(bin+l, filepath.Base(file)); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	return []layerRecipe{
		{name: "base", fill: func(a *archive) error {
			// What programs expect of any system: a folder for temporary
			// files and names for the users they run as.
			if err := a.folder("tmp", 0o1777); err != nil {
				return err
			}
			if err := a.bytes("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n")); err != nil {
				return err
			}
			return a.bytes("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
		}},
		{name: "nettools", fill: func(a *archive) error {
			return a.append(filepath.Join(in("rootfs"), "nettools.tar"), nil)
		}},
		program("kubernetes", filepath.Join(in("kubernetes"), "kubernetes"),
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
		program("etcd", filepath.Join(in("etcd"), "etcd")),
		program("coredns", filepath.Join(in("coredns"), "coredns")),
		program("pause", filepath.Join(in("pause"), "pause")),
		program("localpath", filepath.Join(in("localpath"), "local-path-provisioner")),
		program("nodetool", filepath.Join(in("nodetool"), "nodetool"), "pod-network"),
		program("volume", filepath.Join(in("nodetool"), "nodetool"), "volume-setup", "volume-teardown"),
	}
}
