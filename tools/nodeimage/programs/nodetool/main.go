// Command nodetool is what a node image built here needs beside Kubernetes: the
// pod network's daemon and the two helpers of the local volume provisioner. It
// uses the standard library only, so that it builds in seconds.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run does the work of the program called name: the images hold one symbolic
// link per name.
func run(ctx context.Context, name string) error {
	switch name {
	case "pod-network":
		return podNetwork(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	case "volume-setup":
		return setUpVolume(os.Getenv("VOL_DIR"))
	case "volume-teardown":
		return tearDownVolume(os.Getenv("VOL_DIR"))
	}
	return fmt.Errorf("called as %q; call it by one of: pod-network, volume-setup, volume-teardown", name)
}
