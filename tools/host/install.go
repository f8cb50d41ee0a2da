package host

import (
	"context"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// ensureCLI makes sure that the engine's command is there: Kind calls it.
func (h *host) ensureCLI(ctx context.Context, provider string) error {
	if _, err := h.run.LookPath(provider); err == nil {
		return nil
	}
	return failure.New(failure.Configuration, provider+" is not installed", "mage setup", nil)
}

func (h *host) privilege(context.Context) ([]string, error) { return nil, nil }
