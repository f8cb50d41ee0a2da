package chaos

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a run and its engine, or the SSH server before that.
type proxy struct {
	t        *testing.T
	network  string // unix or tcp
	addr     string // where it listens
	backend  string
	listener net.Listener
	all      atomic.Int64 // bytes that passed, both ways
	denying  atomic.Bool  // ends every connection that asks for a command in a container
	mu       sync.Mutex
	links    map[*link]bool
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	stalled        atomic.Bool // takes bytes and passes none on
}

func (l *link) close() { _, _ = l.client.Close(), l.server.Close() }

// newProxy listens on a socket of its own, or on a free port of this host.
func newProxy(t *testing.T, network, backend string) *proxy {
	t.Helper()
	p := &proxy{t: t, network: network, addr: "127.0.0.1:0", backend: backend, links: map[*link]bool{}}
	if network == "unix" {
		dir, err := os.MkdirTemp("", "way-") // not t.TempDir: a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		p.addr = filepath.Join(dir, "s")
	}
	p.open()
	p.addr = p.listener.Addr().String()
	t.Cleanup(func() { p.shut(); p.cut() })
	return p
}

// open listens, where it listened before.
func (p *proxy) open() {
	if p.network == "unix" {
		_ = os.Remove(p.addr)
	}
	var err error
	if p.listener, err = net.Listen(p.network, p.addr); err != nil {
		p.t.Errorf("listen before the engine: %v", err)
		return
	}
	go func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}(p.listener)
}

// shut takes no new connections, as if nothing were there.
func (p *proxy) shut() { _ = p.listener.Close() }

func (p *proxy) serve(c net.Conn) {
	b, err := net.Dial(p.network, p.backend)
	if err != nil {
		_ = c.Close()
		return
	}
	l := &link{client: c, server: b}
	p.mu.Lock()
	p.links[l] = true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(l, b, c) })
	both.Go(func() { p.pass(l, c, b) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	l.close()
}

func (p *proxy) pass(l *link, to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.all.Add(int64(n))
		for l.stalled.Load() {
			time.Sleep(50 * time.Millisecond)
		}
		if p.denying.Load() && asksForExec(buf[:n]) {
			l.close()
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
				_ = half.CloseWrite()
			}
			return
		}
	}
}

func asksForExec(request []byte) bool {
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	return bytes.HasPrefix(line, []byte("POST ")) && bytes.Contains(line, []byte("/exec"))
}

// cut ends every connection there is; new ones are taken.
func (p *proxy) cut() { p.each(func(l *link) { l.stalled.Store(false); l.close() }) }

// stall lets every connection there is stand still for ever, as one that a
// firewall forgot; new ones work.
func (p *proxy) stall() { p.each(func(l *link) { l.stalled.Store(true) }) }

func (p *proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		do(l)
	}
}

// after waits until as many more bytes have passed, while the run goes on.
func (p *proxy) after(r *pipeline, size int64) {
	r.t.Helper()
	from := p.all.Load()
	for p.all.Load()-from < size {
		select {
		case <-r.ended:
			r.t.Fatalf("the run ended when %d bytes had passed: %v\n%s", p.all.Load()-from, r.err, r.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
