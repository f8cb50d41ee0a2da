package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func TestInfo(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		info, err := f.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", info)
		if info.Version == "" || info.CgroupVersion == "" || info.Arch == "" || info.GraphRoot == "" || info.MemoryTotal == 0 || info.DiskFree == 0 {
			t.Errorf("something is missing: %+v", info)
		}
		if _, ok := f.HostAddress(t.Context()); !ok {
			t.Error("no way back from a local engine")
		}
	})
}

func TestImages(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		ref, id := f.build(t)
		image, err := f.Image(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if image.ID != id || len(image.Layers) == 0 || image.OS != "linux" || image.Labels["greeting"] != "hello" || image.Labels[f.prefix] != "true" || image.Created.IsZero() {
			t.Errorf("image = %+v", image)
		}
		second := "localhost/" + f.prefix + ":two"
		f.cleanImage(t, second)
		if err := f.Tag(ctx, ref, second); err != nil {
			t.Fatal(err)
		}
		list, err := f.Images(ctx, f.prefix+"=true")
		if !slices.ContainsFunc(list, func(i engine.Image) bool { return i.ID == id && len(i.Tags) == 2 }) {
			t.Errorf("Images = %+v, %v", list, err)
		}
		var archive bytes.Buffer
		if err := f.SaveAll(ctx, []string{ref, second}, &archive); err != nil {
			t.Fatal(err)
		}
		for _, r := range []string{ref, second} {
			if err := f.RemoveImage(ctx, r, false); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Image(ctx, r); !errors.Is(err, engine.ErrNotFound) {
				t.Errorf("after RemoveImage: %v", err)
			}
		}
		if err := f.Save(ctx, ref, io.Discard); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("Save of nothing: %v", err)
		}
		refs, err := f.Load(ctx, &archive)
		if err != nil || len(refs) != 2 {
			t.Errorf("Load = %v, %v", refs, err)
		}
		if again, err := f.Image(ctx, second); err != nil || again.ID != id {
			t.Errorf("loaded image has ID %s, want %s (%v)", again.ID, id, err)
		}
		if _, err := f.Load(ctx, strings.NewReader("no archive")); err == nil {
			t.Error("no archive was loaded without an error")
		}
	})
}

func TestPush(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		ref, id := f.build(t)
		server := httptest.NewServer(registry.New())
		defer server.Close()
		dest := strings.TrimPrefix(server.URL, "http://") + "/some/name:tag"
		if err := f.Push(t.Context(), ref, dest, func(u progress.Update) { t.Log(u.Line) }); err != nil {
			t.Fatal(err)
		}
		parsed, err := name.ParseReference(dest)
		if err != nil {
			t.Fatal(err)
		}
		pushed, err := remote.Image(parsed)
		if err != nil {
			t.Fatal(err)
		}
		if config, err := pushed.ConfigName(); err != nil || config.String() != id {
			t.Errorf("registry has config %s, want %s (%v)", config, id, err)
		}
		server.Close()
		if err := f.Push(t.Context(), ref, dest, nil); err == nil {
			t.Error("push to a registry that is gone succeeded")
		} else {
			t.Log(err)
		}
		if _, err := f.Image(t.Context(), dest); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("push left its tag behind: %v", err)
		}
	})
}

func TestBuildFailures(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		tests := []struct {
			name, dockerfile string
			want             failure.Class
			says             string
		}{
			{"missing file", "FROM scratch\nCOPY nothing /x\n", failure.TestFailure, "COPY nothing"},
			{"unknown instruction", "FROM scratch\nCPOY a /x\n", failure.TestFailure, "CPOY"}, //nolint:misspell // on purpose
			{"program ends with an error", "FROM scratch\nCOPY probe /probe\nRUN [\"/probe\", \"exit\", \"7\"]\n", failure.TestFailure, "/probe"},
			{"no program", "FROM scratch\nCOPY probe /probe\nRUN [\"/nowhere\"]\n", failure.TestFailure, "/nowhere"},
			{"empty", "\n", failure.TestFailure, ""},
			{"registry refuses", "FROM 127.0.0.1:1/no/such:base\n", failure.Network, "127.0.0.1:1"},
		}
		probe := filepath.Join(t.TempDir(), "probe")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", probe, "./testdata/probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				dir := t.TempDir()
				write(t, dir, "Dockerfile", tt.dockerfile)
				if err := os.Link(probe, filepath.Join(dir, "probe")); err != nil {
					t.Fatal(err)
				}
				tag := "localhost/" + f.prefix + ":broken"
				_, err := f.Build(t.Context(), engine.BuildRequest{Context: dir, Tag: tag, Labels: map[string]string{f.prefix: "true"}}, nil)
				t.Log(err)
				if got := failure.As(err); got == nil || got.Class != tt.want || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("want class %s and %q in it", tt.want, tt.says)
				}
			})
		}
	})
}

