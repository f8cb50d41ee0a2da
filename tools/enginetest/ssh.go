package enginetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Machine is an SSH server on this host that forwards to an engine's socket, as
// that of a Podman machine does, and fails as it is told to.
type Machine struct {
	t      testing.TB
	socket string
	config *ssh.ServerConfig
	home   string
	key    string
	env    []string

	mu       sync.Mutex
	resumed  sync.Cond
	listener net.Listener
	address  string
	conns    map[net.Conn]bool
	stalled  bool
	left     int64 // bytes until the cut, if armed
	armed    bool
	stream   int64 // bytes that the next stream gets through; 0: all
}

// SSH puts a Machine before an engine's socket and makes it the test's engine.
// known_hosts, kubeconfigs and whatever else belongs to a home folder goes to
// one of the test's, caches stay where they are.
func SSH(t testing.TB, socket string) *Machine {
	t.Helper()
	home, err := os.MkdirTemp("", "ssh-") // not t.TempDir: a path with the word machine means something to Podman
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	m := &Machine{t: t, socket: socket, home: home, key: filepath.Join(home, "id"), address: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	m.resumed.L = &m.mu
	if m.config, err = sshKeys(m.key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Refuse(); m.Resume() })
	m.Return()
	if t.Failed() {
		t.FailNow()
	}
	m.env = append(m.EnvAt(m.address), "CONTAINER_SSHKEY="+m.key, "HOME="+home)
	m.env = append(m.env, caches(t)...)
	setenv(t, m.env)
	return m
}

// sshKeys makes the server's key and the client's, which goes to a file.
func sshKeys(file string) (*ssh.ServerConfig, error) {
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		return nil, err
	}
	public, clientKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(clientKey, "")
	if err != nil {
		return nil, err
	}
	known, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(known.Marshal()) {
			return nil, os.ErrPermission
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	return config, os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}

// caches names folders that would move with HOME.
func caches(t testing.TB) []string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"XDG_CACHE_HOME=" + cache}
	for _, name := range []string{"GOPATH", "GOCACHE", "GOMODCACHE", "GOENV"} {
		out, err := exec.CommandContext(context.Background(), "go", "env", name).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", name, err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// Env is the environment of those who use the machine, as the test has it.
func (m *Machine) Env() []string { return slices.Clone(m.env) }

// EnvAt is what Env has differently for a proxy (HOST:PORT) before the machine.
func (m *Machine) EnvAt(address string) []string {
	return []string{"CONTAINER_HOST=ssh://root@" + address + m.socket}
}

// Address is where the machine listens, HOST:PORT.
func (m *Machine) Address() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.address
}

func (m *Machine) serve(conn net.Conn) {
	defer m.forget(conn)
	_, channels, requests, err := ssh.NewServerConn(conn, m.config)
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

func (m *Machine) forward(channel ssh.Channel) {
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
	if n := m.takeStream(); n > 0 {
		_, _ = io.Copy(engine, io.LimitReader(channel, n))
		m.Cut()
		_ = engine.Close()
		return
	}
	_, _ = io.Copy(engine, channel)
	_ = engine.(*net.UnixConn).CloseWrite()
}
