package hapi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/jordigilh/kubernaut-e2e/tools/lock"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
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
	l, err := lock.Take(ctx, path, func() error {
		if err := os.MkdirAll(r.Work, 0o755); err != nil {
			return fmt.Errorf("make the folder of builds: %w", err)
		}
		return nil
	}, func() {
		report.Or()(progress.Update{What: "build " + r.Image.Name, Line: "waiting for " + holder(path) + " to build it"})
	})
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("wait for %s to build image %q: %w", holder(path), r.Image.Name, err)
	}
	if err != nil {
		return nil, err
	}
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600) // for those who wait, no more
	return func() { _ = l.Unlock() }, nil
}

// holder names who signed the lock last.
func holder(path string) string {
	if pid, err := os.ReadFile(path); err == nil && len(pid) > 0 {
		return "process " + string(pid)
	}
	return "another process"
}
