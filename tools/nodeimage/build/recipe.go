package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/programs"
)

// program is a part compiled from Go modules.
type program struct {
	name     string
	packages []string // of its module; empty: the sources in its folder
	tags     string
	ldflags  string
	// output names the file; empty where several packages name their own
	output string
}

const versionPackage = "k8s.io/component-base/version"

var goPrograms = []program{
	{name: "kubernetes", output: "kubernetes", ldflags: kubernetesFlags()},
	{name: "coredns", output: "coredns"},
	{name: "containerd", tags: "no_aufs no_zfs no_btrfs no_devmapper", packages: []string{
		"github.com/containerd/containerd/v2/cmd/containerd",
		"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"github.com/containerd/containerd/v2/cmd/ctr",
	}},
	{name: "crictl", packages: []string{"sigs.k8s.io/cri-tools/cmd/crictl"}, output: "crictl"},
	{name: "localpath", packages: []string{"github.com/rancher/local-path-provisioner"}, output: "local-path-provisioner"},
	{name: "etcd", packages: []string{"go.etcd.io/etcd/server/v3"}, output: "etcd"},
	{name: "nodetool", output: "nodetool"},
	{name: "pause", output: "pause"},
}

// kubernetesFlags tell kubeadm and the API server what they are: without them
// they take themselves for an unreleased version.
func kubernetesFlags() string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return fmt.Sprintf("-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		versionPackage, KubernetesVersion, major, minor)
}

// recipes returns the last part, the node's root filesystem, with all it needs.
func recipes(o Options) (*part, error) {
	parts := map[string]*part{}
	for _, p := range goPrograms {
		built, err := p.part()
		if err != nil {
			return nil, err
		}
		parts[p.name] = built
	}
	parts["rootfs"] = rootfsPart(o)
	kind, err := kindPart()
	if err != nil {
		return nil, err
	}
	parts["kind"] = kind

	manifests, err := programs.Hash("manifests")
	if err != nil {
		return nil, err
	}
	needs := func(names ...string) []*part {
		var out []*part
		for _, n := range names {
			out = append(out, parts[n])
		}
		return out
	}
	// The longest first: what runs beside it fills the rest of its time.
	parts["images"] = newPart("images", needs("kubernetes", "coredns", "containerd", "localpath", "etcd", "nodetool", "pause", "rootfs", "kind"))
	parts["images"].make = makeImages
	node := newPart("node", needs("images", "rootfs", "kind", "kubernetes", "containerd", "crictl"), manifests)
	node.make = makeNode
	return node, nil
}

func (p program) part() (*part, error) {
	source, err := programs.Hash(p.name)
	if err != nil {
		return nil, err
	}
	inputs := []string{source, runtime.GOARCH, p.tags, p.ldflags, p.output, strings.Join(p.packages, " ")}
	built := newPart(p.name, nil, inputs...)
	built.heavy = true
	built.make = func(ctx context.Context, dir string, _ func(string) string) error { return p.build(ctx, dir) }
	return built, nil
}

// build compiles into dir, in a folder of its own for the sources: the module
// file in it pins every dependency, whatever module this process belongs to.
func (p program) build(ctx context.Context, dir string) (err error) {
	work, err := os.MkdirTemp("", "kubernaut-e2e-"+p.name+"-")
	if err != nil {
		return fmt.Errorf("make a folder for the sources: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	sources, err := programs.Write(p.name, work)
	if err != nil {
		return err
	}
	// Files by name, not the package: their build constraint, which keeps them
	// out of this project's own module, does not count then.
	what := sources
	if len(p.packages) > 0 {
		what = p.packages
	}
	output := dir + string(filepath.Separator)
	if p.output != "" {
		output = filepath.Join(dir, p.output)
	}
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + p.ldflags), "-o", output}
	if p.tags != "" {
		args = append(args, "-tags", p.tags)
	}
	return execute(ctx, command.Command{Dir: work, Env: goEnv(), Name: "go", Args: append(args, what...)})
}

// goEnv keeps the caller's proxy, cache and toolchain settings, and drops what
// would make Go look at another module or another platform than the node's.
func goEnv() []string {
	return []string{"GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + runtime.GOARCH}
}

// kindPart is the base files of the kind module, copied out of the module
// cache because `go clean -modcache` may empty that at any time.
func kindPart() (*part, error) {
	source, err := programs.Hash("kind")
	if err != nil {
		return nil, err
	}
	p := newPart("kind", nil, source)
	p.make = func(ctx context.Context, dir string, _ func(string) string) (err error) {
		work, err := os.MkdirTemp("", "kubernaut-e2e-kind-")
		if err != nil {
			return fmt.Errorf("make a folder for the module file: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
		if _, err := programs.Write("kind", work); err != nil {
			return err
		}
		// In that folder's module, so that its go.sum verifies the download.
		out, err := output(ctx, command.Command{
			Dir: work, Env: goEnv(), Name: "go", Args: []string{"mod", "download", "-json", "sigs.k8s.io/kind"},
		})
		if err != nil {
			return err
		}
		var module struct{ Dir string }
		if err := json.Unmarshal([]byte(out), &module); err != nil {
			return fmt.Errorf("find the kind module in %q: %w", out, err)
		}
		return os.CopyFS(filepath.Join(dir, "files"), os.DirFS(filepath.Join(module.Dir, "images", "base", "files")))
	}
	return p, nil
}
