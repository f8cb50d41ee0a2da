package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/programs"
)

// makeNode is the last part: the node's whole root filesystem, node.tar.
func makeNode(ctx context.Context, dir string, in func(string) string) error {
	spec, err := runtimeSpec(ctx, in("containerd"))
	if err != nil {
		return err
	}
	return writeArchive(filepath.Join(dir, "node.tar"), func(a *archive) error {
		if err := a.append(filepath.Join(in("rootfs"), "rootfs.tar"), unwantedUnit); err != nil {
			return err
		}
		if err := kindFiles(a, filepath.Join(in("kind"), "files")); err != nil {
			return err
		}
		for _, f := range []struct{ to, part, file string }{
			{"usr/bin/kubernetes", "kubernetes", "kubernetes"},
			{"usr/local/bin/containerd", "containerd", "containerd"},
			{"usr/local/bin/containerd-shim-runc-v2", "containerd", "containerd-shim-runc-v2"},
			{"usr/local/bin/ctr", "containerd", "ctr"},
			{"usr/local/bin/crictl", "crictl", "crictl"},
		} {
			if err := a.file(f.to, 0o755, filepath.Join(in(f.part), f.file)); err != nil {
				return err
			}
		}
		if err := ownFiles(a, spec); err != nil {
			return err
		}
		return a.append(filepath.Join(in("images"), "containerd.tar"), nil)
	})
}

// unwanted matches what Kind's Dockerfile removes: units that make no sense in
// a container or would act on the host's kernel.
var unwanted = regexp.MustCompile(`^(` + strings.Join([]string{
	`(usr/)?lib/systemd/system/sysinit\.target\.wants/systemd-tmpfiles-setup\.service`,
	`(usr/)?lib/systemd/system/(multi-user|local-fs|basic)\.target\.wants/.+`,
	`etc/systemd/system/[^/]+\.wants/.+`,
	`(usr/)?lib/systemd/system/sockets\.target\.wants/.*(udev|initctl).*`,
}, "|") + `)$`)

func unwantedUnit(name string) bool { return unwanted.MatchString(name) }

// kindFiles adds the base files of the kind module.
func kindFiles(a *archive, root string) error {
	return filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read Kind's %q: %w", name, err)
		}
		mode := int64(0o644)
		if d := path.Dir(name); d == "usr/local/bin" || d == "kind/bin" {
			mode = 0o755
		}
		if edit, ok := edits[name]; ok {
			if data, err = edit(data); err != nil {
				return fmt.Errorf("edit Kind's %q: %w", name, err)
			}
		}
		return a.bytes(name, mode, data)
	})
}

// edits make Kind's files work on hosts that may not raise limits or lower OOM
// scores (no CAP_SYS_RESOURCE); other hosts lose nothing that tests notice.
var edits = map[string]func([]byte) ([]byte, error){
	"etc/containerd/config.toml": func(data []byte) ([]byte, error) {
		return replace(data, `restrict_oom_score_adj = false`, `restrict_oom_score_adj = true`)
	},
	"etc/systemd/system/containerd.service": func(data []byte) ([]byte, error) {
		limits := regexp.MustCompile(`(?m)^(Limit[A-Z]+|OOMScoreAdjust)=.*\n`)
		if !limits.Match(data) {
			return nil, fmt.Errorf("no limits found")
		}
		// The highest limit the host allows, instead of none.
		return replace(limits.ReplaceAll(data, nil), "ExecStart=/usr/local/bin/containerd\n",
			"ExecStart=/bin/sh -c 'ulimit -n $$(ulimit -Hn); exec /usr/local/bin/containerd'\n")
	},
}

func replace(data []byte, old, with string) ([]byte, error) {
	if !bytes.Contains(data, []byte(old)) {
		return nil, fmt.Errorf("%q not found", old)
	}
	return bytes.Replace(data, []byte(old), []byte(with), 1), nil
}

// ownFiles adds what Kind's build writes into its image.
func ownFiles(a *archive, spec []byte) error {
	links := map[string]string{"etc/systemd/system/systemd-binfmt.service": "/dev/null"}
	for _, p := range []string{"kubeadm", "kubelet", "kubectl"} {
		links["usr/bin/"+p] = "kubernetes"
	}
	for _, p := range []string{"host-local", "loopback", "portmap", "ptp"} {
		links["opt/cni/bin/"+p] = "/usr/lib/cni/" + p
	}
	for _, u := range []string{"kubelet", "containerd", "undo-mount-hacks"} {
		unit := u + ".service"
		links["etc/systemd/system/multi-user.target.wants/"+unit] = "/etc/systemd/system/" + unit
	}
	for _, name := range sorted(links) {
		if err := a.link(name, links[name]); err != nil {
			return err
		}
	}
	if err := a.folder("etc/kubernetes/manifests", 0o755); err != nil {
		return err
	}
	files := map[string][]byte{
		"kind/version":                             []byte(KubernetesVersion),
		"etc/containerd/cri-base.json":             spec,
		"etc/systemd/journald.conf.d/10-kmsg.conf": []byte("[Journal]\nReadKMsg=no\n"),
	}
	for _, m := range []string{"default-cni.yaml", "default-storage.yaml"} {
		data, err := programs.Read("manifests/" + m)
		if err != nil {
			return fmt.Errorf("read manifest %q: %w", m, err)
		}
		files["kind/manifests/"+m] = data
	}
	for _, name := range sorted(files) {
		if err := a.bytes(name, 0o644, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// editSpec removes the limits from a container specification and adds Kind's
// hook, as Kind's Dockerfile does.
func editSpec(data []byte) ([]byte, error) {
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("read containerd's default specification: %w", err)
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read containerd's default specification: it has no process")
	}
	delete(process, "rlimits")
	spec["hooks"] = map[string]any{
		"createContainer": []any{map[string]any{"path": "/kind/bin/mount-product-files.sh"}},
	}
	return json.Marshal(spec)
}

// sorted returns the keys of m in order, so that equal content gives equal
// archives.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
