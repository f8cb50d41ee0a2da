package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// address is where an engine's API is, and how we came to look there.
type address struct {
	provider string
	url      string // unix:///…, tcp://…, ssh://…
	setting  string // what to change to look elsewhere
	identity string // SSH key file, may be empty
	machine  bool   // a Podman machine
	name     string // of connection or context, may be empty
	tls      string // folder with ca.pem, cert.pem and key.pem, may be empty
}

func (a address) shown() string { return settings.Shown(a.url) }

// withoutURL is the cause of an error of [url.Parse], whose text repeats the
// address; any other error is left as it is.
func withoutURL(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) && parse.Op == "parse" {
		return parse.Err
	}
	return err
}

func (a address) remote() bool { return !strings.HasPrefix(a.url, "unix:") }

func (a address) startCommand() string {
	switch {
	case a.machine:
		return "podman machine start"
	case a.remote():
		return "start the engine on that host, or correct " + a.setting
	case runtime.GOOS == "darwin" && a.provider == Docker:
		return "start Docker Desktop (or your Docker VM)"
	default:
		return "mage setup"
	}
}

// podmanAddress resolves as podman itself does, see podman-remote(1) and
// podman-system-connection(1).
func podmanAddress(ctx context.Context, getenv func(string) string) (address, error) {
	a := address{provider: Podman, setting: "CONTAINER_HOST", identity: getenv("CONTAINER_SSHKEY")}
	if a.url = getenv("CONTAINER_HOST"); a.url != "" {
		// A machine's own key comes with host keys nobody keeps: each
		// recreation of the machine changes them.
		a.machine = strings.Contains(a.identity, "/machine") && isLoopback(a.url)
		return a, nil
	}
	if c, ok := defaultConnection(ctx); ok {
		a.url, a.identity, a.machine, a.name = c.URI, c.Identity, c.IsMachine, c.Name
		a.setting = "the default connection: podman system connection default NAME"
		return a, nil
	}
	if runtime.GOOS != "linux" {
		return a, failure.New(failure.EngineConnection, "there is no Podman machine", "mage setup", nil)
	}
	a.url = "unix:///run/podman/podman.sock"
	if os.Geteuid() != 0 {
		a.url = "unix://" + filepath.Join(runtimeDir(getenv), "podman", "podman.sock")
	}
	return a, nil
}

func isLoopback(address string) bool {
	return strings.Contains(address, "@127.0.0.1") || strings.Contains(address, "@localhost")
}

func runtimeDir(getenv func(string) string) string {
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return fmt.Sprintf("/run/user/%d", os.Getuid())
}

// checkIdentity refuses an SSH address for which nothing but a password is
// left: the bindings would ask for one on the terminal.
func (a address) checkIdentity(getenv func(string) string) error {
	u, err := url.Parse(a.url)
	if err != nil {
		return failure.New(failure.Configuration, fmt.Sprintf("%q is no address of Podman", a.shown()), "correct "+a.setting, withoutURL(err))
	}
	if u.Scheme != "ssh" {
		return nil
	}
	if a.identity != "" {
		if _, err := os.Stat(a.identity); err != nil {
			return failure.New(failure.Configuration, fmt.Sprintf("the SSH key %q for %s is not there", a.identity, a.shown()), "set CONTAINER_SSHKEY to the key's file", err)
		}
		return nil
	}
	home, _ := os.UserHomeDir()
	if _, password := u.User.Password(); password || getenv("SSH_AUTH_SOCK") != "" || exists(home+"/.ssh/config") {
		return nil
	}
	return failure.New(failure.Configuration, "there is no SSH key for "+a.shown(), "set CONTAINER_SSHKEY to the key's file", nil)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

type connection struct {
	Name, URI, Identity string
	Default, IsMachine  bool
}

// defaultConnection asks podman, which alone knows the files and their order.
// No podman, or none that has a default, is no connection.
func defaultConnection(ctx context.Context) (connection, bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", "system", "connection", "list", "--format", "json")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return connection{}, false
	}
	return parseConnections(out)
}

func parseConnections(out []byte) (connection, bool) {
	var list []connection
	if json.Unmarshal(out, &list) != nil {
		return connection{}, false
	}
	for _, c := range list {
		// Podman before 5 marks the default in the name.
		if strings.HasSuffix(c.Name, "*") {
			c.Name, c.Default = strings.TrimSuffix(c.Name, "*"), true
		}
		if c.Default && c.URI != "" {
			c.IsMachine = c.IsMachine || strings.Contains(c.Identity, "/machine")
			return c, true
		}
	}
	return connection{}, false
}

// dockerAddress resolves as the docker CLI does: DOCKER_HOST, DOCKER_CONTEXT,
// the current context, the default sockets.
func dockerAddress(getenv func(string) string) (address, error) {
	a := address{provider: Docker, setting: "DOCKER_HOST"}
	if getenv("DOCKER_TLS_VERIFY") != "" {
		a.tls = getenv("DOCKER_CERT_PATH")
	}
	if a.url = getenv("DOCKER_HOST"); a.url != "" {
		return a, nil
	}
	dir := getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return a, failure.New(failure.Configuration, "no home folder, so no Docker configuration", "set HOME or DOCKER_HOST", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		name = currentContext(dir)
	}
	if name != "" && name != "default" {
		return contextAddress(a, dir, name)
	}
	a.url = "unix:///var/run/docker.sock"
	rootless := filepath.Join(runtimeDir(getenv), "docker.sock")
	if _, err := os.Stat("/var/run/docker.sock"); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(rootless); err == nil {
			a.url = "unix://" + rootless
		}
	}
	return a, nil
}

func currentContext(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return ""
	}
	var c struct{ CurrentContext string }
	if json.Unmarshal(raw, &c) != nil {
		return ""
	}
	return c.CurrentContext
}

// contextAddress reads a context's metadata, laid out as docker/cli's
// cli/context/store does: folders named by the SHA-256 of the context's name.
func contextAddress(a address, dir, name string) (address, error) {
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	a.name, a.setting = name, "the context: docker context use NAME"
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	raw, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if err == nil {
		err = json.Unmarshal(raw, &meta)
	}
	if a.url = meta.Endpoints["docker"].Host; err != nil || a.url == "" {
		return a, failure.New(failure.Configuration, fmt.Sprintf("Docker context %q does not exist", name),
			"docker context ls, then unset DOCKER_CONTEXT or set it to one of them", err)
	}
	tls := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(tls); err == nil {
		a.tls = tls
	}
	return a, nil
}
