package hapi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// The intervals of a run that waits for another one.
const (
	askEvery = 200 * time.Millisecond
	sayEvery = 5 * time.Second
)

// lock keeps other runs out of the image's folder in Work, from the staging of
// its context to the end of its build: an image is tagged by what was staged,
// and has to be built of just that. While another run has the folder, lock waits
// and tells report for whom. The kernel drops the lock of a run that ends,
// however that happens. An image without a program stages nothing.
func (r Request) lock(ctx context.Context, report progress.Func) (unlock func(), err error) {
	if r.Image.Program == "" {
		return func() {}, nil
	}
	path := filepath.Join(r.Work, r.Image.Name+".lock")
	l := flock.New(path)
	var told time.Time
	for {
		// Also while it waits: teardown may remove the folder.
		if err := os.MkdirAll(r.Work, 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of builds: %w", err)
		}
		got, err := l.TryLock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("lock %q: %w", path, err)
		case got && !current(l):
			_ = l.Unlock() // removed meanwhile; take the one that others see
			continue
		case got:
			_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644) // for those who wait, no more
			return func() { _ = l.Unlock() }, nil
		}
		if time.Since(told) > sayEvery {
			report.Or()(progress.Update{What: "build " + r.Image.Name, Line: "waiting for " + holder(path) + " to build it"})
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s to build image %q: %w", holder(path), r.Image.Name, context.Cause(ctx))
		case <-time.After(askEvery):
		}
	}
}

// current says whether the locked file is the one that others would lock.
func current(l *flock.Flock) bool {
	mine, err := l.Stat()
	named, errNamed := os.Stat(l.Path())
	return err == nil && errNamed == nil && os.SameFile(mine, named)
}

// holder names who signed the lock last.
func holder(path string) string {
	if pid, err := os.ReadFile(path); err == nil && len(pid) > 0 {
		return "process " + string(pid)
	}
	return "another process"
}
