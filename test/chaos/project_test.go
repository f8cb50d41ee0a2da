package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

const (
	root = "../.."
	// clusterName is of all cells: each finds the one of the cell before it.
	clusterName = "chaos-e2e"
	nodeName    = clusterName + "-control-plane"
	// targets is the program of the Mage targets, as make runs it: `go tool` and
	// Mage hide the exit code of a run that SIGTERM ended.
	targets = "bin/targets"
)

// project is a copy of this project with ports of its own, so that code can be
// broken in it and a cluster of the real one can stand beside its cluster.
type project struct{ dir string }

// newProject copies the project to a folder that is always the same: Go's
// cache then knows its packages.
func newProject(t *testing.T) project {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "chaos-of-kubernaut")
	lock := flock.New(dir + ".lock")
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatalf("another chaos run uses %s: %v", dir, err)
	}
	t.Cleanup(func() { _ = lock.Unlock() })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Makefile", "go.mod", "go.sum", "magefile.go", "magefiles", "tools", "test"} {
		from := filepath.Join(root, part)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(filepath.Join(dir, part), os.DirFS(from))
		} else {
			var raw []byte
			if raw, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(filepath.Join(dir, part), raw, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := project{dir}
	for from, to := range map[string]int{"8084": 28084, "9184": 29184, "8184": 28184, "8088": 28088} {
		p.replace(t, "test/infrastructure/aianalysis.yaml", "hostPort: "+from+"\n", fmt.Sprintf("hostPort: %d\n", to))
		p.replace(t, "test/e2e/aianalysis/suite.yaml", "127.0.0.1:"+from, fmt.Sprintf("127.0.0.1:%d", to))
	}
	compile := exec.Command("go", "tool", "mage", "-compile", filepath.Join(dir, targets))
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", compile.Args, err, out)
	}
	return p
}

// replace changes a file of the copy for the length of the test.
func (p project) replace(t *testing.T, file, from, to string) {
	t.Helper()
	path := filepath.Join(p.dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), from) {
		t.Fatalf("%s has no %q", file, from)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), from, to)), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Error(err)
		}
	})
}
