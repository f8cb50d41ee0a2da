package cluster

import (
	"errors"
	"testing"

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
