package host

import "context"

func (h *host) startMachine(context.Context) (*endpoint, error) { return nil, nil }
