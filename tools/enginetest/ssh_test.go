package enginetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// pinged is a socket that answers as an engine does, and a Machine before it.
func pinged(t *testing.T) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Libpod-API-Version", "5.0.0")
		if strings.HasSuffix(r.URL.Path, "/export") {
			_, _ = io.CopyN(w, zeros{}, 1<<20)
		}
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return SSH(t, socket)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestMachine(t *testing.T) {
	m := pinged(t)
	e, err := engine.Open(t.Context(), engine.Options{Provider: engine.Podman})
	if err != nil {
		t.Fatal(err)
	}
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return e.Ping(ctx)
	}
	answers := func(when string) {
		t.Helper()
		if err := ping(); err != nil {
			if err = ping(); err != nil { // the first may find the broken connection
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	answers("untouched")
	m.Cut()
	answers("after a cut")

	var got counter
	m.CutAfter(100_000)
	if err := e.Save(t.Context(), "image", &got); err == nil || got == 0 || got > 100_000 {
		t.Errorf("cut after 100000 bytes: got %d, %v", got, err)
	}
	answers("after a cut in the middle")
	got = 0
	if err := e.Save(t.Context(), "image", &got); got != 1<<20 { // which is no image: the error says so
		t.Errorf("it cuts once: got %d, %v", got, err)
	}

	m.Stall()
	// Not by the engine: the bindings' attempt to connect, which no context ends,
	// would race with the next one over a global of theirs.
	conn, err := net.Dial("tcp", m.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	greeting := func() error {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err := conn.Read(make([]byte, 8))
		return err
	}
	if err := greeting(); err == nil {
		t.Error("stalled, and answers")
	}
	m.Resume()
	if err := greeting(); err != nil {
		t.Errorf("resumed: %v", err)
	}
	answers("resumed")

	m.Refuse()
	_ = ping()
	if err := ping(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("refusing: %v", err)
	}
	m.Return()
	answers("returned")
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
