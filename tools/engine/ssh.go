package engine

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
)

// sshTurns has room for one: the bindings write to a global of theirs when they
// begin to connect over SSH (sshClient sets IgnoreErrors).
var sshTurns = make(chan struct{}, 1)

// sshTurn waits for the end of another attempt to connect over SSH, but not
// long: one that was left may wait for a server that stands still. The function
// that it returns ends the turn.
func sshTurn(url string) func() {
	if !strings.HasPrefix(url, "ssh://") {
		return func() {}
	}
	select {
	case sshTurns <- struct{}{}:
		return func() { <-sshTurns }
	case <-time.After(time.Second):
		return func() {}
	}
}

// wake has the end of a request's context end the request, also while the SSH
// session that it goes over stands still.
func wake(c *bindings.Connection) {
	t, ok := c.Client.Transport.(*http.Transport)
	if !ok || t.DialContext == nil {
		return
	}
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newWaking(conn), nil
	}
}

// waking is a connection within an SSH session. Closing such a one wakes neither
// its reader nor its writer while the session's own connection stands still:
// they wait for the other side. Here they return. What they left behind ends
// with the session.
type waking struct {
	net.Conn
	once   sync.Once
	closed chan struct{}

	// One goroutine reads and one writes, as with every stream.
	in, out  [32 << 10]byte // the largest packet of a session
	unread   []byte
	readErr  error
	reading  bool
	took     chan moved
	gave     chan moved
	closeErr error
}

type moved struct {
	n   int
	err error
}

func newWaking(c net.Conn) *waking {
	return &waking{Conn: c, closed: make(chan struct{}), took: make(chan moved, 1), gave: make(chan moved, 1)}
}

func (c *waking) Read(p []byte) (int, error) {
	for len(c.unread) == 0 {
		if c.readErr != nil {
			return 0, c.readErr
		}
		if !c.reading {
			c.reading = true
			go func() {
				n, err := c.Conn.Read(c.in[:])
				c.took <- moved{n, err}
			}()
		}
		select {
		case m := <-c.took:
			c.reading, c.unread, c.readErr = false, c.in[:m.n], m.err
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *waking) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		select {
		case <-c.closed: // a write that was left may still use the buffer
			return done, net.ErrClosed
		default:
		}
		n := copy(c.out[:], p)
		go func() {
			n, err := c.Conn.Write(c.out[:n])
			c.gave <- moved{n, err}
		}()
		select {
		case m := <-c.gave:
			done += m.n
			if m.err != nil {
				return done, m.err
			}
			p = p[n:]
		case <-c.closed:
			return done, net.ErrClosed
		}
	}
	return done, nil
}

// closeTime is how long saying goodbye may take.
const closeTime = time.Second

func (c *waking) Close() error {
	c.once.Do(func() {
		close(c.closed)
		ended := make(chan error, 1)
		go func() { ended <- c.Conn.Close() }()
		select {
		case c.closeErr = <-ended:
		case <-time.After(closeTime):
		}
	})
	return c.closeErr
}

// CloseWrite ends what is written, where the connection can.
func (c *waking) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
