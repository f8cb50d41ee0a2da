package load_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
)

// world is an engine and a way to it that breaks when it is told to.
type world struct {
	name   string
	direct engine.Engine // past the proxy: for preparing and for looking from outside
	over   engine.Engine // as the load uses it
	proxy  *toxiproxy.Proxy
	socket string              // of the engine
	image  string              // of the nodes
	serve  *enginetest.Service // the engine's own service, if it may be killed
	env    []string            // by which the engine's command works past the proxy
	strats []string            // that can work here
}

// worlds runs test on every engine that E2E_ENGINES names, separated by commas
// ("all": every one; unset: only Debian's or whatever Podman is here).
func worlds(t *testing.T, test func(t *testing.T, w *world)) {
	if testing.Short() {
		t.Skip("needs an engine")
	}
	wanted := os.Getenv("E2E_ENGINES")
	if wanted == "" {
		wanted = "podman"
	}
	want := func(name string) bool { return wanted == "all" || slices.Contains(strings.Split(wanted, ","), name) }
	if want("podman") {
		t.Run("podman", func(t *testing.T) {
			s := enginetest.PodmanService(t)
			test(t, podmanWorld(t, "podman", s, nil))
		})
	}
	if want("podman5") || want("podman5-ssh") {
		t.Run("podman5", func(t *testing.T) {
			s := enginetest.Podman5(t)
			if want("podman5") {
				t.Run("unix", func(t *testing.T) { test(t, podmanWorld(t, "podman5", s, nil)) })
			}
			if want("podman5-ssh") {
				t.Run("ssh", func(t *testing.T) { test(t, podmanWorld(t, "podman5-ssh", s, enginetest.SSH)) })
			}
		})
	}
	if want("docker") {
		t.Run("docker", func(t *testing.T) { test(t, dockerWorld(t)) })
	}
}

// all is every strategy that sends something.
var all = []string{"thin", "stream", "archive"}

func podmanWorld(t *testing.T, name string, s *enginetest.Service, ssh func(testing.TB, string) *enginetest.Machine) *world {
	t.Helper()
	w := &world{name: name, socket: s.Socket, serve: s, strats: all}
	w.direct = open(t, engine.Podman)
	w.image = enginetest.NodeImage(t, engine.Podman)
	w.env = os.Environ()
	if ssh == nil {
		w.proxied(t, forward(t, s.Socket))
		t.Setenv("CONTAINER_HOST", "tcp://"+w.proxy.Listen)
	} else {
		m := ssh(t, s.Socket)
		w.proxied(t, m.Address())
		for _, kv := range m.EnvAt(w.proxy.Listen) {
			key, value, _ := strings.Cut(kv, "=")
			t.Setenv(key, value)
		}
	}
	w.over = open(t, engine.Podman)
	return w
}

func dockerWorld(t *testing.T) *world {
	t.Helper()
	conn := enginetest.Connect(t, engine.Docker)
	socket, local := strings.CutPrefix(conn.URL, "unix://")
	if !local {
		t.Skipf("the engine is at %q, not at a socket", conn.URL)
	}
	// It pushes nothing as it is, so nothing thinly.
	w := &world{name: "docker", socket: socket, strats: []string{"stream", "archive"}}
	w.direct = open(t, engine.Docker)
	w.image = enginetest.NodeImage(t, engine.Docker)
	w.env = os.Environ()
	w.proxied(t, forward(t, socket))
	t.Setenv("DOCKER_HOST", "tcp://"+w.proxy.Listen)
	w.over = open(t, engine.Docker)
	return w
}

func open(t *testing.T, provider string) engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// proxied puts Toxiproxy before a TCP address.
func (w *world) proxied(t *testing.T, to string) {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	w.proxy = toxiproxy.NewProxy(server, "engine", "127.0.0.1:0", to)
	if err := w.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.proxy.Stop)
}

// forward listens on TCP, which is all that Toxiproxy speaks, for a socket.
func forward(t *testing.T, socket string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go join(from, socket)
		}
	}()
	return listener.Addr().String()
}

// command is the engine's own command, which knows nothing of the proxy.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.direct.Name(), args...)
	if w.serve != nil {
		cmd = w.serve.Command(ctx, args...)
	} else {
		cmd.Env = w.env
	}
	return cmd
}

// toxic is a fault of the connection in Toxiproxy's own words.
func (w *world) toxic(t *testing.T, toxic string) {
	t.Helper()
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Error(err)
	}
}

// healed takes a fault back.
func (w *world) healed(name string) {
	_ = w.proxy.Toxics.RemoveToxic(context.Background(), name) // or it is not there
}

func join(from net.Conn, socket string) {
	to, err := net.Dial("unix", socket)
	if err != nil {
		_ = from.Close()
		return
	}
	go func() {
		_, _ = io.Copy(to, from) // its end is all that matters
		_ = to.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
	_, _ = from.Close(), to.Close()
}
