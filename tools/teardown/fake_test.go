package teardown

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// fakeEngine is an engine in memory.
type fakeEngine struct {
	down       error // what every call returns, if set
	refuse     error // what removing an image returns, if set
	containers []engine.Container
	images     []engine.Image
	networks   []engine.Network
	volumes    []engine.Volume
}

func carries(labels map[string]string, wanted []string) bool {
	for _, w := range wanted {
		key, value, exact := strings.Cut(w, "=")
		got, ok := labels[key]
		if !ok || exact && got != value {
			return false
		}
	}
	return true
}

func pick[T any](all []T, labels func(T) map[string]string, wanted []string) []T {
	var found []T
	for _, x := range all {
		if carries(labels(x), wanted) {
			found = append(found, x)
		}
	}
	return found
}

func drop[T any](all *[]T, same func(T) bool) error {
	before := len(*all)
	*all = slices.DeleteFunc(slices.Clone(*all), same)
	if len(*all) == before {
		return engine.ErrNotFound
	}
	return nil
}

func (f *fakeEngine) Name() string               { return "podman" }
func (f *fakeEngine) Ping(context.Context) error { return f.down }
func (f *fakeEngine) Containers(_ context.Context, l ...string) ([]engine.Container, error) {
	return pick(f.containers, func(c engine.Container) map[string]string { return c.Labels }, l), f.down
}
func (f *fakeEngine) Started(context.Context, string) (time.Time, error)  { return time.Time{}, f.down }
func (f *fakeEngine) StartContainer(context.Context, string) error        { return f.down }
func (f *fakeEngine) KillContainer(context.Context, string, string) error { return f.down }
func (f *fakeEngine) RemoveContainer(_ context.Context, id string, _, _ bool) error {
	return drop(&f.containers, func(c engine.Container) bool { return c.ID == id })
}
func (f *fakeEngine) Image(_ context.Context, ref string) (engine.Image, error) {
	for _, i := range f.images {
		if i.ID == ref || slices.Contains(i.Tags, ref) {
			return i, nil
		}
	}
	return engine.Image{}, engine.ErrNotFound
}
func (f *fakeEngine) Images(_ context.Context, l ...string) ([]engine.Image, error) {
	return pick(f.images, func(i engine.Image) map[string]string { return i.Labels }, l), f.down
}
func (f *fakeEngine) RemoveImage(_ context.Context, ref string, _ bool) error {
	if f.refuse != nil {
		return f.refuse
	}
	for i := range f.images {
		f.images[i].Tags = slices.DeleteFunc(slices.Clone(f.images[i].Tags), func(t string) bool { return t == ref })
	}
	return drop(&f.images, func(i engine.Image) bool { return len(i.Tags) == 0 })
}
func (f *fakeEngine) Networks(_ context.Context, l ...string) ([]engine.Network, error) {
	return pick(f.networks, func(n engine.Network) map[string]string { return n.Labels }, l), f.down
}
func (f *fakeEngine) RemoveNetwork(_ context.Context, name string) error {
	return drop(&f.networks, func(n engine.Network) bool { return n.Name == name })
}
func (f *fakeEngine) Volumes(_ context.Context, l ...string) ([]engine.Volume, error) {
	return pick(f.volumes, func(v engine.Volume) map[string]string { return v.Labels }, l), f.down
}
func (f *fakeEngine) RemoveVolume(_ context.Context, name string, _ bool) error {
	return drop(&f.volumes, func(v engine.Volume) bool { return v.Name == name })
}

// scoped shows a real engine as if only what a test made were on it: others
// work on the same engine, and teardown would rightly take their things too.
type scoped struct {
	engine.Engine
	mine    func(name string) bool
	network string
}

func (s scoped) Containers(ctx context.Context, l ...string) ([]engine.Container, error) {
	all, err := s.Engine.Containers(ctx, l...)
	return slices.DeleteFunc(all, func(c engine.Container) bool { return !s.mine(c.Name) }), err
}
func (s scoped) Images(ctx context.Context, l ...string) ([]engine.Image, error) {
	all, err := s.Engine.Images(ctx, l...)
	for i := range all {
		all[i].Tags = slices.DeleteFunc(all[i].Tags, func(tag string) bool { return !s.mine(tag) })
	}
	return slices.DeleteFunc(all, func(i engine.Image) bool { return len(i.Tags) == 0 }), err
}
func (s scoped) Networks(ctx context.Context, l ...string) ([]engine.Network, error) {
	all, err := s.Engine.Networks(ctx, l...)
	return slices.DeleteFunc(all, func(n engine.Network) bool { return n.Name != s.network }), err
}
func (s scoped) Volumes(ctx context.Context, l ...string) ([]engine.Volume, error) {
	all, err := s.Engine.Volumes(ctx, l...)
	return slices.DeleteFunc(all, func(v engine.Volume) bool {
		for key := range v.Labels {
			if s.mine(key) {
				return false
			}
		}
		return true
	}), err
}

// mineBy recognises a test's things by a word in their names.
func mineBy(word string) func(string) bool {
	return func(name string) bool { return strings.Contains(name, word) }
}

const patience = 3 * time.Minute
