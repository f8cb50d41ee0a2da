package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// TestStoreWithoutContainerd insists that a containerd that ends at its start
// ends the filling too, with the way it ended as the cause.
func TestStoreWithoutContainerd(t *testing.T) {
	bin, work := t.TempDir(), t.TempDir()
	for _, name := range []string{"containerd", "ctr"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- fillStore(t.Context(), bin, work, filepath.Join(work, "store"), "images.tar") }()
	select {
	case err := <-done:
		var ended *command.Error
		if !errors.As(err, &ended) || !strings.HasPrefix(ended.Command, filepath.Join(bin, "containerd")) || !strings.Contains(err.Error(), "it ended at once") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still waiting for a containerd that has ended")
	}
}
