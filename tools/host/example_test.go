package host_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/host"
)

// A pipeline ensures an engine once and gives its environment to all children.
func ExampleEnsureEngine() {
	conn, err := host.EnsureEngine(context.Background(), host.Options{Provider: host.Podman})
	if err != nil {
		fmt.Println(err) // names the cause and the remedy
		return
	}
	for _, kv := range conn.Env {
		name, value, _ := strings.Cut(kv, "=")
		_ = os.Setenv(name, value)
	}
}
