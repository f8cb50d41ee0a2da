package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Folder is where one run keeps its files: STATE/NAME/RUN.
type Folder struct {
	Path string
}

// NewFolder creates the folder of a new run of name (a suite or a single
// target) below state and points state/last at it. Whatever stands in the way
// (a file where a folder should be) is moved aside, never deleted, and named
// in moved.
func NewFolder(state, name string, now time.Time) (f Folder, moved []string, err error) {
	parent := filepath.Join(state, name)
	for _, dir := range []string{state, parent} {
		aside, err := ensureDir(dir)
		if err != nil {
			return Folder{}, moved, failure.New(failure.Configuration,
				fmt.Sprintf("the state folder %q cannot be used", dir), "make it writable, or set E2E_STATE to a folder that is", err)
		}
		if aside != "" {
			moved = append(moved, aside)
		}
	}
	stamp := now.UTC().Format("20060102-150405.000")
	f.Path = filepath.Join(parent, stamp)
	for i := 2; ; i++ {
		err = os.Mkdir(f.Path, 0o755)
		if !errors.Is(err, os.ErrExist) {
			break
		}
		f.Path = filepath.Join(parent, fmt.Sprintf("%s-%d", stamp, i))
	}
	if err != nil {
		return Folder{}, moved, fmt.Errorf("create run folder: %w", err)
	}
	return f, moved, pointLast(state, f.Path)
}

// ensureDir makes dir a folder; a file in its place is renamed, and its new
// name returned.
func ensureDir(dir string) (aside string, err error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		aside = dir + ".moved-aside"
		if err := os.Rename(dir, aside); err != nil {
			return "", err
		}
	}
	return aside, os.MkdirAll(dir, 0o755)
}

// pointLast replaces the link state/last in one step, so that a reader always
// finds either the old or the new run.
func pointLast(state, target string) error {
	rel, err := filepath.Rel(state, target)
	if err != nil {
		return err
	}
	last := filepath.Join(state, "last")
	if info, err := os.Lstat(last); err == nil && info.Mode()&os.ModeSymlink == 0 {
		if err := os.Rename(last, last+".moved-aside"); err != nil {
			return fmt.Errorf("move %q aside: %w", last, err)
		}
	}
	tmp := fmt.Sprintf("%s.%d", last, os.Getpid())
	_ = os.Remove(tmp)
	if err := os.Symlink(rel, tmp); err != nil {
		return fmt.Errorf("link %q: %w", last, err)
	}
	if err := os.Rename(tmp, last); err != nil {
		return fmt.Errorf("link %q: %w", last, err)
	}
	return nil
}

// File returns the path of a file of the run.
func (f Folder) File(name string) string { return filepath.Join(f.Path, name) }

// WriteFile replaces a file of the run in one step: a reader, or a run killed
// in the middle, never sees half of it.
func (f Folder) WriteFile(name string, data []byte) error {
	path := f.File(name)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}
