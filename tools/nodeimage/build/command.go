package build

import (
	"context"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// kept is how many of a program's last lines an error shows.
const kept = 30

// output runs c, shows its lines as progress of the task that ctx is for, and
// returns what it wrote to its standard output.
func output(ctx context.Context, c command.Command) (string, error) {
	c.Keep, c.Grace, c.Lines = kept, 10*time.Second, taskOf(ctx).say
	return command.Run(ctx, c)
}

func execute(ctx context.Context, c command.Command) error {
	_, err := output(ctx, c)
	return err
}
