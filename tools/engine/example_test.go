package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
)

// Example runs a command in a container and tells the three ways it can end.
func Example() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Provider: engine.Podman})
	if err != nil {
		fmt.Println(err) // names the address and what helps
		return
	}
	err = e.Exec(ctx, "node", engine.ExecRequest{Cmd: []string{"ctr", "images", "import", "-"}, Stdin: os.Stdin})
	var ended *engine.ExitError
	var lost *engine.LostExec
	switch {
	case errors.As(err, &lost):
		err = e.EndExec(ctx, lost) // it may still run
	case errors.As(err, &ended):
		fmt.Println("ended with", ended.Code)
	}
	fmt.Println(err)
}
