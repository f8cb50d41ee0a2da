// Package lock keeps two processes of this user from doing the same thing at
// once. The kernel drops a lock when its holder ends, however that happens, so
// there are no stale locks. It knows nothing of what a lock is for.
package lock

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"
)

const (
	askEvery = 200 * time.Millisecond
	sayEvery = 5 * time.Second
)

// Take locks the file at path, which is made (0600) where it is missing, and
// waits while another process has it. Before every attempt it calls folder,
// which makes the file's folder: whoever had the lock may have removed it. While
// it waits it calls waiting, now and then. When ctx ends, so does Take, with the
// cause of that.
func Take(ctx context.Context, path string, folder func() error, waiting func()) (*flock.Flock, error) {
	var said time.Time
	for {
		if err := folder(); err != nil {
			return nil, err
		}
		l := flock.New(path, flock.SetPermissions(0o600))
		got, err := l.TryLock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("lock %q: %w", path, err)
		case got && current(l):
			return l, nil
		case got:
			_ = l.Unlock() // its last holder removed the file; take the one that others see
			continue
		}
		if time.Since(said) > sayEvery {
			waiting()
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(askEvery):
		}
	}
}

// current reports whether the locked file is the one that others would lock.
func current(l *flock.Flock) bool {
	mine, err := l.Stat()
	named, errNamed := os.Stat(l.Path())
	return err == nil && errNamed == nil && os.SameFile(mine, named)
}
