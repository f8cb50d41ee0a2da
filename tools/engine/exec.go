package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// markerKey names the variable by which a lost command is found again: the
// engine tells a process ID of its host, which means nothing in the container.
const markerKey = "KUBERNAUT_E2E_EXEC"

// settle is how long after the end of its output an exec may take to be
// reported as ended. A daemon reaps asynchronously.
const settle = 10 * time.Second

// execAPI is what an engine contributes to an exec.
type execAPI interface {
	execCreate(ctx context.Context, container string, r ExecRequest) (id string, err error)
	execAttach(ctx context.Context, id string) (duplex, error)
	execInspect(ctx context.Context, id string) (execState, error)
}

// duplex is a hijacked connection: the command's input one way, its framed
// output the other.
type duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
	// Intact says whether what carried the connection has not been seen to
	// break since. A broken one may have swallowed input that it took.
	Intact() bool
}

type execState struct {
	Running  bool
	ExitCode int
}

// runExec runs a command and finds out how it ended. The end of the stream says
// nothing: a cut connection ends it just as a command that is done does, so
// the state is asked afterwards on a connection of its own.
func runExec(ctx context.Context, api execAPI, a address, container string, r ExecRequest) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	lost := &LostExec{Container: container, Cmd: r.Cmd, Marker: markerKey + "=" + hex.EncodeToString(random[:])}
	lose := func(err error) error {
		lost.Err = a.explain(ctx, err)
		return lost
	}
	r.Env = append(append([]string(nil), r.Env...), lost.Marker)
	id, err := api.execCreate(ctx, container, r)
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", container, a.explain(ctx, err))
	}
	lost.ID = id
	conn, err := api.execAttach(ctx, id)
	if err != nil {
		if api := (*APIError)(nil); errors.As(err, &api) {
			return fmt.Errorf("exec in container %s: %w", container, err)
		}
		return lose(err)
	}
	var words tail
	input, streamErr := carry(ctx, conn, r, &words)
	if ctx.Err() != nil {
		return lose(fmt.Errorf("exec: %w", ctx.Err()))
	}
	state, err := settled(ctx, api, id)
	if input == nil && r.Stdin != nil && !conn.Intact() {
		input = io.ErrUnexpectedEOF
	}
	switch {
	case err != nil:
		return lose(errors.Join(streamErr, fmt.Errorf("ask how it ended: %w", err)))
	case state.Running:
		if streamErr == nil {
			streamErr = io.ErrUnexpectedEOF
		}
		return lose(fmt.Errorf("its output ended while it runs: %w", streamErr))
	case state.ExitCode != 0:
		failed := &ExitError{Container: container, Cmd: r.Cmd, Code: state.ExitCode, Stderr: words.String()}
		if r.Stdin != nil && !conn.Intact() { // its input ended early, and so did it
			return fmt.Errorf("%w: %w", a.explain(ctx, io.ErrUnexpectedEOF), failed)
		}
		return failed
	case input != nil:
		return fmt.Errorf("%s in container %s ended before it had all of its input: %w", r.Cmd[0], container, a.explain(ctx, errors.Join(input, streamErr)))
	case streamErr != nil:
		return fmt.Errorf("output of %s in container %s: %w", r.Cmd[0], container, a.explain(ctx, streamErr))
	}
	return nil
}

// carry moves input and output until the output ends, then closes conn. input
// is nil if all of Stdin was delivered.
func carry(ctx context.Context, conn duplex, r ExecRequest, words *tail) (input, output error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	delivered := make(chan error, 1)
	if r.Stdin == nil {
		delivered <- nil
	} else {
		go func() {
			_, err := io.Copy(struct{ io.Writer }{conn}, r.Stdin)
			delivered <- errors.Join(err, conn.CloseWrite())
		}()
	}
	stdout, stderr := r.Stdout, io.Writer(words)
	if stdout == nil {
		stdout = io.Discard
	}
	if r.Stderr != nil {
		stderr = io.MultiWriter(words, r.Stderr)
	}
	output = demultiplex(conn, stdout, stderr)
	select {
	case input = <-delivered:
	case <-time.After(time.Second):
		input = io.ErrShortWrite
	case <-ctx.Done():
	}
	return input, output
}

// settled asks for the state until it is that of an ended command, at most for
// the settle time; a connection that fails meanwhile is tried again.
func settled(ctx context.Context, api execAPI, id string) (execState, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	var state execState
	var err error
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		now, askErr := api.execInspect(ctx, id)
		if ctx.Err() == nil || askErr == nil {
			state, err = now, askErr
		}
		if (err == nil && !state.Running) || errors.Is(err, ErrNotFound) {
			return state, err
		}
		select {
		case <-ctx.Done():
			if err == nil && !state.Running {
				err = ctx.Err()
			}
			return state, err
		case <-time.After(wait):
		}
	}
}

// endScript ends every process that carries the marker $1 in its environment.
const endScript = `
left() { grep -lzxF -e "$1" /proc/[0-9]*/environ 2>/dev/null | sed 's|/proc/||; s|/environ||'; }
for signal in TERM KILL; do
	for i in 1 2 3 4 5; do
		pids=$(left "$1")
		[ -n "$pids" ] || exit 0
		kill -s "$signal" $pids 2>/dev/null
		sleep 0.2
	done
done
[ -z "$(left "$1")" ]`

func endExec(ctx context.Context, e Engine, lost *LostExec) error {
	if lost.Marker == "" {
		return nil
	}
	err := e.Exec(ctx, lost.Container, ExecRequest{Cmd: []string{"sh", "-c", endScript, "sh", lost.Marker}, Privileged: true})
	if err != nil {
		return fmt.Errorf("end lost exec of %s: %w", lost.Cmd[0], err)
	}
	return nil
}

// obey returns what f does, or the end of ctx where f does not obey it; what f
// then still comes up with goes to discard.
func obey[T any](ctx context.Context, f func() (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				discard(r.value)
			}
		}()
		var none T
		return none, ctx.Err()
	}
}

// tail keeps the last words of an output.
type tail struct{ b []byte }

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }
