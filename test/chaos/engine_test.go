package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/enginetest"
)

// service is a Podman service of the test's own over the host's storage, so
// that killing it hurts nobody else's.
type service struct {
	t    *testing.T
	sock string
	mu   sync.Mutex
	cmd  *exec.Cmd
}

func newService(t *testing.T) *service {
	t.Helper()
	enginetest.Connect(t, "podman") // settings that this host needs, in the environment
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, sock: filepath.Join(dir, "podman.sock")}
	s.start()
	t.Cleanup(func() {
		s.kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *service) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = os.Remove(s.sock)
	s.cmd = exec.Command("podman", "system", "service", "--time=0", "unix://"+s.sock)
	s.cmd.Env = without(os.Environ(), "CONTAINER_HOST", "CONTAINER_SSHKEY", "CONTAINER_CONNECTION")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Errorf("start the engine's service: %v", err)
		return
	}
	for range 100 {
		if s.answers() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Error("the engine's service does not answer")
}

func (s *service) answers() bool {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.sock)
		}}}
	res, err := client.Get("http://d/_ping")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// kill ends the service's one process at once, as a crash does; the containers
// go on.
func (s *service) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// proxy stands between a run and its engine.
type proxy struct {
	t        *testing.T
	sock     string // where it listens
	backend  string
	listener net.Listener
	up, all  atomic.Int64 // bytes towards the engine, and both ways
	stalled  atomic.Bool  // takes bytes and passes none on
	refusing atomic.Bool
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

func newProxy(t *testing.T, backend string) *proxy {
	t.Helper()
	p := &proxy{t: t, sock: backend + ".proxy", backend: backend, conns: map[net.Conn]bool{}}
	var err error
	if p.listener, err = net.Listen("unix", p.sock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.listener.Close(); p.cut() })
	go func() {
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) serve(c net.Conn) {
	b, err := net.Dial("unix", p.backend)
	if err != nil || p.refusing.Load() {
		_ = c.Close()
		if err == nil {
			_ = b.Close()
		}
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[b] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	pass := func(to, from net.Conn, counters ...*atomic.Int64) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			for _, counter := range counters {
				counter.Add(int64(n))
			}
			for p.stalled.Load() {
				time.Sleep(50 * time.Millisecond)
			}
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					_ = to.(*net.UnixConn).CloseWrite()
				}
				return
			}
		}
	}
	both.Go(func() { pass(b, c, &p.up, &p.all) })
	both.Go(func() { pass(c, b, &p.all) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, b)
	p.mu.Unlock()
	_, _ = c.Close(), b.Close()
}

// cut ends every connection there is; new ones are taken.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.stalled.Store(false)
}

// after waits until as many more bytes have passed, while the run goes on.
func (p *proxy) after(r *pipeline, bytes int64) {
	r.t.Helper()
	from := p.all.Load()
	for p.all.Load()-from < bytes {
		select {
		case <-r.ended:
			r.t.Fatalf("the run ended when %d bytes had passed: %v\n%s", p.all.Load()-from, r.err, r.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
