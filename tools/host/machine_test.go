package host

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/host/machine"
)

// TestRestartWaitsForTheConnectionInUse: a machine has two engines, and the one
// in use need not be behind the default connection, nor on the same port after
// the restart.
func TestRestartWaitsForTheConnectionInUse(t *testing.T) {
	const before, after = "ssh://root@127.0.0.1:51000/run/podman/podman.sock", "ssh://root@127.0.0.1:51999/run/podman/podman.sock"
	list := func(root string) string {
		return fmt.Sprintf(`[{"Name":"m","URI":"ssh://core@127.0.0.1:51000/run/user/501/podman/podman.sock","Identity":"/k","Default":true,"IsMachine":true},
			{"Name":"m-root","URI":%q,"Identity":"/k","Default":false,"IsMachine":true}]`, root)
	}
	for _, named := range []string{"CONTAINER_HOST=" + before, "CONTAINER_CONNECTION=m-root"} {
		// The default connection's engine answers all the time, and is another one.
		h, run := newFake(t, Options{Provider: Podman, Environ: []string{"HOME=/nowhere", named}}, easyHost(), after, "ssh://core@*")
		run.programs["podman"] = true
		run.answers["podman system connection list"] = list(before)
		run.answers["podman machine list"] = `[{"Name":"m","Default":true,"Running":true}]`
		run.answers["podman machine inspect"] = `[{"State":"running"}]`
		run.on = func(call string) {
			if strings.HasPrefix(call, "podman machine start") {
				run.answers["podman system connection list"] = list(after)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := h.restartMachine(ctx, machine.Always, "", nil)
		if err != nil || c == nil || c.URL != after {
			t.Errorf("%s: %+v, %v; want %s", named, c, err, after)
		}
	}
}
