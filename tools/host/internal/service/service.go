// Package service starts an engine's daemon detached from this process, finds
// it again from a later one, and stops it. It owns the pid file; what the
// daemon is and how it is asked whether it serves belongs to the caller.
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// Service is a daemon of ours, running or not.
type Service struct {
	Dir   string   // private folder for NAME.pid and NAME.log
	Name  string   // e.g. "podman"
	Path  string   // program
	Args  []string // no other process has exactly these: they name Sock
	Env   []string // whole environment
	Sock  string   // socket file it creates; a stale one is removed before the start
	Ready func(context.Context) error
	Wait  time.Duration // longest time until Ready succeeds
	Grace time.Duration // between the polite and the forced end
}

// State is a running daemon, as its pid file holds it.
type State struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // start time in the kernel's terms; guards against a reused pid
}

func (s Service) pidFile() string { return filepath.Join(s.Dir, s.Name+".pid") }

// LogFile is where the daemon's output goes.
func (s Service) LogFile() string { return filepath.Join(s.Dir, s.Name+".log") }

// Start starts the daemon in a session of its own and waits until it serves.
// It outlives ctx and this process. After an error nothing is left running.
func (s Service) Start(ctx context.Context) (State, error) {
	if err := os.Remove(s.Sock); err != nil && !errors.Is(err, os.ErrNotExist) {
		return State{}, fmt.Errorf("remove stale socket: %w", err)
	}
	// Truncated at every start: the log of a service that runs for months must not grow with each.
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return State{}, fmt.Errorf("open log of %s: %w", s.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(s.Path, s.Args...) // not CommandContext: it must outlive ctx
	cmd.Dir, cmd.Env = "/", s.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return State{}, fmt.Errorf("start %s: %w", s.Path, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	st := State{PID: cmd.Process.Pid, Start: startTime(cmd.Process.Pid)}
	if err := write(s.pidFile(), st); err != nil {
		return State{}, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	if err := s.wait(ctx, exited); err != nil {
		said, _ := os.ReadFile(s.LogFile())
		err = &command.Error{Command: s.Path + " " + strings.Join(s.Args, " "), Code: -1, Output: command.Tail(string(said), 8), Err: err}
		return State{}, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return st, nil
}

func (s Service) wait(ctx context.Context, exited <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Wait, fmt.Errorf("not ready after %s", s.Wait))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		select {
		case err := <-exited:
			return fmt.Errorf("ended at once: %v", err) //nolint:errorlint // nil if it ended with status 0
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-tick.C:
			if last = s.Ready(ctx); last == nil {
				return nil
			}
		}
	}
}

// Find returns the running daemon, from its pid file or, where a killed
// process left none, by its arguments in the process list.
func (s Service) Find() (State, bool) {
	var st State
	if data, err := os.ReadFile(s.pidFile()); err == nil && json.Unmarshal(data, &st) == nil && st.PID > 1 {
		if now := startTime(st.PID); now != "" && now == st.Start {
			return st, true
		}
	}
	if pid := findByArgs(s.Args); pid > 1 {
		return State{PID: pid, Start: startTime(pid)}, true
	}
	return State{}, false
}

// Stale reports whether a pid file or socket is there without the daemon.
func (s Service) Stale() bool {
	if _, ok := s.Find(); ok {
		return false
	}
	_, pidErr := os.Stat(s.pidFile())
	_, sockErr := os.Stat(s.Sock)
	return pidErr == nil || sockErr == nil
}

// Stop ends the daemon if it runs, politely and after s.Grace by force, and
// removes pid file and socket. Nothing to stop is no error.
func (s Service) Stop(ctx context.Context) error {
	if st, ok := s.Find(); ok {
		if err := end(ctx, st, s.Grace); err != nil {
			return fmt.Errorf("stop %s (pid %d): %w", s.Name, st.PID, err)
		}
	}
	var errs []error
	for _, f := range []string{s.pidFile(), s.Sock} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func end(ctx context.Context, st State, grace time.Duration) error {
	alive := func() bool { return startTime(st.PID) == st.Start }
	signals := []struct {
		send func() error
		wait time.Duration
	}{
		{func() error { return syscall.Kill(st.PID, syscall.SIGTERM) }, grace},
		{func() error { return syscall.Kill(-st.PID, syscall.SIGKILL) }, 5 * time.Second},
	}
	for _, s := range signals {
		if !alive() {
			return nil
		}
		if err := s.send(); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		for deadline := time.Now().Add(s.wait); time.Now().Before(deadline); {
			if !alive() {
				return nil
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return errors.New("still runs after SIGKILL")
}

func write(path string, st State) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return os.Rename(tmp, path)
}
