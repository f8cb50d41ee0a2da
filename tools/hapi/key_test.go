package hapi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// inputs gives the same inputs every time, in a folder of their own.
func inputs(t *testing.T) Inputs {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "context")
	write(t, dir, "Dockerfile", "FROM scratch\n")
	write(t, dir, "Other", "FROM scratch\n")
	write(t, dir, "src/app.py", "print(1)\n")
	write(t, dir, "notes.md", "notes\n")
	write(t, dir, ".dockerignore", "*.md\n")
	if err := os.Symlink("src/app.py", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return Inputs{Context: dir, Args: map[string]string{"A": "1", "B": "2"}, Labels: map[string]string{"l": "1"}, Platform: "linux/amd64"}
}

func key(t *testing.T, in Inputs) string {
	t.Helper()
	k, err := in.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A tag that changes without a reason costs a build; one that does not change
// with its inputs tests old code.
func TestKey(t *testing.T) {
	base := key(t, inputs(t))
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(base) {
		t.Errorf("key %q", base)
	}
	edit := func(name, content string) func(t *testing.T, in *Inputs) {
		return func(t *testing.T, in *Inputs) { write(t, in.Context, name, content) }
	}
	cases := []struct {
		name   string
		same   bool
		change func(t *testing.T, in *Inputs)
	}{
		{"another folder", true, func(*testing.T, *Inputs) {}},
		{"another time", true, func(t *testing.T, in *Inputs) {
			if err := os.Chtimes(filepath.Join(in.Context, "src/app.py"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}},
		{"another umask", true, func(t *testing.T, in *Inputs) {
			if err := os.Chmod(filepath.Join(in.Context, "src/app.py"), 0o664); err != nil {
				t.Fatal(err)
			}
		}},
		{"the umask 077", true, func(t *testing.T, in *Inputs) {
			for name, mode := range map[string]os.FileMode{"src/app.py": 0o600, "src": 0o700} {
				if err := os.Chmod(filepath.Join(in.Context, name), mode); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"an ignored file", true, edit("notes.md", "more notes\n")},
		{"a new ignored file", true, edit("todo.md", "more\n")},
		{"the default Dockerfile by name", true, func(_ *testing.T, in *Inputs) { in.Dockerfile = "Dockerfile" }},
		{"content", false, edit("src/app.py", "print(2)\n")},
		{"a new file", false, edit("src/new.py", "")},
		{"a new empty folder", false, func(t *testing.T, in *Inputs) {
			if err := os.Mkdir(filepath.Join(in.Context, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"the Dockerfile's text", false, edit("Dockerfile", "FROM scratch\nUSER 1\n")},
		{"another Dockerfile", false, func(_ *testing.T, in *Inputs) { in.Dockerfile = "Other" }},
		{"the ignore file", false, edit(".dockerignore", "")},
		{"an executable bit", false, func(t *testing.T, in *Inputs) {
			if err := os.Chmod(filepath.Join(in.Context, "src/app.py"), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link's target", false, func(t *testing.T, in *Inputs) {
			link := filepath.Join(in.Context, "link")
			if err := errors.Join(os.Remove(link), os.Symlink("Dockerfile", link)); err != nil {
				t.Fatal(err)
			}
		}},
		{"an argument", false, func(_ *testing.T, in *Inputs) { in.Args["A"] = "2" }},
		{"another argument", false, func(_ *testing.T, in *Inputs) { in.Args["C"] = "" }},
		{"a label", false, func(_ *testing.T, in *Inputs) { in.Labels["l"] = "2" }},
		{"the platform", false, func(_ *testing.T, in *Inputs) { in.Platform = "linux/arm64" }},
	}
	seen := map[string]string{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := inputs(t)
			c.change(t, &in)
			got := key(t, in)
			if (got == base) != c.same {
				t.Errorf("same key: %v, want %v", got == base, c.same)
			}
			if other, ok := seen[got]; ok && !c.same {
				t.Errorf("has the key of %q", other)
			}
			if !c.same {
				seen[got] = c.name
			}
		})
	}
}

func TestKeyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := inputs(t).Key(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
