package pipeline

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

func TestASignalEndsEveryRunOfATarget(t *testing.T) {
	all, stop := interruptible(context.Background())
	defer stop()
	one, stopOne := interruptible(all)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-one.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the run goes on")
	}
	stopOne()
	if cause := context.Cause(all); !errors.Is(cause, run.ErrInterrupted) {
		t.Errorf("the next run would begin: %v", cause)
	}
}

func TestTheEndOfOneRunEndsNoOther(t *testing.T) {
	all, stop := interruptible(context.Background())
	defer stop()
	_, stopOne := interruptible(all)
	stopOne()
	if all.Err() != nil {
		t.Error("the target ended with its first run")
	}
}
