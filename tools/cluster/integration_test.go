package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// onEngine gives a cluster of a name nobody else has, and the node image that
// is on the engine. Everything is removed at the test's end.
func onEngine(t *testing.T, name string) (Cluster, Spec) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes a cluster")
	}
	eng := enginetest.Podman(t)
	if os.Getenv("KIND_EXPERIMENTAL_PODMAN_NETWORK") == "" {
		t.Setenv("KIND_EXPERIMENTAL_PODMAN_NETWORK", settings.NetworkName)
	}
	c := Cluster{
		Name: fmt.Sprintf("%s-%d", name, os.Getpid()), Provider: eng.Name(), Engine: eng,
		Kubeconfig: filepath.Join(t.TempDir(), "config"), StateDir: t.TempDir(), Network: settings.NetworkName,
		Progress: func(u progress.Update) { t.Log(u.What, u.Line) },
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Down(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return c, Spec{NodeImage: enginetest.NodeImage(t, eng.Name())}
}

func up(t *testing.T, c Cluster, spec Spec, want Outcome) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	start := time.Now()
	state, err := c.Up(ctx, spec)
	took := time.Since(start)
	if err != nil {
		t.Fatalf("after %s: %v", took, err)
	}
	if state.Outcome != want {
		t.Fatalf("outcome %s (%s), want %s", state.Outcome, state.Reason, want)
	}
	t.Logf("%s in %s: %s", state.Outcome, took.Round(time.Millisecond), state.Reason)
	return state
}

func TestLifecycle(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	theirs := filepath.Join(home, ".kube", "config")
	if err := writeFile(theirs, []byte("not ours")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", theirs)
	c, spec := onEngine(t, settings.Label+"-life") // a name by which a teardown knows what is left if this test is killed

	cancelled(t, c, spec)
	state := up(t, c, spec, Created)
	if len(state.Nodes) != 1 || state.Nodes[0] != c.Name+"-control-plane" || state.Version == "" {
		t.Fatalf("state %+v", state)
	}
	info, err := os.Stat(c.Kubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 || !IsOurs(c.Kubeconfig) {
		t.Fatalf("kubeconfig: %v, %v", info, err)
	}
	up(t, c, spec, Reused)

	if err := os.WriteFile(c.Kubeconfig, []byte("{torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	up(t, c, spec, Repaired)

	if err := c.Engine.(engine.Engine).StopContainer(t.Context(), state.Nodes[0], time.Second); err != nil {
		t.Fatal(err)
	}
	up(t, c, spec, Repaired)
	up(t, c, spec, Reused)

	if err := c.writeRecord(false, nil); err != nil { // as a killed run leaves it
		t.Fatal(err)
	}
	evidence := ""
	spec.BeforeDelete = func(_ context.Context, reason string) { evidence = reason }
	if state := up(t, c, spec, Recreated); state.Reason != evidence || evidence == "" {
		t.Errorf("evidence was taken for %q, recreated for %q", evidence, state.Reason)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(ctx); err != nil || s.Exists {
		t.Fatalf("after Down: %+v, %v", s, err)
	}
	if _, err := os.Stat(c.Kubeconfig); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("kubeconfig is still there: %v", err)
	}
	if raw, _ := os.ReadFile(theirs); string(raw) != "not ours" {
		t.Errorf("~/.kube/config was changed to %q", raw)
	}
	if err := c.Down(ctx); err != nil {
		t.Errorf("Down of nothing: %v", err)
	}
}

// cancelled ends creation at several moments: nothing may be left.
func cancelled(t *testing.T, c Cluster, spec Spec) {
	t.Helper()
	for _, after := range []time.Duration{300 * time.Millisecond, 2 * time.Second, 8 * time.Second} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		start := time.Now()
		_, err := c.Up(ctx, spec)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("ended after %s: %v", after, err)
		}
		t.Logf("ended after %s, returned %s later: %v", after, (time.Since(start) - after).Round(time.Millisecond), err)
		if late := time.Since(start) - after; late > cleanUp {
			t.Errorf("returned %s after the end", late)
		}
		if s, err := c.Status(t.Context()); err != nil || s.Exists {
			t.Errorf("left behind: %+v, %v", s, err)
		}
	}
}

// TestPortTaken publishes a port that this test holds.
func TestPortTaken(t *testing.T) {
	c, spec := onEngine(t, "cl-port")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	spec.Config = fmt.Appendf(nil, "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- extraPortMappings:\n  - {containerPort: 30000, hostPort: %d, listenAddress: 127.0.0.1}\n", port)
	spec.PortHolder = func(context.Context, int) string { return "this test" }
	_, err = c.Up(t.Context(), spec)
	if e := failure.As(err); e == nil || e.Class != failure.StaleState ||
		!strings.Contains(err.Error(), fmt.Sprint(port)) || !strings.Contains(err.Error(), "this test") {
		t.Fatalf("%v", err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Exists {
		t.Fatalf("half-made: %+v, %v", s, err)
	}
}
