package host

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

func TestShownAddress(t *testing.T) {
	for address, want := range map[string]string{
		"unix:///run/podman/podman.sock": "unix:///run/podman/podman.sock",
		"ssh://core@127.0.0.1:51000/s":   "ssh://core@127.0.0.1:51000/s",
		"ssh://me:secret@h:22/s":         "ssh://me:xxxxx@h:22/s",
		"ssh://me:sec#ret@h/s":           "ssh://xxxxx@h/s", // no URL
		"":                               "",
	} {
		if got := settings.Shown(address); got != want {
			t.Errorf("%q is shown as %q, want %q", address, got, want)
		}
	}
}

// TestNoPasswordIsPrinted: CONTAINER_HOST and DOCKER_HOST may hold one; who
// connects still gets it.
func TestNoPasswordIsPrinted(t *testing.T) {
	for _, tt := range []struct{ provider, address string }{
		{Podman, "ssh://me:se!cret@h/s"}, {Docker, "tcp://me:se!cret@h:1"}, {Podman, "ssh://me:se!cr#et@h/s"}, {Podman, "odd://me:se!cret@h/s"},
	} {
		var log bytes.Buffer
		o := Options{Provider: tt.provider, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Environ: []string{"CONTAINER_HOST=" + tt.address, "DOCKER_HOST=" + tt.address}}
		h, run := newFake(t, o, easyHost())
		run.fails["docker version"] = "Cannot connect to the Docker daemon at " + tt.address + ", or me:se%21cret@h"
		if tt.provider == Docker || !strings.HasPrefix(tt.address, "ssh://me:se!cret@") { // the others dial
			h.ping = h.pingEngine
		}
		said := []string{}
		_, err := h.find(t.Context(), h.wanted())
		if err == nil {
			t.Fatalf("%s answers", tt.address)
		}
		said = append(said, err.Error(), permission(endpoint{url: tt.address}, nil).Error(), log.String())

		h.ping = h.pingEngine
		run.programs[tt.provider] = true
		run.fails[tt.provider+" info"] = "cannot reach " + tt.address
		conn := h.connect(endpoint{provider: tt.provider, url: tt.address})
		d := &doctor{host: h}
		d.engine(t.Context(), conn)
		said = append(said, fmt.Sprint(conn), fmt.Sprintf("%+v", d.findings))
		for _, s := range said {
			if strings.Contains(s, "cret") || strings.Contains(s, "cr#et") {
				t.Errorf("%s: printed %s", tt.address, s)
			}
		}
		if conn.URL != tt.address || !slices.ContainsFunc(conn.Env, func(kv string) bool { return strings.HasSuffix(kv, "_HOST="+tt.address) }) {
			t.Errorf("cannot connect any more: %q, %q", conn.URL, conn.Env)
		}
	}
}

func TestHidingThePasswordKeepsTheCause(t *testing.T) {
	err := hidePassword(fmt.Errorf("dial ssh://me:secret@h: %w", fs.ErrPermission), "ssh://me:secret@h")
	if !denied(err) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	if hidePassword(nil, "ssh://me:secret@h") != nil {
		t.Error("success became an error")
	}
}

// An engine that a run found is in its environment, and is not told to people as
// a choice of theirs.
func TestAnEngineThatTheRunFoundIsNoChoiceOfTheUsers(t *testing.T) {
	const url = "unix:///run/other.sock"
	for found, want := range map[string]string{"": "CONTAINER_HOST", url: "which this run has used"} {
		h, _ := newFake(t, Options{Provider: Podman, Found: found, Environ: []string{"PATH=/nowhere", "HOME=/h", "CONTAINER_HOST=" + url}}, easyHost())
		_, err := h.find(t.Context(), []string{Podman})
		if err == nil || !strings.Contains(err.Error(), want) || found != "" && strings.Contains(err.Error(), "CONTAINER_HOST") {
			t.Errorf("found %q: %v", found, err)
		}
	}
}
