package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// shellImage builds an image with the tools of this host that EndExec needs.
func shellImage(t *testing.T, f fixture) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"sh", "grep", "sed", "sleep"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skip(err)
		}
		out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		if err != nil {
			t.Skipf("ldd %s: %v", path, err)
		}
		for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
			copyFile(t, lib, filepath.Join(dir, "root", lib))
		}
		copyFile(t, path, filepath.Join(dir, "root/bin", tool))
	}
	write(t, dir, "Dockerfile", "FROM scratch\nCOPY root /\nCMD [\"/bin/sleep\", \"3600\"]\n")
	ref := "localhost/" + f.prefix + ":shell"
	f.cleanImage(t, ref)
	if _, err := f.Build(t.Context(), engine.BuildRequest{Context: dir, Tag: ref, Labels: map[string]string{f.prefix: "true"}}, nil); err != nil {
		t.Fatal(err)
	}
	return ref
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestEndExec(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		box := f.run(t, shellImage(t, f))
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// The second sleeper ignores TERM and is a child's child.
		err := f.Exec(short, box, engine.ExecRequest{Cmd: []string{"sh", "-c", "sleep 4321 & (trap '' TERM; sleep 4322; sleep 4323) & wait"}})
		var lost *engine.LostExec
		if !errors.As(err, &lost) {
			t.Fatal(err)
		}
		// A zombie has no command line; nobody reaps them here.
		sleepers := func() string {
			var out bytes.Buffer
			if err := f.Exec(t.Context(), box, engine.ExecRequest{Cmd: []string{"sh", "-c", "grep -lzE '^(/bin/)?sleep$' /proc/[0-9]*/cmdline || true"}, Stdout: &out}); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		before := sleepers()
		start := time.Now()
		if err := f.EndExec(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		t.Log(time.Since(start))
		if after := sleepers(); strings.Count(before, "cmdline") != 3 || strings.Count(after, "cmdline") != 1 {
			t.Errorf("sleepers before: %q, after: %q; want the container's own left", before, after)
		}
		if err := f.EndExec(t.Context(), lost); err != nil {
			t.Errorf("nothing left to end: %v", err)
		}
	})
}

func TestPodmanBehindSSH(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	socket, local := strings.CutPrefix(enginetest.Connect(t, engine.Podman).URL, "unix://")
	if !local {
		t.Skip("the engine is behind SSH already")
	}
	direct, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman})
	if err != nil {
		t.Fatal(err)
	}
	m := enginetest.SSH(t, socket)
	e, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Engine: direct, prefix: unique(t)}
	t.Cleanup(func() { f.sweep(t) })
	box := f.run(t, shellImage(t, f))
	if info, err := e.Info(t.Context()); err != nil || !info.Remote {
		t.Errorf("%+v, %v", info, err)
	}
	read := engine.ExecRequest{Cmd: []string{"sh", "-c", "sed -n '$=' && sleep 1"}}
	t.Run("half-close arrives", func(t *testing.T) {
		var out bytes.Buffer
		r := read
		r.Stdin, r.Stdout = strings.NewReader("a\nb\n"), &out
		if err := e.Exec(t.Context(), box, r); err != nil || out.String() != "2\n" {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
	t.Run("small input swallowed by a cut", func(t *testing.T) {
		m.CutStream(600)
		r := engine.ExecRequest{Cmd: []string{"sh", "-c", "sleep 1; sed -n '$='; exit 0"}, Stdin: strings.NewReader(strings.Repeat("line\n", 2000))}
		if err := e.Exec(t.Context(), box, r); failure.As(err) == nil || failure.As(err).Class != failure.EngineConnection {
			t.Errorf("an input that did not arrive: %v", err)
		}
	})
	for _, n := range []int64{600, 5000, 1 << 20} {
		t.Run(fmt.Sprintf("cut after %d bytes of an exec's input", n), func(t *testing.T) {
			r := read
			r.Stdin = io.LimitReader(rand.Reader, 8<<20)
			m.CutStream(n)
			start := time.Now()
			err := e.Exec(t.Context(), box, r)
			t.Log(time.Since(start), err)
			if got := failure.As(err); got == nil || got.Class != failure.EngineConnection {
				t.Errorf("class of %v", err)
			}
			if err := e.Ping(t.Context()); err != nil {
				t.Errorf("no new connection after the cut: %v", err)
			}
			if lost := (*engine.LostExec)(nil); errors.As(err, &lost) {
				if err := e.EndExec(t.Context(), lost); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("cut while saving", func(t *testing.T) {
		cut := writerFunc(func(p []byte) (int, error) { m.Cut(); return len(p), nil })
		if err := e.Save(t.Context(), "localhost/"+f.prefix+":shell", cut); failure.As(err) == nil || failure.As(err).Class != failure.EngineConnection {
			t.Error(err)
		}
		if err := e.Save(t.Context(), "localhost/"+f.prefix+":shell", io.Discard); err != nil {
			t.Errorf("again: %v", err)
		}
	})
	t.Run("server away", func(t *testing.T) {
		m.Refuse()
		if err := e.Ping(t.Context()); failure.As(err) == nil || failure.As(err).Class != failure.EngineConnection {
			t.Error(err)
		}
		err := e.Ping(t.Context())
		if failure.As(err) == nil || !strings.Contains(err.Error(), "nothing listens") {
			t.Error(err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
