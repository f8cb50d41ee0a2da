package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunKeepsWhatWasSaid(t *testing.T) {
	var seen []string
	out, err := Run(context.Background(), Command{Name: "sh", Args: []string{"-c", "echo one; sleep 0.1; echo two >&2; exit 7"}, Lines: func(l string) { seen = append(seen, l) }})
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != 7 || !strings.Contains(err.Error(), "two") {
		t.Fatalf("error %v", err)
	}
	if out != "one\n" || len(seen) != 2 {
		t.Errorf("stdout %q, lines %q", out, seen)
	}
}

func TestLinesEndAtCarriageReturnsToo(t *testing.T) {
	var seen []string
	out, err := Run(t.Context(), Command{Name: "printf", Args: []string{`10 %%\r20 %%\r\n\nend`}, Lines: func(l string) { seen = append(seen, l) }})
	if want := []string{"10 %", "20 %", "end"}; err != nil || !slices.Equal(seen, want) || out != "10 %\r20 %\r\n\nend" {
		t.Errorf("lines %q, output %q, %v", seen, out, err)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	_, err := Run(t.Context(), Command{Name: "no-such-program-here"})
	if !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "no-such-program-here") {
		t.Errorf("got %v", err)
	}
}

func TestTail(t *testing.T) {
	if got := Tail("a\n\nb\nc\n", 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}

func TestBaseReplacesTheEnvironment(t *testing.T) {
	t.Setenv("COMMAND_TEST", "own")
	out, err := Run(t.Context(), Command{Name: "env", Base: []string{"A=1"}, Env: []string{"B=2"}})
	if err != nil || out != "A=1\nB=2\n" {
		t.Errorf("environment %q, %v", out, err)
	}
}

func TestCancelEndsGrandchildren(t *testing.T) {
	pidFile := t.TempDir() + "/pid"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Command{Name: "sh", Args: []string{"-c", `trap "" INT; (trap "" INT; sleep 60) & echo $! >` + pidFile + `; wait`}, Grace: 200 * time.Millisecond})
		done <- err
	}()
	var pid int
	for pid == 0 {
		time.Sleep(10 * time.Millisecond)
		raw, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); errors.Is(err, os.ErrNotExist) || strings.Contains(string(state), ") Z ") {
			return
		}
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("grandchild %d still runs", pid)
}
