// Package teardown removes what this project made on a host and its engines:
// clusters, containers, volumes, images, networks, kubeconfigs and temporary
// files. Nothing else is touched, and nothing is removed by a global prune.
//
// What is this project's is told by where it lies and what it carries, never
// by a label alone: an image or container that somebody derives from one of
// ours inherits its label. It does not know how the host was prepared; taking
// that back is a function it is given and calls last.
package teardown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/cluster"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Engine is the part of an engine this package uses.
type Engine interface {
	cluster.Engine
	Name() string
	Ping(context.Context) error
	RemoveContainer(ctx context.Context, container string, force, volumes bool) error
	Image(ctx context.Context, ref string) (engine.Image, error)
	Images(ctx context.Context, labels ...string) ([]engine.Image, error)
	RemoveImage(ctx context.Context, ref string, force bool) error
	Networks(ctx context.Context, labels ...string) ([]engine.Network, error)
	RemoveNetwork(ctx context.Context, name string) error
	Volumes(ctx context.Context, labels ...string) ([]engine.Volume, error)
	RemoveVolume(ctx context.Context, name string, force bool) error
}

// Options says where to look.
type Options struct {
	Engines  []Engine // each is asked; one that does not answer is reported
	StateDir string   // locks and records of clusters
	KubeDir  string   // folder of kubeconfigs, usually ~/.kube
	TempDir  string   // where this project's kubernaut-e2e-* folders lie; empty: the system's
	KeepTemp []string // paths in TempDir that Undo sees to
	Network  string   // this project's network
	Paths    []string // files and folders of this project to remove besides

	// LockWait bounds waiting for another process that works on a cluster; 0:
	// 30 seconds.
	LockWait time.Duration
	// Undo takes back what was done to the host and says so, a line each, that
	// of a thing that stays beginning with "kept ". It is called last. nil:
	// nothing is taken back.
	Undo     func(context.Context) ([]string, error)
	Log      *slog.Logger
	Progress progress.Func
}

// Report is what became of things, one line each.
type Report struct {
	Removed []string `json:"removed"` // with the verb: removed, stopped, set back
	Kept    []string `json:"kept"`    // ours in some way, with the reason why it stays
}

// Run removes everything this project made that it can, and reports it. With
// nothing there it succeeds. One failure does not stop the rest; all are
// joined in the error.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LockWait <= 0 {
		o.LockWait = 30 * time.Second
	}
	w := &work{Options: o}
	answering := true
	for _, e := range o.Engines {
		if err := e.Ping(ctx); err != nil {
			answering = false
			w.fail(failure.New(failure.EngineConnection,
				fmt.Sprintf("%s does not answer; its clusters, containers, volumes, networks and images could not be removed", e.Name()),
				"mage doctor, then mage teardown again", err))
			continue
		}
		w.engine(ctx, e)
	}
	if answering {
		w.leftovers(ctx)
	} else {
		w.keep("records and kubeconfigs of clusters", "an engine does not answer, and its clusters need them")
	}
	w.files()
	if o.Undo != nil && ctx.Err() == nil {
		lines, err := o.Undo(ctx)
		for _, line := range lines {
			if kept, ok := strings.CutPrefix(line, "kept "); ok {
				w.report.Kept = append(w.report.Kept, kept)
				continue
			}
			w.report.Removed = append(w.report.Removed, line)
		}
		if err != nil {
			w.fail(fmt.Errorf("take back the host's preparation: %w", err))
		}
	}
	return w.report, errors.Join(w.errs...)
}

// work is one run of teardown.
type work struct {
	Options
	report Report
	errs   []error
}

func (w *work) fail(err error) { w.errs = append(w.errs, err) }

func (w *work) removed(format string, args ...any) {
	line := "removed " + fmt.Sprintf(format, args...)
	w.report.Removed = append(w.report.Removed, line)
	w.Progress.Or()(progress.Update{What: "teardown", Line: line})
}

func (w *work) keep(what, why string) {
	w.report.Kept = append(w.report.Kept, what+": "+why)
}
