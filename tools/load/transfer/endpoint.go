package transfer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxManifest bounds manifests and configurations, which are held in memory.
const maxManifest = 8 << 20

// Receiver gets what an engine pushes to an [Endpoint].
type Receiver interface {
	// Has reports whether the blob need not be uploaded, and its size; 0 if it
	// is not known.
	Has(d digest.Digest) (size int64, ok bool)
	// Blob takes an upload of size bytes (-1: unknown). Its digest is told only
	// after the data, by the protocol. An engine sends several at once: the
	// receiver decides which is read first. It returns soon after ctx ends.
	Blob(ctx context.Context, size int64, r io.Reader) error
	// Manifest takes the manifest that ends a push.
	Manifest(m *Manifest) error
}

// Endpoint is the part of an OCI registry that a push needs. It stores
// nothing: blobs pass through. (The registry package of go-containerregistry
// holds each upload in memory, which a layer of two gigabytes does not allow.)
type Endpoint struct {
	token    string
	listener net.Listener
	server   *http.Server
	receiver Receiver
	log      *slog.Logger

	stop   context.CancelFunc // ends what receivers wait for
	mu     sync.Mutex
	err    error
	ended  bool
	active time.Time
	begun  bool
	closed bool
	calls  sync.WaitGroup
}

// Listen opens an endpoint on address ("127.0.0.1:0": any free port). It
// answers only below an unguessable path and until Close.
func Listen(ctx context.Context, address string, rcv Receiver, log *slog.Logger) (*Endpoint, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the engine on %s: %w", address, err)
	}
	e := &Endpoint{token: hex.EncodeToString(secret), listener: l, receiver: rcv, log: log, active: time.Now()}
	var life context.Context
	life, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.server = &http.Server{Handler: e, BaseContext: func(net.Listener) context.Context { return life }, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go e.server.Serve(l) //nolint:errcheck // it always ends with ErrServerClosed
	return e, nil
}

// Close ends the listener and every connection to it, and returns when the
// receiver is not called any more.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	err := e.server.Close()
	e.calls.Wait()
	return err
}

// enter counts a request in, unless the endpoint is closed.
func (e *Endpoint) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.calls.Add(1)
	}
	return !e.closed
}

// Port is the port listened on.
func (e *Endpoint) Port() int { return e.listener.Addr().(*net.TCPAddr).Port }

// Repository is the path below which a push must go.
func (e *Endpoint) Repository() string { return e.token + "/image" }

func (e *Endpoint) touch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun, e.active = true, time.Now()
}

// Idle returns for how long nothing has arrived, and whether the push is
// complete.
func (e *Endpoint) Idle() (time.Duration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.active), e.ended
}

// Touched reports whether the engine has reached the endpoint.
func (e *Endpoint) Touched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begun
}

// Err returns nil after a complete push, else the first failure of the
// receiver, or that the push did not end.
func (e *Endpoint) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil && !e.ended {
		return errors.New("the engine did not complete the push")
	}
	return e.err
}

func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !e.enter() {
		return
	}
	defer e.calls.Done()
	e.log.Debug("push", "method", r.Method, "length", r.ContentLength)
	e.touch()
	if r.URL.Path == "/v2/" || r.URL.Path == "/v2" {
		w.WriteHeader(http.StatusOK) // the protocol's ping, before any name
		return
	}
	repo, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	token, rest, _ := strings.Cut(repo, "/")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(e.token)) != 1 {
		http.NotFound(w, r)
		return
	}
	rest = strings.TrimPrefix(rest, "image/")
	if err := e.serve(w, r, rest); err != nil {
		e.mu.Lock()
		if e.err == nil {
			e.err = err
		}
		e.mu.Unlock()
		// 4xx: a client would repeat after 5xx, with data that is gone.
		http.Error(w, `{"errors":[{"code":"DENIED","message":"load aborted"}]}`, http.StatusForbidden)
	}
}

func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request, rest string) error {
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case kind == "blobs" && r.Method == http.MethodHead:
		size, ok := e.receiver.Has(digest.Digest(name))
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return nil
		}
		// Podman 5 fails without it; what it says changes no manifest.
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.Header().Set("Docker-Content-Digest", name)
		w.WriteHeader(http.StatusOK)
	case kind == "blobs" && r.Method == http.MethodPost:
		e.accepted(w, r.URL.Path, 0)
	case kind == "blobs" && r.Method == http.MethodPatch:
		n, err := e.body(r)
		if err != nil {
			return err
		}
		e.accepted(w, r.URL.Path, n)
	case kind == "blobs" && r.Method == http.MethodPut:
		if r.ContentLength != 0 { // an upload in one request
			if _, err := e.body(r); err != nil {
				return err
			}
		}
		w.Header().Set("Docker-Content-Digest", r.URL.Query().Get("digest"))
		w.WriteHeader(http.StatusCreated)
	case kind == "manifests" && r.Method == http.MethodPut:
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
		if err != nil {
			return fmt.Errorf("read pushed manifest: %w", err)
		}
		m, err := ParseManifest(raw, r.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		if err := e.receiver.Manifest(m); err != nil {
			return err
		}
		e.mu.Lock()
		e.ended = true
		e.mu.Unlock()
		w.Header().Set("Docker-Content-Digest", m.Digest().String())
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	return nil
}

func (e *Endpoint) body(r *http.Request) (int64, error) {
	counted := &counter{r: r.Body, touch: e.touch}
	if err := e.receiver.Blob(r.Context(), r.ContentLength, counted); err != nil {
		return counted.n, err
	}
	return counted.n, nil
}

func (e *Endpoint) accepted(w http.ResponseWriter, path string, n int64) {
	if !strings.Contains(strings.TrimSuffix(path, "/"), "/uploads/") {
		path = strings.TrimSuffix(path, "/") + "/" + rand.Text()
	}
	w.Header().Set("Location", path)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, n-1)))
	w.WriteHeader(http.StatusAccepted)
}

type counter struct {
	r     io.Reader
	n     int64
	touch func()
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.touch()
	return n, err
}
