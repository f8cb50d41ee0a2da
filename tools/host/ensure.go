package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/lock"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// EnsureEngine returns an engine that answers. It takes the provider that is
// asked for; else Podman if it answers, else Docker if it answers, else Podman
// started or installed. Where CONTAINER_HOST, CONTAINER_CONNECTION or
// DOCKER_HOST name an engine, that one is used and no other is ever started.
//
// It is idempotent and safe in several processes at once: they share one
// service. Errors are of class configuration (nothing to work with and no way
// to get it), engine-connection (an engine that should answer does not) or
// engine-broken (a service of ours does not start). After an error no service
// of this call's is left running; changes that were made stay on record.
func EnsureEngine(ctx context.Context, o Options) (Connection, error) {
	return newHost(o).ensure(ctx)
}

// Locate is EnsureEngine that changes nothing: it finds an engine that answers
// or says why there is none.
func Locate(ctx context.Context, o Options) (Connection, error) {
	h := newHost(o)
	found, err := h.find(ctx, h.wanted())
	if err != nil {
		return Connection{}, err
	}
	if found == nil {
		return Connection{}, h.nothingAnswers()
	}
	return h.connect(*found), nil
}

// Reopen is Locate for those who clear an engine: what of ours is in one that
// lacks only its service is reached by starting that: Podman's, and a dockerd of
// ours that ended and has data here. Nothing is installed.
func Reopen(ctx context.Context, o Options) (Connection, error) {
	if o.Provider == Docker && !fileExists(newHost(o).dockerRoot()) {
		return Locate(ctx, o)
	}
	o.AllowInstall = false
	return EnsureEngine(ctx, o)
}

func (h *host) wanted() []string {
	if h.Provider != "" {
		return []string{h.Provider}
	}
	return []string{Podman, Docker}
}

func (h *host) ensure(ctx context.Context) (Connection, error) {
	if h.Provider != "" && h.Provider != Podman && h.Provider != Docker {
		return Connection{}, failure.New(failure.Configuration, fmt.Sprintf("unknown engine %q", h.Provider),
			"set KIND_EXPERIMENTAL_PROVIDER to podman or docker", nil)
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return Connection{}, err
	}
	defer unlock()
	found, err := h.find(ctx, h.wanted())
	if err != nil {
		return Connection{}, err
	}
	started := false
	if found == nil || h.outdated(*found) {
		if found == nil {
			found, err = h.startEngine(ctx)
		} else {
			found, err = h.startPodman(ctx)
		}
		if err != nil {
			return Connection{Changes: h.made}, err
		}
		started = true
	}
	if err := h.ensureCLI(ctx, found.provider); err != nil {
		return Connection{Changes: h.made}, err
	}
	if err := h.prepareModules(ctx, *found); err != nil {
		return Connection{Changes: h.made}, err
	}
	if err := h.raiseLimits(ctx, *found); err != nil {
		return Connection{Changes: h.made}, err
	}
	c := h.connect(*found)
	c.Started, c.Changes = started, h.made
	return c, nil
}

// lock keeps two processes from starting the same service twice.
func (h *host) lock(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Minute, errors.New("another process has been preparing the engine for 15 minutes"))
	defer cancel()
	path := filepath.Join(h.RuntimeDir, "lock")
	l, err := lock.Take(ctx, path, h.prepareRuntimeDir, func() {
		h.Log.Info("waiting for another run that prepares the engine")
	})
	if err != nil && ctx.Err() != nil {
		err = failure.New(failure.StaleState, "cannot lock "+path, "wait for the other run to end, or end it", err)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil
}

