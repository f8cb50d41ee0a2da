package teardown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
)

// tempPattern is the beginning of every temporary file's name of this project.
const tempPattern = "kubernaut-e2e-*"

// leftovers removes kubeconfigs of clusters that are gone. ~/.kube/config is
// none: it does not match the pattern and does not carry the mark.
func (w *work) leftovers(context.Context) {
	known := map[string]bool{}
	for _, r := range cluster.Records(w.StateDir) { // still there: could not be removed
		known[r.Kubeconfig] = true
	}
	files, _ := filepath.Glob(filepath.Join(w.KubeDir, "*-config"))
	for _, f := range files {
		if known[f] || !cluster.IsOurs(f) {
			continue
		}
		w.remove("kubeconfig "+f, f)
	}
}

// files removes temporary files, and paths that the caller named.
func (w *work) files() {
	dir := w.TempDir
	if dir == "" {
		dir = os.TempDir()
	}
	found, _ := filepath.Glob(filepath.Join(dir, tempPattern))
	for _, f := range found {
		if slices.Contains(w.KeepTemp, f) || !ownedByUs(f) {
			continue
		}
		w.remove("temporary "+f, f)
	}
	for _, f := range w.Paths {
		w.remove(f, f)
	}
}

// remove deletes a file or folder, unless something is mounted in it: deleting
// would then reach files that are not this project's.
func (w *work) remove(what, path string) {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return
	}
	if at := mountedBelow(path); at != "" {
		w.keep(what, at+" is mounted; umount it, then mage teardown again")
		return
	}
	if err := os.RemoveAll(path); err != nil {
		w.fail(fmt.Errorf("remove %s: %w", what, err))
		return
	}
	w.removed("%s", what)
}

func ownedByUs(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// mountedBelow names a mount point at or below path. Where the system has no
// list of mounts in /proc (macOS), this project mounts nothing either.
func mountedBelow(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line) // the fifth is the mount point: proc(5)
		if len(fields) < 5 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[4])
		if at == real || strings.HasPrefix(at, real+string(filepath.Separator)) {
			return at
		}
	}
	return ""
}
