package hapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

func withProgram(work, name string) Request {
	return Request{Work: work, Image: settings.Image{Name: name, Program: "./cmd"}}
}

func lockOf(t *testing.T, r Request) func() {
	t.Helper()
	unlock, err := r.lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

// TestRunsShareTheirWorkFolder insists that one image is never staged by two
// runs, and that who waits says for whom.
func TestRunsShareTheirWorkFolder(t *testing.T) {
	r := withProgram(t.TempDir(), "app")
	unlock := lockOf(t, r)
	said := ""
	again, err := r.lock(t.Context(), func(u progress.Update) {
		said = u.Line
		unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	again()
	if !strings.Contains(said, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("said %q, want the holder's name before the lock is given", said)
	}
}

func TestDifferentImagesDoNotWait(t *testing.T) {
	work := t.TempDir()
	defer lockOf(t, withProgram(work, "app"))()
	other, without := withProgram(work, "other"), withProgram(work, "app")
	without.Image.Program = ""
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, r := range []Request{other, without} {
		unlock, err := r.lock(ctx, nil)
		if err != nil {
			t.Fatalf("image %q with program %q: %v", r.Image.Name, r.Image.Program, err)
		}
		unlock()
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	r := withProgram(t.TempDir(), "app")
	defer lockOf(t, r)()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.lock(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"app"`) {
		t.Errorf("got %v", err)
	}
}

// A lock whose file teardown removed is no lock: the next run makes a new one.
func TestLockIsTheOneThatOthersSee(t *testing.T) {
	r := withProgram(t.TempDir(), "app")
	unlock := lockOf(t, r)
	if err := os.Remove(filepath.Join(r.Work, "app.lock")); err != nil {
		t.Fatal(err)
	}
	second := lockOf(t, r)
	defer second()
	unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.lock(ctx, nil); err == nil {
		t.Error("two runs hold the lock")
	}
}
