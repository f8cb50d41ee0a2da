package pipeline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/hapi"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// shelf is an engine that holds images and nothing else.
type shelf struct {
	engine.Engine
	images map[string]string
	down   error
}

func (s *shelf) Ping(context.Context) error { return s.down }

func (s *shelf) Save(_ context.Context, ref string, w io.Writer) error {
	content, ok := s.images[ref]
	if !ok {
		return engine.ErrNotFound
	}
	_, err := io.WriteString(w, ref+"\n"+content)
	return err
}

func (s *shelf) Load(_ context.Context, r io.Reader) ([]string, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	ref, content, _ := strings.Cut(string(raw), "\n")
	s.images[ref] = content
	return []string{ref}, nil
}

func (s *shelf) Image(_ context.Context, ref string) (engine.Image, error) {
	if _, ok := s.images[ref]; !ok {
		return engine.Image{}, engine.ErrNotFound
	}
	return engine.Image{}, nil
}

func TestImagesAreTakenAlong(t *testing.T) {
	built := map[string]hapi.Image{"hapi": {Ref: "localhost/kubernaut-hapi:1"}, "gone": {Ref: "localhost/kubernaut-gone:1"}}
	for name, c := range map[string]struct {
		first engine.Engine
		says  string
		has   bool
	}{
		"it answers":         {&shelf{images: map[string]string{"localhost/kubernaut-hapi:1": "layers"}}, "taken along: localhost/kubernaut-hapi:1", true},
		"it does not":        {&shelf{down: errors.New("EOF")}, "built again", false},
		"it was never found": {nil, "nothing to take along", false},
	} {
		t.Run(name, func(t *testing.T) {
			to := &shelf{images: map[string]string{}}
			s := &session{engine: to, log: slog.New(slog.DiscardHandler)}
			out, err := s.carry(t.Context(), c.first, built, progress.Discard)
			if err != nil || !strings.Contains(out.Detail, c.says) {
				t.Errorf("%+v, %v", out, err)
			}
			if _, ok := to.images["localhost/kubernaut-hapi:1"]; ok != c.has {
				t.Errorf("the second engine has %v", to.images)
			}
		})
	}
}

func TestOnlyAnEngineThatStaysBrokenIsLeft(t *testing.T) {
	stay := func(name string, s *session, r run.Result) {
		t.Helper()
		if got := s.fallback(t.Context(), r, nil); len(got.Heals) > 0 || got.Verdict != r.Verdict {
			t.Errorf("%s: moved: %+v", name, got)
		}
	}
	podman := settings.Settings{Provider: engine.Podman, FallbackProvider: engine.Docker}
	lost := run.Result{Verdict: failure.Infrastructure, Class: failure.EngineConnection}
	quiet := slog.New(slog.DiscardHandler)
	stay("a single target", &session{settings: podman, log: quiet}, lost)
	stay("code", &session{settings: podman, movable: true, log: quiet}, run.Result{Verdict: failure.Code, Class: failure.TestFailure})
	stay("a registry", &session{settings: podman, movable: true, log: quiet}, run.Result{Verdict: failure.Infrastructure, Class: failure.Network})
	podman.FallbackProvider = "none"
	stay("none", &session{settings: podman, movable: true, log: quiet}, lost)
	podman.FallbackProvider = engine.Podman
	stay("the same", &session{settings: podman, movable: true, log: quiet}, lost)
}

func TestTheFirstEnginesSettingsDoNotFollow(t *testing.T) {
	t.Setenv("CONTAINER_HOST", "unix:///first.sock")
	t.Setenv("DOCKER_HOST", "unix:///second.sock")
	s := &session{}
	s.forgetEngine(engine.Docker)
	if os.Getenv("CONTAINER_HOST") != "" || os.Getenv("DOCKER_HOST") == "" || s.settings.Provider != engine.Docker {
		t.Errorf("CONTAINER_HOST %q, DOCKER_HOST %q, %q", os.Getenv("CONTAINER_HOST"), os.Getenv("DOCKER_HOST"), s.settings.Provider)
	}
}
