package command

import (
	"context"
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRunGivesLinesAndOutput(t *testing.T) {
	var lines []string
	out, err := Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo a; printf 'b\\rc'; echo err >&2"}, Line: func(l string) {
		lines = append(lines, l)
	}})
	if err != nil || out != "a\nb\rc" {
		t.Errorf("got %q, %v", out, err)
	}
	seen := map[string]bool{}
	for _, l := range lines {
		seen[l] = true
	}
	if want := map[string]bool{"a": true, "b": true, "c": true, "err": true}; !reflect.DeepEqual(seen, want) {
		t.Errorf("lines %q", lines)
	}
}

func TestErrorSaysWhatWasRunAndSaid(t *testing.T) {
	_, err := Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo broken >&2; exit 3"}})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "sh -c") || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	if _, err := (Exec{}).Run(t.Context(), Cmd{Name: "no-such-program-here"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestContextEndsTheProgram(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Exec{}.Run(ctx, Cmd{Name: "sleep", Args: []string{"60"}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
