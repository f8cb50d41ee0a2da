package load_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// storeSize is the room of a bare node's store: plenty for the images here.
const storeSize = "600m"

// bare makes nodes that are no more than Kind's node image with its containerd
// running, whose store lies in memory: what a load needs, within a second.
func (w *world) bare(t *testing.T, count int, size string) *cluster {
	t.Helper()
	c := &cluster{t: t, engine: w.direct, name: "bare-" + strings.ToLower(rand.Text()[:6]), workdir: t.TempDir(), world: w}
	store := "/var/lib/containerd:rw,exec,suid,dev,size=" + size
	if w.direct.Name() == engine.Podman {
		store += ",notmpcopyup"
	}
	for i := range count {
		name := fmt.Sprintf("%s-node%d", c.name, i)
		t.Cleanup(func() {
			if err := w.direct.RemoveContainer(context.Background(), name, true, true); err != nil && !errors.Is(err, engine.ErrNotFound) {
				t.Error(err)
			}
		})
		out, err := w.command(t.Context(), "run", "--detach", "--name", name, "--label", settings.Label+"=true", "--privileged", "--network=none",
			"--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", store, "--entrypoint", "/bin/sh", w.image,
			// As systemd does, it starts containerd again.
			"-c", "while :; do containerd >>/tmp/containerd.log 2>&1; sleep 0.5; done").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		c.nodes = append(c.nodes, name)
		c.waitFor(name, 20*time.Second)
	}
	return c
}

// waitFor waits until a node's containerd and its CRI service answer.
func (c *cluster) waitFor(node string, limit time.Duration) {
	c.t.Helper()
	var out bytes.Buffer
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out.Reset()
		err = c.engine.Exec(c.t.Context(), node, engine.ExecRequest{Cmd: []string{"sh", "-c", "ctr -n k8s.io images ls -q && crictl images -q"}, Stdout: &out, Stderr: &out, Privileged: true})
		if err == nil {
			return
		}
	}
	c.t.Fatalf("%s: containerd does not answer: %v %s", node, err, out.String())
}

// inspectedExec is a session as the engine's documented API shows it; Podman
// answers Docker's too.
type inspectedExec struct {
	ID      string
	Running bool
	Pid     int
}

func (w *world) api(t *testing.T, path string, into any) error {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", w.socket)
		},
	}}
	resp, err := client.Get("http://d/v1.40" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return os.ErrNotExist // it is over and forgotten
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// sessions returns what still runs in a node on behalf of an exec.
func (w *world) sessions(t *testing.T, node string) []inspectedExec {
	t.Helper()
	var box struct{ ExecIDs []string }
	if err := w.api(t, "/containers/"+node+"/json", &box); err != nil {
		t.Errorf("inspect %s: %v", node, err)
	}
	var running []inspectedExec
	for _, id := range box.ExecIDs {
		s := inspectedExec{ID: id}
		if err := w.api(t, "/exec/"+id+"/json", &s); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("inspect exec %s: %v", id, err)
			}
			continue
		}
		// A record can outlive its process where the service was killed.
		if s.Running && !errors.Is(syscall.Kill(s.Pid, 0), syscall.ESRCH) {
			running = append(running, s)
		}
	}
	return running
}

// listening counts this process's listening sockets.
func listening(t *testing.T) int {
	t.Helper()
	own := map[string]bool{}
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	count := 0
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // not Linux, or no IPv6
		}
		for line := range strings.Lines(string(text)) {
			// proc_pid_net(5): state 0A listens, the tenth field is the inode.
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && own[f[9]] {
				count++
			}
		}
	}
	return count
}
