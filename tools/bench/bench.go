// Package bench measures image loading against the ordinary way, `podman save
// -o` and `kind load image-archive`, in one run on one machine.
//
// It owns the cases and the table. Cluster and engine are given; the images it
// builds and loads are removed again.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Engine is what a benchmark asks of an engine beside loading.
type Engine interface {
	load.Engine
	// BuildImage builds the folder's Dockerfile and tags the image.
	BuildImage(ctx context.Context, dir, tag string) error
	// RemoveImage removes a reference.
	RemoveImage(ctx context.Context, ref string, force bool) error
}

// Options says what to measure and on what.
type Options struct {
	Engine   Engine
	Provider string      // podman or docker: the command of the ordinary way
	Cluster  string      // name of the Kind cluster
	Nodes    []load.Node // all of its nodes; cases for one node use the first
	Runs     int         // of each case and way; less than 1 means 5
	Scale    float64     // of the image; 0 means 1: 2.1 GB in 3 layers
	Cases    []string    // names; empty: all that the number of nodes allows
	TempDir  string      // room for twice the image; empty: the system's
	Log      *slog.Logger
	Progress progress.Func
}

// Row is one case's outcome.
type Row struct {
	Case       string
	Goal       float64 // largest ratio that meets the goal
	Nodes      int
	Ordinary   []time.Duration
	Ours       []time.Duration
	Bytes      int64 // of image data, sent by us to all nodes, largest of the runs
	MostMemory int64 // bytes resident in our process, peak of all runs; 0 if unknown
	Strategies []string
	Parts      []Part // of a cold load into one node
}

// Ratio is ours to ordinary, of the medians.
func (r Row) Ratio() float64 {
	if o := Median(r.Ordinary); o > 0 {
		return float64(Median(r.Ours)) / float64(o)
	}
	return 0
}

// Median of some durations; 0 of none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// The cases of the table.
const (
	Unchanged   = "unchanged"
	SmallChange = "one 3 MB layer changed"
	BigChange   = "one file changed in the 1.7 GB layer"
	ColdOne     = "cold, 1 node"
	ColdThree   = "cold, 3 nodes"
	TenImages   = "ten images that share their base layers, cold"
)

// benchmark is a case: the ratio that meets its goal, the nodes that it needs,
// and what measures it.
type benchmark struct {
	name string
	goal float64
	need int
	run  func(*bench, context.Context, *Row) error
}

var benchmarks = []benchmark{
	{ColdOne, 0.45, 1, (*bench).cold},
	{Unchanged, 0.02, 1, (*bench).unchanged},
	{SmallChange, 0.05, 1, changed("c")},
	{BigChange, 0.6, 1, changed("b")},
	{ColdThree, 0.35, 3, (*bench).cold},
	{TenImages, 0.35, 1, (*bench).ten},
}

func caseNames() []string {
	var names []string
	for _, b := range benchmarks {
		names = append(names, b.name)
	}
	return names
}

// CheckCases returns an error that names the first of them that is no case.
func CheckCases(names []string) error {
	all := caseNames()
	for _, n := range names {
		if !slices.Contains(all, n) {
			return failure.New(failure.Configuration, fmt.Sprintf("no benchmark is called %q", n),
				"choose from, separated by semicolons: "+strings.Join(all, "; "), nil)
		}
	}
	return nil
}

type bench struct {
	Options
	dir    string
	built  []string
	loaded map[string]bool // references that nodes may have
}

