package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/sirupsen/logrus"
)

// libpodVersion is the oldest API that Podman 4 and 5 both speak; answers keep
// its shape on newer servers.
const libpodVersion = "4.0.0"

// answerLimit is how long the engine may take over a request that moves no
// image data. Removing a big image is the slowest of them.
const answerLimit = 3 * time.Minute

type podman struct {
	address
	log *slog.Logger

	connecting chan struct{}        // has room for one: the call that connects
	mu         sync.Mutex           // of conn, held but for a moment
	conn       *bindings.Connection // nil: connect at the next call
}

func newPodman(a address, log *slog.Logger) *podman {
	return &podman{address: a, log: log, connecting: make(chan struct{}, 1)}
}

var _ Engine = (*podman)(nil)

func openPodman(ctx context.Context, log *slog.Logger) (Engine, error) {
	a, err := podmanAddress(ctx, os.Getenv)
	if err != nil {
		return nil, err
	}
	if err := a.checkIdentity(os.Getenv); err != nil {
		return nil, err
	}
	// The bindings report through logrus, which writes to standard error.
	logrus.SetOutput(logWriter{log})
	p := newPodman(a, log)
	if _, err := p.connection(ctx); err != nil {
		return nil, err
	}
	log.DebugContext(ctx, "engine found", "provider", Podman, "address", a.shown(), "machine", a.machine)
	return p, nil
}

type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("podman bindings", "line", strings.TrimSpace(string(line)))
	return len(line), nil
}

func (p *podman) Name() string { return Podman }

// connection returns the live connection, or makes one. Who comes while another
// call does waits for that, but no longer than its own context lasts.
func (p *podman) connection(ctx context.Context) (*bindings.Connection, error) {
	if conn := p.current(); conn != nil {
		return conn, nil
	}
	select {
	case p.connecting <- struct{}{}:
		defer func() { <-p.connecting }()
	case <-ctx.Done():
		return nil, p.explain(ctx, fmt.Errorf("connect: %w", ctx.Err()))
	}
	if conn := p.current(); conn != nil {
		return conn, nil
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, p.explain(ctx, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	return conn, nil
}

// current is the connection that requests go over, nil if there is none.
func (p *podman) current() *bindings.Connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// connect makes a connection. The bindings' SSH does not obey the context: it is
// left to its own time limit.
func (p *podman) connect(ctx context.Context) (*bindings.Connection, error) {
	// The bindings try three times where nothing answers; the socket tells at once.
	if path, ok := strings.CutPrefix(p.url, "unix://"); ok {
		probe, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		_ = probe.Close()
	}
	turn := sshTurn(p.url)
	return obey(ctx, func() (*bindings.Connection, error) {
		defer turn()
		connected, err := bindings.NewConnectionWithOptions(ctx, bindings.Options{URI: p.url, Identity: p.identity, Machine: p.machine})
		if err != nil {
			return nil, err
		}
		conn, err := bindings.GetClient(connected)
		if err == nil && conn.URI.Scheme == "ssh" {
			wake(conn)
		}
		return conn, err
	}, func(late *bindings.Connection) { late.Client.CloseIdleConnections() })
}

// failed classes an error of a request; a connection that broke is not used
// again.
func (p *podman) failed(ctx context.Context, err error) error {
	if ctx.Err() == nil && onTheWire(err) {
		p.drop()
	}
	return p.explain(ctx, err)
}

// drop has the next call connect anew.
func (p *podman) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Client.CloseIdleConnections()
	}
	p.conn = nil
}

// onTheWire says whether err is the connection's, not the engine's and not the
// caller's reader's or writer's.
func onTheWire(err error) bool {
	var request *url.Error
	var wire *net.OpError
	return errors.As(err, &request) || errors.As(err, &wire) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// request sends one request, once. Not [bindings.Connection.DoRequest]: that
// sends again after an error, which repeats what is not idempotent and sends
// the rest of an upload as if it were the whole. The caller closes the body.
// Its error is raw: see failed.
func (p *podman) request(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	conn, err := p.connection(ctx)
	if err != nil {
		return nil, err
	}
	base := "http://d"
	if conn.URI.Scheme == "tcp" {
		base = "http://" + conn.URI.Host + conn.URI.Path
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/v"+libpodVersion+"/libpod"+path, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = query.Encode()
	if header != nil {
		req.Header = header
	}
	resp, err := conn.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, apiError(resp)
	}
	return resp, nil
}

func apiError(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var model struct{ Message, Cause string }
	if json.Unmarshal(raw, &model) != nil || model.Message == "" {
		model.Message = strings.TrimSpace(string(raw))
	}
	if model.Message == "" {
		model.Message = resp.Status
	}
	// Podman's export and push answer 500 for an image that is not there.
	if strings.HasSuffix(model.Message, "image not known") {
		resp.StatusCode = http.StatusNotFound
	}
	return &APIError{Status: resp.StatusCode, Message: model.Message}
}

// call is a request that moves no image data: in and out are JSON, both may be
// nil.
func (p *podman) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	limited, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var body io.Reader
	header := http.Header{}
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
		header.Set("Content-Type", "application/json")
	}
	resp, err := p.request(limited, method, path, query, header, body)
	if err != nil {
		return p.failed(ctx, err)
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	return p.failed(ctx, err)
}

func (p *podman) Ping(ctx context.Context) error {
	err := p.call(ctx, http.MethodGet, "/_ping", nil, nil, nil)
	if ctx.Err() != nil && strings.HasPrefix(p.url, "ssh://") {
		p.drop() // all calls share one session, which may stand still while a new one would be answered
	}
	return err
}

// labelFilter is the filters parameter of the list endpoints.
func labelFilter(labels []string) url.Values {
	q := url.Values{}
	if len(labels) > 0 {
		raw, _ := json.Marshal(map[string][]string{"label": labels})
		q.Set("filters", string(raw))
	}
	return q
}
