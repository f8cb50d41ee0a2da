// Command controller runs the AIAnalysis controller.
//
// Environment: HAPI_URL (required), HAPI_TIMEOUT (60s), HAPI_SERVER_ERRORS (5), HAPI_UNREACHABLE (5m), HAPI_RETRY_FIRST (200ms),
// HAPI_RETRY_MOST (2s), PARALLEL (16 analyses at once), CLUSTER_NAME (kubernaut), API_ADDRESS (:8080), METRICS_ADDRESS (:9090),
// HEALTH_ADDRESS (:8081). Access to the cluster is found as controller-runtime does.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/jordigilh/kubernaut-e2e/test/workload/api/v1alpha1"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/analysis"
	"github.com/jordigilh/kubernaut-e2e/test/workload/controller/summary"
)

type settings struct {
	HAPIURL      string        `env:"HAPI_URL,required,notEmpty"`
	HAPITimeout  time.Duration `env:"HAPI_TIMEOUT" envDefault:"60s"`
	ServerErrors int32         `env:"HAPI_SERVER_ERRORS" envDefault:"5"`
	Unreachable  time.Duration `env:"HAPI_UNREACHABLE" envDefault:"5m"`
	RetryFirst   time.Duration `env:"HAPI_RETRY_FIRST" envDefault:"200ms"`
	RetryMost    time.Duration `env:"HAPI_RETRY_MOST" envDefault:"2s"`
	Parallel     int           `env:"PARALLEL" envDefault:"16"`
	Cluster      string        `env:"CLUSTER_NAME" envDefault:"kubernaut"`
	API          string        `env:"API_ADDRESS" envDefault:":8080"`
	Metrics      string        `env:"METRICS_ADDRESS" envDefault:":9090"`
	Health       string        `env:"HEALTH_ADDRESS" envDefault:":8081"`
}

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		log.Error("controller stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := env.ParseAs[settings]()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		LeaderElection:         false,
		Metrics:                metricsserver.Options{BindAddress: s.Metrics},
		HealthProbeBindAddress: s.Health,
	})
	if err != nil {
		return err
	}
	hapi, err := analysis.NewClient(s.HAPIURL, s.HAPITimeout)
	if err != nil {
		return err
	}
	retry := analysis.Retry{ServerErrors: s.ServerErrors, Unreachable: s.Unreachable, First: s.RetryFirst, Most: s.RetryMost}
	reconciler := analysis.NewReconciler(m.GetClient(), m.GetEventRecorder("aianalysis"), analysis.NewMetrics(metrics.Registry),
		hapi, retry, s.Cluster)
	if err := reconciler.SetupWithManager(m, s.Parallel); err != nil {
		return err
	}
	drain := 5 * time.Second
	err = m.Add(&manager.Server{Name: "api", ShutdownTimeout: &drain, Server: &http.Server{
		Addr: s.API, Handler: summary.Handler(m.GetCache()), ReadHeaderTimeout: 5 * time.Second}})
	if err != nil {
		return err
	}
	if err := m.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return err
	}
	// Ready means: analyses will be worked on. HAPI takes no part in that, since waiting for it is work.
	if err := m.AddReadyzCheck("cache", func(r *http.Request) error {
		synced, cancel := context.WithTimeout(r.Context(), 500*time.Millisecond)
		defer cancel()
		if !m.GetCache().WaitForCacheSync(synced) {
			return fmt.Errorf("the cache is not filled yet")
		}
		return nil
	}); err != nil {
		return err
	}
	return m.Start(ctx)
}
