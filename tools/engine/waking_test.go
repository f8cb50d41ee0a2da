package engine

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// stuck is a connection that nothing moves over, and that closing does not wake.
type stuck struct {
	net.Conn
	until chan struct{}
}

func (s stuck) Read([]byte) (int, error)  { <-s.until; return 0, io.EOF }
func (s stuck) Write([]byte) (int, error) { <-s.until; return 0, io.ErrClosedPipe }
func (s stuck) Close() error              { <-s.until; return nil }

func TestClosingWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		c := newWaking(stuck{until: until})
		results := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 10)); results <- err }()
		go func() { _, err := c.Write(make([]byte, 100_000)); results <- err }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-results; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written after the end: %v", err)
		}
		close(until)
	})
}

func TestWakingPassesAllOn(t *testing.T) {
	here, there := net.Pipe()
	c := newWaking(here)
	data := make([]byte, 300_000)
	rand.Read(data)
	go func() {
		io.Copy(there, there) //nolint:errcheck // ends with the test
	}()
	go func() {
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
	}()
	back := make([]byte, len(data))
	if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, data) {
		t.Errorf("came back changed, %v", err)
	}
	if err := there.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(back); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
