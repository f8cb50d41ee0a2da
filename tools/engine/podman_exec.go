package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/containers/podman/v5/pkg/bindings"
)

func (p *podman) Exec(ctx context.Context, container string, r ExecRequest) error {
	return runExec(ctx, p, p.address, container, r)
}

func (p *podman) EndExec(ctx context.Context, lost *LostExec) error { return endExec(ctx, p, lost) }

func (p *podman) execCreate(ctx context.Context, container string, r ExecRequest) (string, error) {
	in := map[string]any{
		"AttachStdin": r.Stdin != nil, "AttachStdout": true, "AttachStderr": true,
		"Cmd": r.Cmd, "Env": r.Env, "User": r.User, "Privileged": r.Privileged,
	}
	var out struct {
		ID string `json:"Id"`
	}
	err := p.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(container)+"/exec", nil, in, &out)
	return out.ID, err
}

func (p *podman) execInspect(ctx context.Context, id string) (execState, error) {
	var s execState
	err := p.call(ctx, http.MethodGet, "/exec/"+url.PathEscape(id)+"/json", nil, nil, &s)
	return s, err
}

// execAttach starts the exec on a connection of its own, which then belongs to
// the command.
func (p *podman) execAttach(ctx context.Context, id string) (duplex, error) {
	conn, err := p.connection(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := dial(ctx, conn)
	if err != nil {
		return nil, p.failed(ctx, &net.OpError{Op: "dial", Net: conn.URI.Scheme, Err: err})
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	body, _ := json.Marshal(map[string]bool{"Detach": false, "Tty": false})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d/v"+libpodVersion+"/libpod/exec/"+url.PathEscape(id)+"/start", bytes.NewReader(body))
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"Upgrade"}, "Upgrade": {"tcp"}}
	br := bufio.NewReader(raw)
	if err = req.Write(raw); err == nil {
		var resp *http.Response
		//nolint:bodyclose // its body is the connection, which is closed below or belongs to the command
		if resp, err = http.ReadResponse(br, req); err == nil && resp.StatusCode >= http.StatusBadRequest {
			err = apiError(resp)
		}
	}
	if err != nil {
		_ = raw.Close()
		return nil, p.failed(ctx, fmt.Errorf("start exec: %w", err))
	}
	return hijacked{raw, br, func() bool { return p.current() == conn }}, nil
}

// dial obeys the context where the bindings' dialer does not (SSH).
func dial(ctx context.Context, c *bindings.Connection) (net.Conn, error) {
	return obey(ctx, func() (net.Conn, error) { return c.GetDialer(ctx) }, func(conn net.Conn) { _ = conn.Close() })
}

// hijacked is a connection whose first bytes may already lie in a buffer.
type hijacked struct {
	net.Conn
	r      *bufio.Reader
	intact func() bool
}

// Intact says whether the exec's state was asked over the same SSH connection:
// an SSH connection that ends looks like the end of the command.
func (h hijacked) Intact() bool { return h.intact() }

func (h hijacked) Read(b []byte) (int, error) { return h.r.Read(b) }

func (h hijacked) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("%T cannot tell its end of input", h.Conn)
}
