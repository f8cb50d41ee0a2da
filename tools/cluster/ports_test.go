package cluster

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

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
