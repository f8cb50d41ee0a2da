package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTakeWaitsForItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "a.lock")
	folder := func() error { return os.MkdirAll(filepath.Dir(path), 0o700) }
	first, err := Take(t.Context(), path, folder, func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want mode 0600", info, err)
	}
	second, err := Take(t.Context(), path, folder, func() {
		// As teardown does it: the folder goes, then the lock.
		if err := errors.Join(os.RemoveAll(filepath.Dir(path)), first.Unlock()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Unlock() }()
	if !current(second) {
		t.Error("took a lock that nobody else sees")
	}
}

func TestTakeEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.lock")
	folder := func() error { return nil }
	first, err := Take(t.Context(), path, folder, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Unlock() }()
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, enough)
	defer cancel()
	if _, err := Take(ctx, path, folder, func() {}); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

func TestTakeSaysWhatItCannotLock(t *testing.T) {
	missing := errors.New("no folder")
	if _, err := Take(t.Context(), "a.lock", func() error { return missing }, func() {}); !errors.Is(err, missing) {
		t.Errorf("got %v, want %v", err, missing)
	}
	if _, err := Take(t.Context(), t.TempDir(), func() error { return nil }, func() {}); err == nil {
		t.Error("locked a folder")
	}
}
