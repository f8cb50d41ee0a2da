// Package host makes a machine able to run the rest: it finds the container
// engine, starts or installs it where nothing else does, and adapts it to hosts
// with few privileges. It checks the host read-only (Doctor) and takes back what
// it changed (Undo).
//
// It owns the runtime folder (socket, pid and configuration of a service of
// ours) and the record of changes. It does not own what is done with an engine:
// images, containers and clusters belong to other packages.
package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// The engines, as KIND_EXPERIMENTAL_PROVIDER names them.
const (
	Podman = "podman"
	Docker = "docker"
)

// Options says what to use and where to keep things. The zero value works.
type Options struct {
	Provider     string // podman, docker or empty: whichever answers
	RuntimeDir   string // socket, pid, configuration; empty: DefaultRuntimeDir
	StateDir     string // record of changes; empty: DefaultStateDir
	AllowInstall bool   // packages may be installed
	Found        string // address that this run found earlier; in the environment it is no user's choice
	Log          *slog.Logger
	Progress     progress.Func
	Environ      []string // as os.Environ; nil: this process's own
}

// Connection is an engine that answered a moment ago.
type Connection struct {
	Provider string   // podman or docker
	URL      string   // unix://…, ssh://… or tcp://…; it may hold a password
	Env      []string // NAME=value for this process and its children (Kind and the engine's CLI)
	Ours     bool     // the service behind URL was started by this project
	Started  bool     // by this very call
	Changes  []Change // made to the host by this very call
}

// String is for people: the address is without a password.
func (c Connection) String() string { return c.Provider + " at " + settings.Shown(c.URL) }

// DefaultRuntimeDir is the private folder for the service of this project:
// on /run for root, else under XDG_RUNTIME_DIR or the temporary folder.
func DefaultRuntimeDir() string {
	if os.Getuid() == 0 && runtime.GOOS == "linux" {
		return "/run/kubernaut-e2e"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "kubernaut-e2e")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("kubernaut-e2e-%d", os.Getuid()))
}

// DefaultStateDir is where the record of changes lives: XDG_STATE_HOME, else
// ~/.local/state, else the runtime folder.
func DefaultStateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "kubernaut-e2e")
	}
	if home, err := os.UserHomeDir(); err == nil && home != "" {
		return filepath.Join(home, ".local", "state", "kubernaut-e2e")
	}
	return DefaultRuntimeDir()
}

// runner runs programs. It exists so that tests can stand in for a machine.
type runner interface {
	Run(ctx context.Context, c command.Command) (string, error)
	LookPath(name string) (string, error)
}

// programs are those of this machine.
type programs struct{}

func (programs) LookPath(name string) (string, error) { return command.LookPath(name) }

func (programs) Run(ctx context.Context, c command.Command) (string, error) {
	c.Keep, c.Grace = 12, 5*time.Second
	return command.Run(ctx, c)
}

// host is one call's view of the machine. Tests replace its parts.
type host struct {
	Options
	run   runner
	root  string // of the file system that facts, sockets and /lib/modules are looked for in
	facts facts.Facts
	ping  func(ctx context.Context, e endpoint) error
	env   map[string]string
	made  []Change
}

func newHost(o Options) *host {
	if o.RuntimeDir == "" {
		o.RuntimeDir = DefaultRuntimeDir()
	}
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	h := &host{Options: o, run: programs{}, root: "/", facts: facts.Read("/"), env: map[string]string{}}
	h.ping = h.pingEngine
	for _, kv := range o.Environ {
		name, value, _ := strings.Cut(kv, "=")
		h.env[name] = value
	}
	return h
}

func (h *host) getenv(name string) string { return h.env[name] }

// environ is the environment for a child, with changes ("NAME=" removes).
func (h *host) environ(changes ...string) []string {
	merged := map[string]string{}
	for k, v := range h.env {
		merged[k] = v
	}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		if value == "" {
			delete(merged, name)
			continue
		}
		merged[name] = value
	}
	out := make([]string, 0, len(merged))
	for k, v := range merged {
		out = append(out, k+"="+v)
	}
	return out
}

// output runs a program for its standard output.
func (h *host) output(ctx context.Context, name string, args ...string) (string, error) {
	return h.outputEnv(ctx, h.environ(), name, args...)
}

func (h *host) outputEnv(ctx context.Context, env []string, name string, args ...string) (string, error) {
	return h.run.Run(ctx, command.Command{Name: name, Args: args, Base: env})
}

// stream runs a program whose output is worth seeing as it comes.
func (h *host) stream(ctx context.Context, what string, c command.Command) (string, error) {
	show := h.Progress.Or()
	c.Lines = func(line string) { show(progress.Update{What: what, Line: line}) }
	return h.run.Run(ctx, c)
}

// prepareRuntimeDir creates the private folder and refuses one that somebody
// else could have put things into.
func (h *host) prepareRuntimeDir() error {
	if err := os.MkdirAll(h.RuntimeDir, 0o700); err != nil {
		return failure.New(failure.Configuration, "cannot create the runtime folder "+h.RuntimeDir,
			"set XDG_RUNTIME_DIR to a folder you may write to", err)
	}
	info, err := os.Lstat(h.RuntimeDir)
	if err != nil {
		return err
	}
	if !info.IsDir() || !ownedByUs(info) {
		return failure.New(failure.Configuration, "runtime folder "+h.RuntimeDir+" belongs to somebody else",
			"set XDG_RUNTIME_DIR to a folder of your own", nil)
	}
	if err := os.Chmod(h.RuntimeDir, 0o700); err != nil {
		return fmt.Errorf("make runtime folder private: %w", err)
	}
	return nil
}
