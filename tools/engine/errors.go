package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// ErrNotFound is what the engine does not know.
var ErrNotFound = errors.New("not found")

// APIError is an error that the engine itself reported.
type APIError struct {
	Status  int // HTTP status; 0 if the error came within a stream
	Message string
}

// Error gives the engine's words.
func (e *APIError) Error() string { return e.Message }

// Is makes a 404 an [ErrNotFound].
func (e *APIError) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// ExitError is a command that ran and ended with a code other than 0.
type ExitError struct {
	Container string
	Cmd       []string
	Code      int
	Stderr    string // its last words
}

// Error names command, container and code.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s in container %s ended with %d", strings.Join(e.Cmd, " "), e.Container, e.Code)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// LostExec is a command of which nobody knows how it ended: it may still run.
type LostExec struct {
	Container string
	ID        string // of the exec session; empty if it was not learnt
	Marker    string // KEY=VALUE in the environment of the command and its children
	Cmd       []string
	Err       error
}

// Error names command, container and cause.
func (e *LostExec) Error() string {
	return fmt.Sprintf("lost sight of %s in container %s (exec %.12s): %v", strings.Join(e.Cmd, " "), e.Container, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *LostExec) Unwrap() error { return e.Err }

// explain gives an error of a call its class: what the engine reported stays
// as it is, except for a full disk; all else between here and there is the
// connection, except for the end of the caller's context.
func (a address) explain(ctx context.Context, err error) error {
	var api *APIError
	var typed *failure.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), fmt.Errorf("%s at %s: %w", a.provider, a.shown(), err))
	case errors.As(err, &typed):
		return err
	case isFull(err.Error()):
		return failure.New(failure.Resources, fmt.Sprintf("the disk of %s at %s is full", a.provider, a.shown()),
			fmt.Sprintf("free space there: mage teardown, then %s system df", a.provider), err)
	case errors.As(err, &api):
		return err
	}
	return a.lost(err)
}

func isFull(text string) bool {
	return strings.Contains(strings.ToLower(text), syscall.ENOSPC.Error())
}

// lost says why the engine cannot be reached, by what was seen.
func (a address) lost(err error) error {
	text := err.Error()
	is := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	at := fmt.Sprintf("%s at %s", a.provider, a.shown())
	switch {
	case is("unable to authenticate", "no supported methods remain", "failed to read identity", "host key mismatch", "knownhosts: key mismatch"):
		return failure.New(failure.Configuration, at+" refuses our SSH key, or is not the host that it was",
			"check CONTAINER_SSHKEY and ~/.ssh/known_hosts; podman system connection list shows what is set", err)
	case is("no such host"):
		return failure.New(failure.Configuration, at+": its host name does not resolve", "correct "+a.setting, err)
	case errors.Is(err, fs.ErrPermission) || is("permission denied"):
		return failure.New(failure.Configuration, at+" may not be used by this user",
			"use an engine of your own: set "+a.setting+", or join the group that owns the socket", err)
	case errors.Is(err, fs.ErrNotExist) || is("no such file or directory"):
		return failure.New(failure.EngineConnection, at+" does not run: its socket is not there", a.startCommand(), err)
	case errors.Is(err, syscall.ECONNREFUSED) || is("connection refused"):
		return failure.New(failure.EngineConnection, at+" does not run: nothing listens there", a.startCommand(), err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrShortWrite), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failure.New(failure.EngineConnection, "the connection to "+at+" was cut", a.startCommand(), err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return failure.New(failure.EngineConnection, at+" does not answer in time", a.startCommand(), err)
	}
	return failure.New(failure.EngineConnection, at+" cannot be reached", a.startCommand(), err)
}
