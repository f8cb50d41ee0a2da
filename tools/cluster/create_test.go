package cluster

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// TestLostOutput: a client that loses sight of a command is the engine's
// failure, and worth repeating; a refusal of somebody's own credentials is not.
func TestLostOutput(t *testing.T) {
	for text, lost := range map[string]bool{
		"create cluster \"c\": failed to get file: file should only be one line, got 0 lines": true,
		"failed to remove control plane taint: command \"podman exec --privileged c-control-plane kubectl --kubeconfig=/etc/kubernetes/admin.conf taint nodes --all node-role.kubernetes.io/control-plane-\" failed with error: exit status 1\nError from server (Forbidden): unknown": true,
		"Error from server (Forbidden): pods is forbidden": false,
	} {
		d := failure.Of(lostOutput(errors.New(text)), failure.ClusterCreate, failure.Facts{})
		if got := d.Class == failure.EngineConnection && d.Retry == failure.RetryNow; got != lost {
			t.Errorf("%s: %+v", text, d)
		}
	}
}

func TestInTheWay(t *testing.T) {
	conmon, other, nginx := "conmon (pid 7) of container press-control-plane", "conmon (pid 9) of container web", "nginx (pid 8)"
	publishing := engine.Container{Name: "press", State: "running", Ports: []engine.Port{{Host: 28084}}}
	for name, c := range map[string]struct {
		holder     string
		containers []engine.Container
		free       time.Duration // after which the port can be had
		who        string        // who has it in the end; empty: nobody
		took       time.Duration // at most
	}{
		"free":                               {took: time.Millisecond},
		"of a container that was removed":    {holder: conmon, free: time.Second, took: 2 * time.Second},
		"an engine that was ended meanwhile": {holder: conmon, free: 50 * time.Second, took: 51 * time.Second},
		"an engine that never lets go":       {holder: conmon, free: time.Hour, who: conmon, took: letsGoAtLast + time.Second},
		"another program":                    {holder: nginx, free: time.Hour, who: nginx, took: letsGo + time.Second},
		"another engine's container":         {holder: other, free: time.Hour, who: other, took: letsGo + time.Second},
		"another container":                  {holder: conmon, containers: []engine.Container{publishing}, free: time.Hour, who: "the container press", took: letsGo + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				try := func() error {
					if time.Since(began) < c.free {
						return syscall.EADDRINUSE
					}
					return nil
				}
				cl := Cluster{Engine: &fakeEngine{containers: c.containers}}.withDefaults()
				who, err := cl.inTheWay(t.Context(), 28084, try, plan{nodes: []string{"press-control-plane"}}, func(context.Context, int) string { return c.holder })
				if inUse(err) != (c.who != "") || err != nil && who != c.who {
					t.Errorf("%q, %v; want %q", who, err, c.who)
				}
				if took := time.Since(began); took > c.took {
					t.Errorf("took %s, want at most %s", took, c.took)
				}
			})
		})
	}
}
