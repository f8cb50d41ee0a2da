package heal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// nodes is an engine that only lists.
type nodes []string

func (n nodes) Containers(context.Context, ...string) ([]engine.Container, error) {
	var found []engine.Container
	for _, name := range n {
		found = append(found, engine.Container{Name: name + "-control-plane", Labels: map[string]string{cluster.KindLabel: name}})
	}
	return found, nil
}
func (nodes) Started(context.Context, string) (time.Time, error) { return time.Time{}, nil }
func (nodes) StartContainer(context.Context, string) error       { return nil }
func (nodes) KillContainer(context.Context, string, string) error {
	panic("a cluster that must stay is killed")
}

func TestWhatIsNotStaleStays(t *testing.T) {
	dir := t.TempDir()
	record := func(name string, complete bool) {
		raw := fmt.Sprintf(`{"name":%q,"provider":"podman","complete":%v}`, name, complete)
		if err := os.WriteFile(filepath.Join(dir, name+".podman.cluster.json"), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	record("kept", true)
	record("this", false)
	record("being-made", false)
	record("gone", false)
	lock, err := cluster.Acquire(t.Context(), dir, "being-made", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Release() }()
	effect, err := Stale{Engine: nodes{"kept", "this", "being-made"}, Provider: "podman", StateDir: dir, Current: "this"}.Remove(t.Context())
	if effect != "" || err != nil {
		t.Fatalf("effect %q, %v", effect, err)
	}
	for _, name := range []string{"kept", "this", "being-made", "gone"} {
		if _, err := os.Stat(filepath.Join(dir, name+".podman.cluster.json")); err != nil {
			t.Error(err)
		}
	}
}
