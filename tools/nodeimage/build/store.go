package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// importArgs are what `ctr images import` needs for a store like the one Kind
// makes: kubelet must never collect these images. The layers' archives are
// dropped once they are unpacked, as the node's own containerd does
// (discard_unpacked_layers in Kind's settings).
var importArgs = []string{
	"--namespace=k8s.io", "images", "import", "--local", "--snapshotter=overlayfs",
	"--label=io.cri-containerd.pinned=pinned", "--discard-unpacked-layers",
}

// fillStore imports the archive into a containerd store at folder store, by a
// containerd of our own that runs on the host for that long: a node's store
// cannot be filled inside a container, whose overlay file system cannot carry
// another one, and one filled by a running node would not survive a commit.
//
// Where the cache lies on a file system that cannot carry an overlay, the
// images are imported without being unpacked; the node does that at its first
// start, which then takes longer.
func fillStore(ctx context.Context, bin, work, store, images string) (err error) {
	// A socket's path is limited to 108 bytes (unix(7)); a cache folder's is not.
	run, err := os.MkdirTemp("", "kubernaut-e2e-")
	if err != nil {
		return fmt.Errorf("make a folder for containerd: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(run)) }()
	config := filepath.Join(work, "containerd.toml")
	if err := os.WriteFile(config, []byte(storeConfig(store, run)), 0o644); err != nil {
		return fmt.Errorf("write containerd's settings: %w", err)
	}
	serve, stop := context.WithCancel(ctx)
	ended := make(chan error, 1) // gives how it ended, once
	go func() {
		defer close(ended) // whoever only waits for the end need not be the first to ask
		ended <- execute(serve, command.Command{Name: filepath.Join(bin, "containerd"), Args: []string{"--config", config}, Mounts: true})
	}()
	defer func() { stop(); <-ended }() //nolint:errcheck // stopped, it ends with an error

	ctr := func(args ...string) error {
		return execute(ctx, command.Command{
			Name: filepath.Join(bin, "ctr"), Args: append([]string{"--address", filepath.Join(run, "s")}, args...),
		})
	}
	if err := waitFor(ctx, ended, func() error { return ctr("version") }); err != nil {
		return fmt.Errorf("start containerd for the images: %w", err)
	}
	unpacked := ctr(append(importArgs, images)...)
	if unpacked == nil {
		return nil
	}
	plain := []string{"--namespace=k8s.io", "images", "import", "--local", "--no-unpack", "--label=io.cri-containerd.pinned=pinned", images}
	if err := ctr(plain...); err != nil {
		return errors.Join(unpacked, err)
	}
	return nil
}

// storeConfig keeps containerd from touching anything of the host's: no CRI, no
// NRI socket, no /opt.
func storeConfig(store, run string) string {
	return fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.podsandbox.controller.v1.podsandbox",
]
[grpc]
  address = %q
[ttrpc]
  address = %q
`, store, filepath.Join(run, "state"), filepath.Join(run, "s"), filepath.Join(run, "t"))
}

// waitFor asks until the answer is good, the program has ended, or half a
// minute is over.
func waitFor(ctx context.Context, ended <-chan error, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case gone := <-ended:
			return errors.Join(errors.New("it ended at once"), gone)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// runtimeSpec returns the base of every container's specification as Kind's
// own image has it: containerd's default without its limits, which a host with
// lower ones would refuse, and with Kind's hook that hides the machine's
// product names.
func runtimeSpec(ctx context.Context, bin string) ([]byte, error) {
	out, err := output(ctx, command.Command{Name: filepath.Join(bin, "ctr"), Args: []string{"oci", "spec"}})
	if err != nil {
		return nil, err
	}
	return editSpec([]byte(out))
}
