package cluster

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	first, err := Acquire(t.Context(), dir, "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := Acquire(t.Context(), dir, "b", nil); err != nil || other.Release() != nil {
		t.Fatalf("another cluster's lock: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	told := ""
	_, err = Acquire(ctx, dir, "a", func(u progress.Update) { told = u.Line })
	who := Holder{PID: os.Getpid(), Command: commandLine()}
	for _, want := range []string{who.Command, "process"} {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(told, want) {
			t.Errorf("error %v, told %q, want %q in both", err, told, want)
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) || failure.As(err).Class != failure.StaleState {
		t.Errorf("error %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), dir, "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}

func TestTellingLines(t *testing.T) {
	journal := "a\nfailed to load plugin: fsnotify watcher: too many open files\n" + strings.Repeat("x", 500) +
		"failed to run Kubelet: no CRI" + strings.Repeat("y", 500) + "\nfailed to run Kubelet: no CRI\nb\n"
	got := tellingLines(journal)
	if len(got) != 2 || got[0] != "failed to run Kubelet: no CRI" || !strings.Contains(got[1], "too many open files") {
		t.Errorf("%q", got)
	}
}
