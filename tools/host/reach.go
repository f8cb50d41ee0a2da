package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// pingTimeout bounds one question to an engine. An engine in a machine that is
// busy pulling answers within a second or two.
const pingTimeout = 10 * time.Second

// endpoint is a place where an engine may listen.
type endpoint struct {
	provider string
	url      string
	identity string // ssh key; may be empty
	source   string // who says so, for messages: CONTAINER_HOST, default connection …
	machine  bool   // a Podman machine of this host
}

// errNotPodman and errNotDocker: something listens, but it is the other engine.
var (
	errNotPodman = errors.New("what listens there is not Podman")
	errNotDocker = errors.New("what listens there is Podman, not Docker")
)

// pingEngine asks the engine whether it serves.
func (h *host) pingEngine(ctx context.Context, e endpoint) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pingTimeout, fmt.Errorf("no answer within %s", pingTimeout))
	defer cancel()
	return hidePassword(h.ask(ctx, e), e.url)
}

// ask is pingEngine, with errors that may repeat the whole address.
func (h *host) ask(ctx context.Context, e endpoint) error {
	u, err := url.Parse(e.url)
	if err != nil {
		return fmt.Errorf("%s=%q is no address", e.source, settings.Shown(e.url)) // its reason quotes it
	}
	switch {
	case u.Scheme == "unix":
		return pingUnix(ctx, e.provider, u.Path)
	case e.provider == Docker:
		_, err := h.run.Run(ctx, command.Command{Name: "docker", Args: []string{"version", "--format", "{{.Server.Version}}"},
			Env: h.environ("DOCKER_HOST="+e.url, "DOCKER_CONTEXT=")})
		return err
	case u.Scheme == "ssh" || u.Scheme == "tcp":
		return pingBindings(ctx, e)
	default:
		return fmt.Errorf("%s=%q: unknown scheme %q", e.source, settings.Shown(e.url), u.Scheme)
	}
}

// pingUnix uses the endpoint that both engines answer without a version in the
// path; only Podman sends Libpod-API-Version.
func pingUnix(ctx context.Context, provider, path string) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/_ping", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ping answered %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	isPodman := res.Header.Get("Libpod-Api-Version") != ""
	switch {
	case provider == Podman && !isPodman:
		return errNotPodman
	case provider == Docker && isPodman:
		return errNotDocker
	}
	return nil
}

// pingBindings connects as the engine package will. The bindings' dial over ssh
// does not stop with its context, so it is left behind when time is up.
func pingBindings(ctx context.Context, e endpoint) error {
	done := make(chan error, 1)
	go func() {
		conn, err := bindings.NewConnectionWithIdentity(context.WithoutCancel(ctx), e.url, e.identity, e.machine)
		if err == nil {
			if c, clientErr := bindings.GetClient(conn); clientErr == nil {
				c.Client.CloseIdleConnections()
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// denied reports whether an engine is there but this user may not talk to it.
func denied(err error) bool { return errors.Is(err, fs.ErrPermission) }

// connection is one entry of `podman system connection list --format json`
// (podman-system-connection-list(1)); IsMachine exists since Podman 4.6.
type connection struct {
	Name, URI, Identity string
	Default, IsMachine  bool
}

// connections lists Podman's configured connections; without Podman there are none.
func (h *host) connections(ctx context.Context) []connection {
	if _, err := h.run.LookPath("podman"); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	out, err := h.output(ctx, "podman", "system", "connection", "list", "--format", "json")
	if err != nil {
		h.Log.Debug("cannot list podman's connections", "error", err)
		return nil
	}
	var list []connection
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		h.Log.Debug("cannot read podman's connections", "error", err)
		return nil
	}
	return list
}

// loopback reports whether an address leads to this host, as that of a Podman
// machine does: published ports can then be reached on localhost.
func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	if u.Scheme == "unix" {
		return true
	}
	name := u.Hostname()
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
