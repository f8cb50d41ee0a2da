package nodeimage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A command stands in for docker with a builder that is the engine only if it
// is asked for, as BUILDX_BUILDER of a user's shell would have it.
func TestLabelIsProven(t *testing.T) {
	tests := []struct{ name, build, fails string }{
		{name: "the engine's own builder", build: `test "$BUILDX_BUILDER" = default && touch made`},
		{name: "a builder that keeps what it made", build: "true", fails: "does not have image"},
		{name: "a build that fails", build: "echo no base >&2; exit 1", fails: "no base"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script := `#!/bin/sh
cd ` + dir + `
case $1 in
build) ` + tt.build + ` ;;
image) test -e made && echo '[{"Id":"abc"}]' || { echo 'Error: No such image' >&2; exit 1; } ;;
esac
`
			if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			t.Setenv("BUILDX_BUILDER", "in-a-container")
			err := Command("docker").Label(t.Context(), "base", "localhost/x:1")
			if (err == nil) != (tt.fails == "") || (err != nil && !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got %v, want an error saying %q", err, tt.fails)
			}
		})
	}
}

// A command that stands in for an engine says what both engines say.
func TestCommandImage(t *testing.T) {
	tests := []struct {
		name, script string
		want         string
		absent       bool
		fails        string
	}{
		{name: "there", script: `echo '[{"Id":"abc","Config":{"Labels":{"kubernaut-e2e":"true"}}}]'`, want: "abc"},
		{name: "absent in Podman", script: `echo 'Error: inspecting object: x: image not known' >&2; exit 125`, absent: true},
		{name: "absent in Docker", script: `echo '[]'; echo 'Error: No such image: x' >&2; exit 1`, absent: true},
		{name: "engine down", script: `echo 'Cannot connect to the Docker daemon' >&2; exit 1`, fails: "Cannot connect to the Docker daemon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "engine")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			got, err := Command(path).Image(t.Context(), "x")
			switch {
			case tt.fails != "":
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want an error saying %q", err, tt.fails)
				}
			case err != nil:
				t.Error(err)
			case tt.absent != (got == nil):
				t.Errorf("got %+v, want absent: %t", got, tt.absent)
			case got != nil && got.ID != tt.want:
				t.Errorf("got %q, want %q", got.ID, tt.want)
			}
		})
	}
}
