package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// silent accepts connections, says nothing and tells of each.
func silent(t *testing.T, network, address string) (at string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	calls := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			calls <- struct{}{}
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	return l.Addr().String(), calls
}

// soon fails the test if f takes longer than it may with a context that has ended.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

func TestDockerAttachEndsWithItsContext(t *testing.T) {
	at, _ := silent(t, "tcp", "127.0.0.1:0")
	c, err := client.NewClientWithOpts(client.WithHost("tcp://"+at), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d := &docker{address: address{provider: Docker, url: "tcp://" + at}, client: c}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	soon(t, "attach", func() {
		if _, err := d.execAttach(ctx, "0123"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// A call that connects for as long as it may keeps no other one waiting for
// longer than that one's own context.
func TestPodmanCallsDoNotWaitForAnothersConnect(t *testing.T) {
	at, accepted := silent(t, "unix", filepath.Join(t.TempDir(), "s"))
	p := newPodman(address{provider: Podman, url: "unix://" + at}, slog.New(slog.DiscardHandler))
	long, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := p.connection(long)
		first <- err
	}()
	for range 2 { // the look at the socket, then the bindings' question
		<-accepted
	}
	soon(t, "a ping beside a call that connects", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := p.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	soon(t, "dropping the connection", p.drop)
	cancel()
	soon(t, "connecting with a context that has ended", func() {
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestObeyDiscardsWhatComesTooLate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release, discarded := make(chan struct{}), make(chan int, 1)
	cancel()
	_, err := obey(ctx, func() (int, error) {
		<-release
		return 7, nil
	}, func(n int) { discarded <- n })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	soon(t, "discarding", func() {
		if n := <-discarded; n != 7 {
			t.Errorf("discarded %d", n)
		}
	})
}
