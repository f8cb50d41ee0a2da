package host

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

const connectionList = `[{"Name":"m","URI":"ssh://core@127.0.0.1:51000/run/podman/podman.sock","Identity":"/home/x/m","Default":true,"IsMachine":true},
{"Name":"far","URI":"ssh://me@build.example.org/run/podman/podman.sock","Identity":"","Default":false}]`

func TestWhichEngineIsChosen(t *testing.T) {
	const machineURL = "ssh://core@127.0.0.1:51000/run/podman/podman.sock"
	tests := []struct {
		name      string
		provider  string
		env       []string
		programs  []string
		answers   map[string]string
		answering []string
		want      string // URL
		wantEnv   string
	}{
		{name: "CONTAINER_HOST", env: []string{"CONTAINER_HOST=ssh://a@h/s", "CONTAINER_SSHKEY=/k"}, programs: []string{"podman"},
			answering: []string{"ssh://a@h/s"}, want: "ssh://a@h/s", wantEnv: "CONTAINER_SSHKEY=/k"},
		{name: "CONTAINER_CONNECTION", env: []string{"CONTAINER_CONNECTION=far"}, programs: []string{"podman"},
			answers:   map[string]string{"podman system connection list": connectionList},
			answering: []string{"ssh://me@build.example.org/run/podman/podman.sock"}, want: "ssh://me@build.example.org/run/podman/podman.sock"},
		{name: "default connection to a machine", programs: []string{"podman"},
			answers:   map[string]string{"podman system connection list": connectionList},
			answering: []string{machineURL}, want: machineURL, wantEnv: "CONTAINER_SSHKEY=/home/x/m"},
		{name: "Docker when Podman does not answer", programs: []string{"podman", "docker"},
			answers:   map[string]string{"docker context inspect": "unix:///ctx.sock\n"},
			answering: []string{"unix:///ctx.sock"}, want: "unix:///ctx.sock", wantEnv: "DOCKER_HOST=unix:///ctx.sock"},
		{name: "Docker asked for though Podman answers", provider: Docker, programs: []string{"podman", "docker"},
			env: []string{"DOCKER_HOST=tcp://d:1"}, answering: []string{"tcp://d:1", machineURL}, want: "tcp://d:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, run := newFake(t, Options{Provider: tt.provider, Environ: append(tt.env, "HOME=/nowhere")}, easyHost(), tt.answering...)
			for _, p := range tt.programs {
				run.programs[p] = true
			}
			for k, v := range tt.answers {
				run.answers[k] = v
			}
			c, err := h.ensure(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if c.URL != tt.want || c.Started || len(c.Changes) != 0 {
				t.Errorf("got %+v, want %s and no change", c, tt.want)
			}
			if tt.wantEnv != "" && !slices.Contains(c.Env, tt.wantEnv) {
				t.Errorf("environment %v lacks %s", c.Env, tt.wantEnv)
			}
		})
	}
}

func TestRemoteDefaultConnectionIsNoInvitation(t *testing.T) {
	h, run := newFake(t, Options{}, easyHost(), "ssh://me@build.example.org/s")
	run.programs["podman"] = true
	run.answers["podman system connection list"] = `[{"Name":"far","URI":"ssh://me@build.example.org/s","Default":true}]`
	found, err := h.find(context.Background(), h.wanted())
	if err != nil || found != nil {
		t.Errorf("found %+v, %v; a remote default connection must be asked for on Linux", found, err)
	}
	h.facts.OS = "darwin"
	if found, err = h.find(context.Background(), h.wanted()); err != nil || found == nil {
		t.Errorf("found %+v, %v; macOS has nothing but connections", found, err)
	}
}

func TestSystemSocketIsUsedOnlyWhereItCanWork(t *testing.T) {
	h, run := newFake(t, Options{}, easyHost())
	run.programs["podman"] = true
	if got, _ := h.candidates(context.Background(), Podman); !strings.HasSuffix(got[len(got)-1].url, "/run/podman/podman.sock") {
		t.Errorf("easy host: candidates %+v lack the system socket", got)
	}
	h.facts = bareHost()
	if got, _ := h.candidates(context.Background(), Podman); len(got) != 1 {
		t.Errorf("bare host: candidates %+v, want our own service alone", got)
	}
}

func TestEngineErrors(t *testing.T) {
	tests := []struct {
		name     string
		opts     Options
		env      []string
		programs []string
		pingErr  error
		class    failure.Class
		text     string // in the cause or the remedy
	}{
		{name: "unknown provider", opts: Options{Provider: "lxc"}, class: failure.Configuration, text: `unknown engine "lxc"`},
		{name: "named engine is dead", env: []string{"CONTAINER_HOST=tcp://h:1"}, programs: []string{"podman"}, class: failure.EngineConnection, text: "CONTAINER_HOST"},
		{name: "named Docker is dead", env: []string{"DOCKER_HOST=tcp://h:1"}, programs: []string{"podman", "docker"}, class: failure.EngineConnection, text: "DOCKER_HOST"},
		{name: "unknown connection", env: []string{"CONTAINER_CONNECTION=x"}, programs: []string{"podman"}, class: failure.Configuration, text: "CONTAINER_CONNECTION=x"},
		{name: "no permission", env: []string{"DOCKER_HOST=unix:///d.sock"}, opts: Options{Provider: Docker}, programs: []string{"docker"},
			pingErr: &fs.PathError{Op: "dial", Path: "/d.sock", Err: fs.ErrPermission}, class: failure.Configuration, text: "no permission"},
		{name: "nothing, may not install", programs: []string{"apt-get"}, class: failure.Configuration, text: "sudo apt-get install podman"},
		{name: "nothing, no way to install", opts: Options{AllowInstall: true}, class: failure.Configuration, text: "neither apt-get, dnf nor brew"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Environ = append(tt.env, "HOME=/nowhere")
			h, run := newFake(t, tt.opts, easyHost())
			for _, p := range tt.programs {
				run.programs[p] = true
			}
			if tt.pingErr != nil {
				h.ping = func(context.Context, endpoint) error { return tt.pingErr }
			}
			_, err := h.ensure(context.Background())
			e := failure.As(err)
			if e == nil || e.Class != tt.class || !strings.Contains(e.Cause+" "+e.Remedy, tt.text) || e.Remedy == "" {
				t.Errorf("got %#v, want class %s with %q and a remedy", err, tt.class, tt.text)
			}
			if run.called("podman system service") {
				t.Error("a service was started")
			}
		})
	}
}

func TestForeignRuntimeDirIsRefused(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	h, _ := newFake(t, Options{}, easyHost())
	h.RuntimeDir = link
	if _, err := h.ensure(context.Background()); failure.As(err) == nil {
		t.Errorf("a symbolic link as runtime folder was accepted: %v", err)
	}
}