// find returns the first endpoint that answers, or nil. An error means that the
// user named an engine that does not answer, or may not be talked to.
func (h *host) find(ctx context.Context, providers []string) (*endpoint, error) {
	for _, p := range providers {
		candidates, named := h.candidates(ctx, p)
		for _, c := range candidates {
			err := h.ping(ctx, c)
			if err == nil {
				h.Log.Debug("engine answers", "provider", p, "url", settings.Shown(c.url), "source", c.source)
				return &c, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			h.Log.Debug("engine does not answer", "provider", p, "url", settings.Shown(c.url), "source", c.source, "error", err)
			// With a free choice, DOCKER_HOST may well point at Podman's socket.
			if named && (h.Provider == p || !errors.Is(err, errNotDocker)) {
				return nil, unanswered(c, err)
			}
			if denied(err) && h.Provider == p {
				return nil, permission(c, err)
			}
		}
	}
	return nil, nil
}

// candidates lists where an engine may listen, best first. named means that the
// user chose the place: it is the only one.
func (h *host) candidates(ctx context.Context, provider string) (list []endpoint, named bool) {
	if provider == Docker {
		return h.dockerCandidates(ctx)
	}
	own := endpoint{provider: Podman, url: h.podmanService().url(), source: "service of kubernaut-e2e"}
	if u := h.getenv("CONTAINER_HOST"); u != "" && u != own.url {
		return []endpoint{{provider: Podman, url: u, identity: h.getenv("CONTAINER_SSHKEY"), source: h.namedBy("CONTAINER_HOST", u)}}, true
	}
	all := h.connections(ctx)
	if name := h.getenv("CONTAINER_CONNECTION"); name != "" {
		for _, c := range all {
			if c.Name == name {
				return []endpoint{c.endpoint("CONTAINER_CONNECTION=" + name)}, true
			}
		}
		return []endpoint{{provider: Podman, url: "", source: "CONTAINER_CONNECTION=" + name}}, true
	}
	local := h.facts.OS == "linux"
	if local {
		list = append(list, own)
	}
	for _, c := range all {
		// On Linux Podman itself works locally unless told otherwise, so a default
		// connection to some other computer is not an invitation to use that one.
		if c.Default && (!local || loopback(c.URI)) {
			list = append(list, c.endpoint("podman's default connection "+c.Name))
		}
	}
	if local {
		list = append(list, h.localSockets()...)
	}
	return list, false
}

func (c connection) endpoint(source string) endpoint {
	return endpoint{provider: Podman, url: c.URI, identity: c.Identity, source: source, machine: c.IsMachine}
}

// localSockets are systemd's, rootless then rootful. A service there reads the
// system's configuration: where that cannot work on this host they are left out
// and a service of ours is used.
func (h *host) localSockets() []endpoint {
	if _, why, err := h.podmanConf(); err != nil || len(why) > 0 {
		return nil
	}
	var list []endpoint
	if dir := h.getenv("XDG_RUNTIME_DIR"); dir != "" && h.facts.UID != 0 {
		list = append(list, endpoint{provider: Podman, url: "unix://" + filepath.Join(dir, "podman/podman.sock"), source: "rootless socket"})
	}
	return append(list, endpoint{provider: Podman, url: "unix://" + filepath.Join(h.root, "run/podman/podman.sock"), source: "system socket"})
}

// connect describes a found engine for those who use it.
func (h *host) connect(e endpoint) Connection {
	c := Connection{Provider: e.provider, URL: e.url}
	if e.provider == Docker {
		c.Env = append(c.Env, "DOCKER_HOST="+e.url)
		c.Ours = e.url == h.dockerService().url()
		return c
	}
	c.Ours = e.url == h.podmanService().url()
	if c.Ours && fileExists(h.confFile()) {
		c.Env = append(c.Env, "CONTAINERS_CONF="+h.confFile())
	}
	c.Env = append(c.Env, "CONTAINER_HOST="+e.url)
	if e.identity != "" {
		c.Env = append(c.Env, "CONTAINER_SSHKEY="+e.identity)
	}
	return c
}

// foundBefore is the source of an engine whose address is in the environment
// because a run found it and put it there.
const foundBefore = "this run"

func (h *host) namedBy(setting, url string) string {
	if url == h.Found {
		return foundBefore
	}
	return setting
}

func unanswered(c endpoint, err error) error {
	if denied(err) {
		return permission(c, err)
	}
	name := c.source
	if c.url == "" {
		return failure.New(failure.Configuration, name+" names no connection that podman knows",
			"see `podman system connection list`, or unset CONTAINER_CONNECTION", nil)
	}
	if c.source == foundBefore {
		return failure.New(failure.EngineConnection, fmt.Sprintf("%s at %s, which this run has used, does not answer", c.provider, settings.Shown(c.url)),
			"start it again; mage doctor shows more", err)
	}
	return failure.New(failure.EngineConnection, fmt.Sprintf("no %s answers at %s (from %s)", c.provider, settings.Shown(c.url), name),
		fmt.Sprintf("start that engine, or unset %s to let another one be found", name), err)
}

func permission(c endpoint, err error) error {
	remedy := "run as a user who may open the socket, or use rootless Podman: KIND_EXPERIMENTAL_PROVIDER=podman"
	if c.provider == Docker {
		remedy = "sudo usermod -aG docker \"$USER\", then log in again; or KIND_EXPERIMENTAL_PROVIDER=podman"
	}
	return failure.New(failure.Configuration, fmt.Sprintf("no permission to talk to %s at %s", c.provider, settings.Shown(c.url)), remedy, err)
}

func (h *host) nothingAnswers() error {
	which := h.Provider
	if which == "" {
		which = "engine (Podman or Docker)"
	}
	return failure.New(failure.EngineConnection, "no "+which+" answers on this host", "mage setup", nil)
}
