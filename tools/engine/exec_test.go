package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// fakeExec plays an engine: serve is the command's end of the connection,
// states are the answers to "how did it end", the last of them for ever.
type fakeExec struct {
	serve  func(net.Conn)
	states []execState
	askErr error
	env    []string
	broken bool
}

func (f *fakeExec) execCreate(_ context.Context, _ string, r ExecRequest) (string, error) {
	f.env = r.Env
	return "0123456789abcdef", nil
}

func (f *fakeExec) execAttach(context.Context, string) (duplex, error) {
	// TCP, since net.Pipe cannot be closed by half.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		f.serve(server)
		_ = server.Close()
	}()
	return fakeConn{client.(*net.TCPConn), !f.broken}, nil
}

type fakeConn struct {
	*net.TCPConn
	intact bool
}

func (c fakeConn) Intact() bool { return c.intact }

func (f *fakeExec) execInspect(context.Context, string) (execState, error) {
	s := f.states[0]
	if len(f.states) > 1 {
		f.states = f.states[1:]
	}
	return s, f.askErr
}

func frame(stream byte, text string) []byte {
	b := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], uint32(len(text)))
	return append(b, text...)
}

func TestRunExec(t *testing.T) {
	if testing.Short() {
		t.Log("two cases wait for the settle time")
	}
	echo := func(c net.Conn) {
		all, _ := io.ReadAll(c)
		_, _ = c.Write(frame(1, string(all)))
		_, _ = c.Write(frame(2, "warning"))
	}
	lost := func(t *testing.T, err error) {
		t.Helper()
		var l *LostExec
		if !errors.As(err, &l) || l.ID != "0123456789abcdef" || !strings.HasPrefix(l.Marker, markerKey+"=") {
			t.Fatalf("not a lost exec: %v", err)
		}
		if f := failure.As(err); f == nil || f.Class != failure.EngineConnection {
			t.Errorf("class of %v", err)
		}
	}
	tests := []struct {
		name  string
		fake  fakeExec
		check func(*testing.T, error)
		out   string
	}{
		{"ended well", fakeExec{serve: echo, states: []execState{{}}}, func(t *testing.T, err error) {
			if err != nil {
				t.Error(err)
			}
		}, "input"},
		{"reported as ended a little later", fakeExec{serve: echo, states: []execState{{Running: true}, {Running: true}, {}}}, func(t *testing.T, err error) {
			if err != nil {
				t.Error(err)
			}
		}, "input"},
		{"ended badly", fakeExec{serve: echo, states: []execState{{ExitCode: 7}}}, func(t *testing.T, err error) {
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != 7 || exit.Stderr != "warning" {
				t.Error(err)
			}
		}, "input"},
		{"cut, and it runs on", fakeExec{serve: func(net.Conn) {}, states: []execState{{Running: true}}}, lost, ""},
		{"cut, and nobody answers", fakeExec{serve: func(net.Conn) {}, states: []execState{{}}, askErr: io.EOF}, lost, ""},
		{"cut, and the session is gone", fakeExec{serve: func(net.Conn) {}, states: []execState{{}}, askErr: &APIError{Status: 404, Message: "no such exec"}}, func(t *testing.T, err error) {
			if l := (*LostExec)(nil); !errors.As(err, &l) || !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}, ""},
		{"ended with 0, but over a connection that broke", fakeExec{serve: echo, states: []execState{{}}, broken: true}, func(t *testing.T, err error) {
			if f := failure.As(err); f == nil || f.Class != failure.EngineConnection {
				t.Error(err)
			}
		}, "input"},
		{"cut within a frame, though it ended with 0", fakeExec{serve: func(c net.Conn) {
			_, _ = io.ReadAll(c)
			_, _ = c.Write(frame(1, "all of it")[:12])
		}, states: []execState{{}}}, func(t *testing.T, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
		}, "all "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := runExec(t.Context(), &tt.fake, address{provider: Podman, url: "unix:///x"}, "box",
				ExecRequest{Cmd: []string{"cmd"}, Env: []string{"A=b"}, Stdin: strings.NewReader("input"), Stdout: &out})
			tt.check(t, err)
			if out.String() != tt.out {
				t.Errorf("output %q, want %q", out.String(), tt.out)
			}
			if !slices.Contains(tt.fake.env, "A=b") || len(tt.fake.env) != 2 {
				t.Errorf("environment %q", tt.fake.env)
			}
		})
	}
}

func TestRunExecStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	defer close(hold)
	fake := &fakeExec{serve: func(net.Conn) { <-hold }, states: []execState{{Running: true}}}
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	endless, w := io.Pipe()
	defer func() { _ = w.Close() }()
	err := runExec(ctx, fake, address{}, "box", ExecRequest{Cmd: []string{"cmd"}, Stdin: endless})
	var l *LostExec
	if !errors.As(err, &l) || !errors.Is(err, context.Canceled) || failure.As(err) != nil || time.Since(start) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}
