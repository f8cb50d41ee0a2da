package deploy

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const poll = 250 * time.Millisecond

func restConfig(kubeconfig string) (*rest.Config, error) {
	// Not BuildConfigFromFlags: it falls back to other configurations.
	loaded, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s cannot be used: %w", kubeconfig, err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s cannot be used: %w", kubeconfig, err)
	}
	cfg.QPS, cfg.Burst = 100, 200 // one client of a private cluster
	cfg.Timeout = 30 * time.Second
	return cfg, nil
}

func pause(ctx context.Context) error {
	t := time.NewTimer(poll)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