// Run measures the cases and returns a row for each. It stops at the first
// failure: a measurement of something that does not work says nothing.
func Run(ctx context.Context, o Options) (rows []Row, err error) {
	if o.Runs <= 0 {
		o.Runs = 5
	}
	if o.Scale == 0 {
		o.Scale = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Progress = o.Progress.Or()
	dir, err := os.MkdirTemp(o.TempDir, "kubernaut-e2e-bench-")
	if err != nil {
		return nil, fmt.Errorf("folder for the benchmark: %w", err)
	}
	b := &bench{Options: o, dir: dir, loaded: map[string]bool{}}
	defer func() {
		clean := context.WithoutCancel(ctx)
		err = errors.Join(err, b.forget(clean, b.Nodes), b.removeImages(clean), os.RemoveAll(dir))
	}()
	for _, c := range benchmarks {
		if len(o.Nodes) < c.need || (len(o.Cases) > 0 && !slices.Contains(o.Cases, c.name)) {
			continue
		}
		row := Row{Case: c.name, Goal: c.goal, Nodes: c.need}
		o.Progress(progress.Update{What: "bench", Line: c.name})
		err := c.run(b, ctx, &row)
		if len(row.Ours) > 0 {
			rows = append(rows, row)
		}
		if err != nil {
			return rows, fmt.Errorf("benchmark %q: %w", c.name, err)
		}
	}
	return rows, nil
}

// cold loads an image of which the nodes have nothing.
func (b *bench) cold(ctx context.Context, row *Row) error {
	img, err := b.image(ctx, "cold", 0)
	if err != nil {
		return err
	}
	nodes := b.Nodes[:row.Nodes]
	for range b.Runs {
		if err := b.pair(ctx, row, nodes, func() error { return b.forget(ctx, nodes) }, img); err != nil {
			return err
		}
	}
	if row.Nodes > 1 {
		return nil
	}
	return b.parts(ctx, row, nodes[0], img)
}

// unchanged loads an image again that is there.
func (b *bench) unchanged(ctx context.Context, row *Row) error {
	img, err := b.image(ctx, "cold", 0)
	if err != nil {
		return err
	}
	nodes := b.Nodes[:1]
	if err := b.ours(ctx, &Row{}, nodes, img); err != nil {
		return err
	}
	for range b.Runs {
		if err := b.pair(ctx, row, nodes, func() error { return nil }, img); err != nil {
			return err
		}
	}
	return nil
}

// changed loads an image of which all but one layer is there.
func changed(layer string) func(*bench, context.Context, *Row) error {
	return func(b *bench, ctx context.Context, row *Row) error {
		nodes := b.Nodes[:1]
		before, err := b.image(ctx, "cold", 0)
		if err != nil {
			return err
		}
		for run := range b.Runs {
			img, err := b.image(ctx, layer, run+1)
			if err != nil {
				return err
			}
			prepare := func() error {
				if err := b.forget(ctx, nodes); err != nil {
					return err
				}
				return b.ours(ctx, &Row{}, nodes, before)
			}
			if err := b.pair(ctx, row, nodes, prepare, img); err != nil {
				return err
			}
			if err := b.Engine.RemoveImage(ctx, img, true); err != nil {
				return err
			}
		}
		return nil
	}
}

// ten loads ten images with common layers, none of which is there.
func (b *bench) ten(ctx context.Context, row *Row) error {
	var images []string
	for i := range 10 {
		img, err := b.image(ctx, "ten", i+1)
		if err != nil {
			return err
		}
		images = append(images, img)
	}
	for range b.Runs {
		if err := b.pair(ctx, row, b.Nodes[:1], func() error { return b.forget(ctx, b.Nodes[:1]) }, images...); err != nil {
			return err
		}
	}
	return nil
}

// pair measures both ways, one after the other, so that both see the same
// state of the machine.
func (b *bench) pair(ctx context.Context, row *Row, nodes []load.Node, prepare func() error, images ...string) error {
	if err := prepare(); err != nil {
		return err
	}
	began := time.Now()
	if err := b.ordinary(ctx, nodes, images); err != nil {
		return err
	}
	row.Ordinary = append(row.Ordinary, time.Since(began))
	if err := prepare(); err != nil {
		return err
	}
	if err := b.ours(ctx, row, nodes, images...); err != nil {
		return err
	}
	b.Progress(progress.Update{What: "bench", Line: fmt.Sprintf("%s: ordinary %s, ours %s", row.Case,
		row.Ordinary[len(row.Ordinary)-1].Round(time.Millisecond), row.Ours[len(row.Ours)-1].Round(time.Millisecond))})
	return nil
}
