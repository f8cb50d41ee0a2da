package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// tree is a layer: package-like folders of files that add up to about bytes.
type tree struct {
	name    string
	folders int
	bytes   float64
}

var (
	bigImage    = []tree{{"a", 100, 350e6}, {"b", 450, 1700e6}, {"c", 50, 3e6}}
	sharedImage = []tree{{"base1", 60, 150e6}, {"base2", 60, 150e6}, {"own", 5, 5e6}}
)

// recipe is an image: layers on top of another image. Bases are images of
// their own, so that what is shared is shared whatever the engine's build cache
// makes of it.
type recipe struct {
	on     string // recipe of the base; empty: none
	layers []string
	change string // layer that differs from variant to variant
}

var recipes = map[string]recipe{
	"a":    {layers: []string{"a"}},
	"ab":   {on: "a", layers: []string{"b"}},
	"cold": {on: "ab", layers: []string{"c"}},
	"c":    {on: "ab", layers: []string{"c"}, change: "c"},
	"b":    {on: "a", layers: []string{"b", "c"}, change: "b"},
	"base": {layers: []string{"base1", "base2"}},
	"ten":  {on: "base", layers: []string{"own"}, change: "own"},
}

// image builds a recipe's image, unless it is there, and returns its reference.
func (b *bench) image(ctx context.Context, kind string, variant int) (string, error) {
	ref := fmt.Sprintf("localhost/kubernaut-e2e-bench/%s:%d", kind, variant)
	if slices.Contains(b.built, ref) {
		return ref, nil
	}
	r := recipes[kind]
	from := "scratch"
	if r.on != "" {
		var err error
		if from, err = b.image(ctx, r.on, 0); err != nil {
			return "", err
		}
	}
	b.Progress(progress.Update{What: "bench", Line: "build " + ref})
	dir := filepath.Join(b.dir, kind)
	defer os.RemoveAll(dir) //nolint:errcheck // Run removes what is left
	dockerfile := "FROM " + from + "\n"
	for _, l := range slices.Concat(bigImage, sharedImage) {
		if !slices.Contains(r.layers, l.name) {
			continue
		}
		if err := l.write(dir, b.Scale); err != nil {
			return "", err
		}
		dockerfile += fmt.Sprintf("COPY %s /%s\n", l.name, l.name)
	}
	if r.change != "" {
		if err := os.WriteFile(filepath.Join(dir, r.change, "changed"), fmt.Appendf(nil, "%s %d\n", kind, variant), 0o600); err != nil {
			return "", err
		}
	}
	dockerfile += "LABEL " + settings.Label + "=true\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return "", err
	}
	b.built = append(b.built, ref)
	return ref, b.Engine.BuildImage(ctx, dir, ref)
}

// write makes the tree, unless it is there.
func (l tree) write(dir string, scale float64) error {
	root := filepath.Join(dir, l.name)
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	random := rand.NewChaCha8([32]byte{l.name[0], byte(len(l.name)), l.name[len(l.name)-1]})
	pick := rand.New(random)
	sizes := []int{2e3, 2e4, 2e5, 1e6}
	for i := range l.folders {
		folder := filepath.Join(root, fmt.Sprintf("pkg%03d", i))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for n, left := 0, int(l.bytes*scale)/l.folders; left > 0; n++ {
			data := make([]byte, min(left, sizes[pick.IntN(len(sizes))]))
			random.Read(data[:len(data)/2]) //nolint:errcheck // never fails; half is zeroes, so that it compresses like code
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("module%d.py", n)), data, 0o600); err != nil {
				return err
			}
			left -= len(data)
		}
	}
	return nil
}
