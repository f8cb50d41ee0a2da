// Package enginetest gives integration tests a real engine. Only tests import
// it. It owns the rule for machines without one: skip loudly, or fail in CI.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Skipped begins the skip text of every test that found no engine, so that a CI
// job can look for it.
const Skipped = "SKIP-NO-ENGINE"

// prepareTimeout bounds finding or starting an engine; nothing is installed.
const prepareTimeout = 2 * time.Minute

// Podman gives a connected Podman; see [Connect]. Tests of package engine itself
// must be in package engine_test to use it.
func Podman(t testing.TB) engine.Engine {
	t.Helper()
	return open(t, host.Podman)
}

// Docker gives a connected Docker; see [Connect].
func Docker(t testing.TB) engine.Engine {
	t.Helper()
	return open(t, host.Docker)
}

func open(t testing.TB, provider string) engine.Engine {
	t.Helper()
	conn := Connect(t, provider)
	e, err := engine.Open(context.Background(), engine.Options{Provider: provider})
	if err != nil {
		t.Fatalf("%s answers at %s, but cannot be opened: %v", provider, conn.URL, err)
	}
	if conn.Ours && provider == host.Podman {
		// As in the pipeline: Kind's podman works on the same storage by itself.
		// The test's end brings the variable's old value back.
		if err := os.Unsetenv("CONTAINER_HOST"); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// Connect ensures an engine of that provider ("podman" or "docker") and sets its
// environment for the test, so the test must not be parallel when it connects.
// Without one the test is skipped, in CI it fails.
func Connect(t testing.TB, provider string) host.Connection {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), prepareTimeout)
	defer cancel()
	conn, err := host.EnsureEngine(ctx, host.Options{
		Provider: provider,
		Log:      slog.New(slog.NewTextHandler(writer{t}, nil)),
	})
	if err != nil {
		Skip(t, provider+": "+err.Error())
	}
	for _, kv := range conn.Env {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	return conn
}

// NodeImage gives the reference of a node image that the provider's engine, which
// the test has connected to, holds: E2E_NODE_IMAGE, or what the pipeline uses. The first call on a machine without a registry
// builds it, for many minutes, and says so on standard error; the test's own
// deadline bounds that.
func NodeImage(t testing.TB, provider string) string {
	t.Helper()
	ctx := t.Context()
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, limited := d.Deadline(); limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadlineCause(ctx, end.Add(-10*time.Second),
				errors.New("the test's time is up: run `mage setup` first, or give go test a longer -timeout"))
			defer cancel()
		}
	}
	log := slog.New(slog.NewTextHandler(writer{t}, nil))
	result, err := nodeimage.Ensure(ctx, nodeimage.Options{Image: os.Getenv("E2E_NODE_IMAGE"), Provider: provider, Log: log, Progress: heartbeat(30 * time.Second)})
	if err != nil {
		t.Fatalf("node image: %v (%v)", err, context.Cause(ctx))
	}
	return result.Ref
}

// heartbeat shows one update per interval: what go test keeps back until the end
// would look like a hang.
func heartbeat(every time.Duration) progress.Func {
	var mu sync.Mutex
	next := time.Now().Add(every)
	return func(u progress.Update) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().After(next) {
			next = time.Now().Add(every)
			fmt.Fprintln(os.Stderr, u.What, u.Line)
		}
	}
}

// Skip ends a test that cannot have what it needs: it fails where CI=true.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %s (CI=true: not skipping)", Skipped, why)
	}
	t.Skipf("%s: %s", Skipped, why)
}

type writer struct{ t testing.TB }

func (w writer) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
