package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

func environment(pairs map[string]string) func(string) string {
	return func(k string) string { return pairs[k] }
}

func TestPodmanAddress(t *testing.T) {
	script := func(t *testing.T, out string) {
		dir := t.TempDir()
		text := "#!/bin/sh\ncat <<'END'\n" + out + "\nEND\n"
		if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":/usr/bin:/bin")
	}
	machine := `[{"Name":"other","URI":"ssh://x@y/z","Identity":"","IsMachine":false,"Default":false},
{"Name":"podman-machine-default","URI":"ssh://core@127.0.0.1:41000/run/user/501/podman/podman.sock","Identity":"/k/machine","IsMachine":true,"Default":true}]`
	t.Run("variable", func(t *testing.T) {
		script(t, machine)
		a, err := podmanAddress(t.Context(), environment(map[string]string{"CONTAINER_HOST": "ssh://root@127.0.0.1:2222/p.sock", "CONTAINER_SSHKEY": "/k/id"}))
		if err != nil || a.url != "ssh://root@127.0.0.1:2222/p.sock" || a.identity != "/k/id" || a.machine {
			t.Errorf("%+v, %v", a, err)
		}
	})
	t.Run("machine", func(t *testing.T) {
		script(t, machine)
		a, err := podmanAddress(t.Context(), environment(nil))
		if err != nil || !a.machine || a.identity != "/k/machine" || !strings.HasPrefix(a.url, "ssh://core@") {
			t.Errorf("%+v, %v", a, err)
		}
	})
	t.Run("podman 4.3 marks the default in the name", func(t *testing.T) {
		c, ok := parseConnections([]byte(`[{"Name":"m*","Identity":"/k/machine","URI":"ssh://core@localhost:1/s"}]`))
		if !ok || c.Name != "m" || !c.IsMachine {
			t.Errorf("%+v, %v", c, ok)
		}
	})
	t.Run("socket", func(t *testing.T) {
		script(t, "[]")
		a, err := podmanAddress(t.Context(), environment(map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}))
		want := "unix:///run/user/7/podman/podman.sock"
		if os.Geteuid() == 0 {
			want = "unix:///run/podman/podman.sock"
		}
		if err != nil || a.url != want {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

func TestDockerAddress(t *testing.T) {
	dir := t.TempDir()
	meta := filepath.Join(dir, "contexts", "meta", fmt.Sprintf("%x", sha256.Sum256([]byte("far"))))
	if err := os.MkdirAll(meta, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(dir, "config.json"): `{"currentContext":"far"}`,
		filepath.Join(meta, "meta.json"):  `{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376"}}}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		env  map[string]string
		want string // empty: an error of class configuration
	}{
		{"variable", map[string]string{"DOCKER_HOST": "tcp://x:1", "DOCKER_CONTEXT": "far"}, "tcp://x:1"},
		{"current context", map[string]string{"DOCKER_CONFIG": dir}, "tcp://far:2376"},
		{"context by name", map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "nowhere"}, ""},
		{"default", map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "default", "XDG_RUNTIME_DIR": "/nowhere"}, "unix:///var/run/docker.sock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := dockerAddress(environment(tt.env))
			if tt.want == "" {
				if f := failure.As(err); f == nil || f.Class != failure.Configuration {
					t.Error(err)
				}
			} else if err != nil || a.url != tt.want {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

func TestLostConnectionsSayWhatHelps(t *testing.T) {
	local, machine := address{provider: Podman, url: "unix:///s", setting: "CONTAINER_HOST"}, address{provider: Podman, url: "ssh://m", machine: true}
	tests := []struct {
		a      address
		err    error
		class  failure.Class
		remedy string
	}{
		{local, fmt.Errorf("dial: %w", syscall.ENOENT), failure.EngineConnection, "mage setup"},
		{local, fmt.Errorf("dial: %w", syscall.ECONNREFUSED), failure.EngineConnection, "mage setup"},
		{local, fmt.Errorf("dial: %w", syscall.EACCES), failure.Configuration, "CONTAINER_HOST"},
		{machine, errors.New("failed to connect: dial tcp 127.0.0.1:1: connect: connection refused"), failure.EngineConnection, "podman machine start"},
		{machine, fmt.Errorf("Get: %w", io.EOF), failure.EngineConnection, "podman machine start"},
		{machine, errors.New("ssh: handshake failed: ssh: unable to authenticate"), failure.Configuration, "CONTAINER_SSHKEY"},
		{local, errors.New("write /x: no space left on device"), failure.Resources, "teardown"},
	}
	for _, tt := range tests {
		f := failure.As(tt.a.explain(t.Context(), tt.err))
		if f == nil || f.Class != tt.class || !strings.Contains(f.Remedy, tt.remedy) || !errors.Is(f, tt.err) || !strings.Contains(f.Cause, tt.a.url) {
			t.Errorf("%v: %v", tt.err, f)
		}
	}
}

// Errors end in reports and in logs of CI.
func TestErrorsHoldNoPassword(t *testing.T) {
	a := address{provider: Podman, url: "ssh://core:secret@host/p.sock", setting: "CONTAINER_HOST", identity: "/no/such/key"}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	unreadable := address{provider: Podman, url: "ssh://core:%secret@host/p.sock", setting: "CONTAINER_HOST"}
	docker := address{provider: Docker, url: a.url, setting: "DOCKER_HOST"}
	_, optionsErr := docker.dockerOptions()
	for _, err := range []error{
		a.explain(t.Context(), io.EOF), a.explain(ended, io.EOF), a.explain(t.Context(), errors.New("no space left on device")),
		a.checkIdentity(environment(nil)), unreadable.checkIdentity(environment(nil)), optionsErr,
	} {
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "@host") {
			t.Errorf("got %v, want an error that shows the address without its password", err)
		}
	}
}

func TestOpenWithoutEngine(t *testing.T) {
	t.Setenv("CONTAINER_HOST", "unix://"+t.TempDir()+"/none.sock")
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	for _, provider := range []string{Podman, Docker} {
		_, err := Open(t.Context(), Options{Provider: provider})
		if f := failure.As(err); f == nil || f.Class != failure.EngineConnection || !strings.Contains(err.Error(), "none.sock") {
			t.Errorf("%s: %v", provider, err)
		}
		if Reachable(t.Context(), provider) == nil {
			t.Errorf("%s is reachable", provider)
		}
	}
	_, err := Open(t.Context(), Options{Provider: "lxd"})
	if f := failure.As(err); f == nil || f.Class != failure.Configuration {
		t.Error(err)
	}
	t.Setenv("CONTAINER_HOST", "ssh://root@127.0.0.1:1/x")
	t.Setenv("CONTAINER_SSHKEY", "/no/such/key")
	_, err = Open(t.Context(), Options{Provider: Podman})
	if f := failure.As(err); f == nil || f.Class != failure.Configuration || !strings.Contains(err.Error(), "CONTAINER_SSHKEY") {
		t.Error(err)
	}
}