func TestExec(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		ref, _ := f.build(t)
		box := f.run(t, ref)
		t.Run("input and output", func(t *testing.T) {
			const size = 20 << 20
			h := sha256.New()
			input := io.TeeReader(io.LimitReader(rand.Reader, size), h)
			var out bytes.Buffer
			if err := f.Exec(ctx, box, engine.ExecRequest{Cmd: []string{"/probe", "sum"}, Stdin: input, Stdout: &out}); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%d %x\n", size, h.Sum(nil)); out.String() != want {
				t.Errorf("got %q, want %q", out.String(), want)
			}
		})
		t.Run("exit code", func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := f.Exec(ctx, box, engine.ExecRequest{Cmd: []string{"/probe", "exit", "3"}, Stdout: &out, Stderr: &errOut})
			var exit *engine.ExitError
			if !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "to stderr" || out.String() != "to stdout\n" || errOut.String() != "to stderr\n" {
				t.Errorf("got %v, %q, %q", err, out.String(), errOut.String())
			}
		})
		t.Run("input not read", func(t *testing.T) {
			err := f.Exec(ctx, box, engine.ExecRequest{Cmd: []string{"/probe", "exit", "0"}, Stdin: io.LimitReader(rand.Reader, 64<<20)})
			if err == nil {
				t.Error("input that nobody read counts as delivered")
			}
			t.Log(err)
		})
		t.Run("no such program", func(t *testing.T) {
			err := f.Exec(ctx, box, engine.ExecRequest{Cmd: []string{"/nowhere"}})
			t.Logf("%T %v", err, err)
			if err == nil {
				t.Error("no error")
			}
		})
		t.Run("no such container", func(t *testing.T) {
			if err := f.Exec(ctx, f.prefix+"-nowhere", engine.ExecRequest{Cmd: []string{"/probe"}}); !errors.Is(err, engine.ErrNotFound) {
				t.Error(err)
			}
		})
		t.Run("cancelled", func(t *testing.T) {
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := f.Exec(short, box, engine.ExecRequest{Cmd: []string{"/probe", "sleep"}})
			var lost *engine.LostExec
			if !errors.As(err, &lost) || lost.ID == "" || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
				t.Errorf("after %s: %v", time.Since(start), err)
			}
		})
		t.Run("container killed meanwhile", func(t *testing.T) {
			time.AfterFunc(300*time.Millisecond, func() { _ = f.KillContainer(ctx, box, "KILL") })
			start := time.Now()
			err := f.Exec(ctx, box, engine.ExecRequest{Cmd: []string{"/probe", "sleep"}})
			t.Log(time.Since(start), err)
			if err == nil {
				t.Error("a killed command succeeded")
			}
		})
	})
}

func TestContainers(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		ref, id := f.build(t)
		box := f.run(t, ref)
		one := func() engine.Container {
			list, err := f.Containers(ctx, f.prefix)
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			return list[0]
		}
		if c := one(); c.Name != box || !c.Running() || c.ImageID != id || c.Created.IsZero() {
			t.Errorf("%+v", c)
		}
		if err := f.StopContainer(ctx, box, 0); err != nil {
			t.Fatal(err)
		}
		if c := one(); c.Running() {
			t.Errorf("stopped, but %+v", c)
		}
		if err := f.StopContainer(ctx, box, 0); err != nil {
			t.Errorf("stop what is stopped: %v", err)
		}
		if err := f.StartContainer(ctx, box); err != nil {
			t.Fatal(err)
		}
		if err := f.Logs(ctx, box, 5, io.Discard); err != nil {
			t.Error(err)
		}
		if err := f.RemoveContainer(ctx, box, true, true); err != nil {
			t.Fatal(err)
		}
		if err := f.StartContainer(ctx, box); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("start what is gone: %v", err)
		}
	})
}

func TestNetworksAndVolumes(t *testing.T) {
	onEngines(t, func(t *testing.T, f fixture) {
		ctx := t.Context()
		for _, kind := range []string{"network", "volume"} {
			if out, err := exec.CommandContext(ctx, f.Name(), kind, "create", "--label", f.prefix+"=true", f.prefix).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		networks, err := f.Networks(ctx, f.prefix+"=true")
		if err != nil || len(networks) != 1 || networks[0].Name != f.prefix || networks[0].Labels[f.prefix] != "true" {
			t.Errorf("%+v, %v", networks, err)
		}
		volumes, err := f.Volumes(ctx, f.prefix+"=true")
		if err != nil || len(volumes) != 1 || volumes[0].Name != f.prefix || volumes[0].Labels[f.prefix] != "true" {
			t.Errorf("%+v, %v", volumes, err)
		}
		if err := errors.Join(f.RemoveNetwork(ctx, f.prefix), f.RemoveVolume(ctx, f.prefix, true)); err != nil {
			t.Error(err)
		}
		if err := f.RemoveNetwork(ctx, f.prefix); !errors.Is(err, engine.ErrNotFound) {
			t.Error(err)
		}
		if err := f.RemoveVolume(ctx, f.prefix, false); !errors.Is(err, engine.ErrNotFound) {
			t.Error(err)
		}
	})
}
