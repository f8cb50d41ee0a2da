package heal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// store is an engine's image store; each image it gives up frees a gigabyte.
type store struct {
	images []engine.Image
	inUse  string
	free   uint64
	gone   []string
}

func (s *store) Info(context.Context) (engine.Info, error) { return engine.Info{DiskFree: s.free}, nil }

func (s *store) Images(context.Context, ...string) ([]engine.Image, error) { return s.images, nil }

func (s *store) RemoveImage(_ context.Context, ref string, force bool) error {
	if ref == s.inUse && !force {
		return errors.New("image is in use by a container")
	}
	s.gone = append(s.gone, ref)
	s.free += 1 << 30
	return nil
}

func TestSpaceIsFreedFromOursOnly(t *testing.T) {
	now := time.Now()
	image := func(tag string, age time.Duration) engine.Image {
		return engine.Image{Tags: []string{tag}, Created: now.Add(-age)}
	}
	e := &store{free: 1 << 20, inUse: "localhost/kubernaut-e2e/node:used", images: []engine.Image{
		image("localhost/kubernaut-hapi:old", time.Hour), image("localhost/kubernaut-hapi:this", time.Hour),
		image("localhost/kubernaut-controller:beside", -time.Minute), image("localhost/kubernaut-e2e/node:used", time.Hour),
		image("localhost/somebody:derived", time.Hour),
	}}
	state := t.TempDir()
	for i := range 5 {
		dir := filepath.Join(state, "suite", fmt.Sprint("run-", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep := filepath.Join(state, "build", "hapi", "context")
	if err := os.MkdirAll(keep, 0o755); err != nil {
		t.Fatal(err)
	}
	effect, err := Space{Store: e, Keep: []string{"localhost/kubernaut-hapi:this"}, Since: now, State: state, KeepRuns: 2}.Free(t.Context())
	if err != nil || !strings.Contains(effect, "1.1 GB gained") || !strings.Contains(effect, "3 run folders") {
		t.Errorf("effect %q, %v", effect, err)
	}
	if !slices.Equal(e.gone, []string{"localhost/kubernaut-hapi:old"}) {
		t.Errorf("removed %q", e.gone)
	}
	left, _ := filepath.Glob(filepath.Join(state, "suite", "*"))
	if len(left) != 2 || !strings.HasSuffix(left[1], "run-4") {
		t.Errorf("left %q", left)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	e.images = nil
	if effect, err := (Space{Store: e, State: state, KeepRuns: 2}).Free(t.Context()); effect != "" || err != nil {
		t.Errorf("nothing to give up: %q, %v", effect, err)
	}
}
