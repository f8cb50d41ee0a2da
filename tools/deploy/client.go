package deploy

import (
	"context"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

const poll = 250 * time.Millisecond

func restConfig(kubeconfig string) (*rest.Config, error) {
	// Not BuildConfigFromFlags: it falls back to other configurations.
	loaded, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, unusable(kubeconfig, err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	if err != nil {
		return nil, unusable(kubeconfig, err)
	}
	cfg.QPS, cfg.Burst = 100, 200 // one client of a private cluster
	cfg.Timeout = 30 * time.Second
	return cfg, nil
}

func unusable(kubeconfig string, err error) error {
	e := failure.New(failure.StaleState, "kubeconfig "+kubeconfig+" cannot be used", "mage clusterUp writes it again", err)
	e.Signature = failure.KubeconfigBroken
	return e
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
