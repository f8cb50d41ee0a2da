// Command hapi is the reference HAPI service. `hapi` serves; `hapi payload --layer=N` writes a part of the image's payload
// while the image is built.
//
// Environment: MOCK_LLM_MODE (must be true: there is no other model), HAPI_ADDRESS (default :8080), MOCK_SLOW_DELAY (default
// 3s), PAYLOAD_MB (payload only, default 0).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/payload"
	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/server"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "payload":
		err = writePayload(ctx, log, os.Args[2:])
	case len(os.Args) > 1:
		log.Error("unknown command", "command", os.Args[1], "known", "payload")
		os.Exit(exitUsage)
	default:
		err = serve(ctx, log)
	}
	if err != nil {
		log.Error("hapi stopped", "error", err)
		os.Exit(exitFailed)
	}
}

func serve(ctx context.Context, log *slog.Logger) error {
	if mock, err := strconv.ParseBool(os.Getenv("MOCK_LLM_MODE")); err != nil || !mock {
		return fmt.Errorf("MOCK_LLM_MODE is %q: this HAPI has only the mock model, set it to true", os.Getenv("MOCK_LLM_MODE"))
	}
	delay, err := time.ParseDuration(fallback("MOCK_SLOW_DELAY", "3s"))
	if err != nil {
		return fmt.Errorf("MOCK_SLOW_DELAY: %w", err)
	}
	handlers, err := server.New(server.Options{Log: log, SlowDelay: delay, Version: "v1alpha1"})
	if err != nil {
		return err
	}
	srv := &http.Server{Addr: fallback("HAPI_ADDRESS", ":8080"), Handler: handlers.Handler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }()
	log.Info("serving", "address", srv.Addr)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	handlers.Stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(srv.Shutdown(drain), ignoreClosed(<-ended))
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func writePayload(ctx context.Context, log *slog.Logger, args []string) error {
	flags := flag.NewFlagSet("payload", flag.ExitOnError)
	layer := flags.Int("layer", 0, "which layer to write, from 0 to 2")
	root := flags.String("root", "/opt/payload", "folder to write to")
	_ = flags.Parse(args) // ExitOnError
	megabytes, err := strconv.Atoi(fallback("PAYLOAD_MB", "0"))
	if err != nil {
		return fmt.Errorf("PAYLOAD_MB: %w", err)
	}
	started := time.Now()
	written, err := payload.Write(ctx, *root, megabytes, *layer)
	if err != nil {
		return err
	}
	log.Info("payload", "layer", *layer, "bytes", written.Bytes, "files", written.Files, "packages", written.Packages,
		"duration", time.Since(started).Round(time.Millisecond))
	return nil
}

func fallback(name, value string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return value
}
