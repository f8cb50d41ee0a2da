package engine_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// machine is an SSH server that forwards to the engine's socket, as that of a
// Podman machine does.
type machine struct {
	listener net.Listener
	socket   string
	cutAfter atomic.Int64 // bytes from client to engine, 0: never

	mu    sync.Mutex
	conns []net.Conn
}

func startMachine(t *testing.T, socket string) *machine {
	t.Helper()
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	_, clientKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(clientKey, "")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	key := filepath.Join(home, "id")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	m := &machine{socket: socket}
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.listener.Close(); m.cut() })
	go func() {
		for {
			conn, err := m.listener.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns = append(m.conns, conn)
			m.mu.Unlock()
			go m.serve(conn, config)
		}
	}()
	t.Setenv("HOME", home) // the client keeps known_hosts there
	t.Setenv("CONTAINER_HOST", fmt.Sprintf("ssh://root@%s%s", m.listener.Addr(), socket))
	t.Setenv("CONTAINER_SSHKEY", key)
	return m
}

func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
}

func (m *machine) serve(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "direct-streamlocal@openssh.com" {
			_ = c.Reject(ssh.UnknownChannelType, "only the socket")
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		go m.forward(channel)
	}
}

func (m *machine) forward(channel ssh.Channel) {
	engine, err := net.Dial("unix", m.socket)
	if err != nil {
		_ = channel.Close()
		return
	}
	go func() {
		_, _ = io.Copy(channel, engine)
		_ = channel.CloseWrite()
		_ = channel.Close()
		_ = engine.Close()
	}()
	var from io.Reader = channel
	n := m.cutAfter.Swap(0)
	if n > 0 {
		from = io.LimitReader(channel, n)
	}
	_, _ = io.Copy(engine, from)
	if n > 0 {
		m.cut()
		_ = engine.Close()
		return
	}
	_ = engine.(*net.UnixConn).CloseWrite()
}
