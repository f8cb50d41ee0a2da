package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func TestKeyFollowsEveryInput(t *testing.T) {
	base := func() *part { return newPart("a", nil, "1", "2") }
	if a, b := base(), base(); a.key != b.key {
		t.Error("equal inputs gave different keys")
	}
	need := newPart("n", nil, "1")
	seen := map[string]string{base().key: "base"}
	for name, p := range map[string]*part{
		"name":             newPart("b", nil, "1", "2"),
		"input":            newPart("a", nil, "1", "3"),
		"border of inputs": newPart("a", nil, "12"),
		"need":             newPart("a", []*part{need}, "1", "2"),
		"input of a need":  newPart("a", []*part{newPart("n", nil, "2")}, "1", "2"),
	} {
		if other, ok := seen[p.key]; ok {
			t.Errorf("another %s gives the same key as %s", name, other)
		}
		seen[p.key] = name
	}
}

func TestKeyIsStable(t *testing.T) {
	a, err := Key()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Key()
	if err != nil || a != b || len(a) != 12 {
		t.Errorf("got %q and %q, %v; want the same twelve digits", a, b, err)
	}
}

// count is a part that writes its name and counts how often it was made.
func count(name string, made *atomic.Int32, needs ...*part) *part {
	p := newPart(name, needs)
	p.make = func(_ context.Context, dir string, in func(string) string) error {
		made.Add(1)
		for _, n := range needs {
			if _, err := os.Stat(filepath.Join(in(n.name), "out")); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, "out"), []byte(name), 0o644)
	}
	return p
}

func TestEnsureResumesAtWhatIsMissing(t *testing.T) {
	var a, b, top atomic.Int32
	pa, pb := count("a", &a), count("b", &b)
	pa.heavy = true
	last := count("top", &top, pa, pb)
	work := last.make
	broken := errors.New("cut")
	last.make = func(context.Context, string, func(string) string) error { return broken }

	c := cache{dir: t.TempDir()}
	track := newTracker(nil)
	defer track.stop()
	if err := c.ensure(t.Context(), last, track); !errors.Is(err, broken) || !strings.Contains(err.Error(), "top") {
		t.Fatalf("got %v, want the failure of top", err)
	}
	if c.has(last) {
		t.Error("a part that failed counts as finished")
	}
	last.make = work
	for range 2 {
		if err := c.ensure(t.Context(), last, track); err != nil {
			t.Fatal(err)
		}
	}
	if a.Load() != 1 || b.Load() != 1 || top.Load() != 1 {
		t.Errorf("made a %d, b %d, top %d times; want each once", a.Load(), b.Load(), top.Load())
	}
	if left := temporaries(t, c.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestEnsureStopsWithContext(t *testing.T) {
	c := cache{dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := newPart("waiting", nil)
	waiting.make = func(ctx context.Context, dir string, _ func(string) string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
			return err
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	var made atomic.Int32
	track := newTracker(nil)
	defer track.stop()
	if err := c.ensure(ctx, count("top", &made, waiting), track); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to say that it was cancelled", err)
	}
	if made.Load() != 0 {
		t.Error("a part was made without what it needs")
	}
	if left := temporaries(t, c.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestClean(t *testing.T) {
	c := cache{dir: t.TempDir()}
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"old-1": 2 * time.Hour, temporary + "x-1": time.Second,
		"new-1": 3 * time.Minute, "new-2": 2 * time.Minute, "new-3": time.Minute, "new-other-1": time.Minute,
	} {
		p := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Join(p, "inner"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(c.dir, ".lock")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.clean(now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".lock new-2 new-3 new-other-1" {
		t.Errorf("kept %q, want the lock and the versions used last", got)
	}
}

func TestLockWaitsAndSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	unlock, err := Lock(t.Context(), Options{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var said atomic.Int32
	got := make(chan error, 1)
	go func() {
		again, err := Lock(t.Context(), Options{CacheDir: dir, Progress: func(progress.Update) {
			if said.Add(1) == 1 {
				unlock()
			}
		}})
		if err == nil {
			again()
		}
		got <- err
	}()
	if err := <-got; err != nil || said.Load() == 0 {
		t.Errorf("got %v after %d reports, want the lock after at least one", err, said.Load())
	}
}

func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, temporary+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}
