package heal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// Store is the part of an engine that freeing space uses.
type Store interface {
	Info(context.Context) (engine.Info, error)
	Images(ctx context.Context, labels ...string) ([]engine.Image, error)
	RemoveImage(ctx context.Context, ref string, force bool) error
}

// Space is what may be given up when a disk is full.
type Space struct {
	Store    Store
	Keep     []string  // references of images that this run uses
	Since    time.Time // images made later stay: a step beside this one may have made them
	State    string    // state folder; runs lie in STATE/NAME/RUN
	KeepRuns int       // newest runs of each name that stay
}

// Free removes images of this project that no container and not this run uses,
// and the folders of old runs. The effect names the space gained, measured by
// asking the engine before and after; no gain is an empty effect.
func (s Space) Free(ctx context.Context) (effect string, err error) {
	before, err := s.Store.Info(ctx)
	if err != nil {
		return "", err
	}
	runs, runErr := s.oldRuns()
	images, err := s.oldImages(ctx)
	if err = errors.Join(runErr, err); err != nil && runs+images == 0 {
		return "", err
	}
	if runs+images == 0 {
		return "", nil
	}
	after, err := s.Store.Info(ctx)
	if err != nil {
		return "", err
	}
	gained := "an unknown amount of space"
	if before.DiskFree > 0 && after.DiskFree > before.DiskFree {
		gained = humanize.Bytes(after.DiskFree - before.DiskFree)
	}
	return fmt.Sprintf("%d images and %d run folders removed, %s gained, %s free", images, runs, gained, humanize.Bytes(after.DiskFree)), nil
}

// oldImages removes images by our own names only: an image that somebody
// derives from one of ours inherits its label.
func (s Space) oldImages(ctx context.Context) (removed int, err error) {
	images, err := s.Store.Images(ctx, settings.Label)
	if err != nil {
		return 0, err
	}
	for _, image := range images {
		for _, tag := range image.Tags {
			if !strings.HasPrefix(tag, "localhost/kubernaut-") || slices.Contains(s.Keep, tag) || image.Created.After(s.Since) {
				continue
			}
			// Not by force: one that a container uses stays.
			if err := s.Store.RemoveImage(ctx, tag, false); err == nil {
				removed++
			} else if ctx.Err() != nil {
				return removed, context.Cause(ctx)
			}
		}
	}
	return removed, nil
}

// oldRuns removes the folders of all but the newest runs of each name.
func (s Space) oldRuns() (removed int, err error) {
	results, _ := filepath.Glob(filepath.Join(s.State, "*", "*", "journal.jsonl"))
	byName := map[string][]string{}
	for _, r := range results {
		run := filepath.Dir(r)
		byName[filepath.Dir(run)] = append(byName[filepath.Dir(run)], run)
	}
	for _, runs := range byName {
		sort.Strings(runs) // their names are times
		for _, old := range runs[:max(0, len(runs)-s.KeepRuns)] {
			if rmErr := os.RemoveAll(old); rmErr != nil {
				err = errors.Join(err, rmErr)
				continue
			}
			removed++
		}
	}
	return removed, err
}
