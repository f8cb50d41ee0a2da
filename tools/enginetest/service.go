package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/host"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// Service is a Podman API service of one test's own, which it may kill.
type Service struct {
	Socket  string // path of the unix socket it serves
	Program string // absolute path of its podman

	t      testing.TB
	dir    string
	global []string // options that select its storage
	env    []string // of its process
	use    []string // for those who use it

	mu  sync.Mutex
	cmd *exec.Cmd
}

// serviceWait is how long a service may take to answer.
const serviceWait = time.Minute

// Podman5 starts a Podman 5 beside the machine's own Podman, with storage and
// networks of its own, and makes it the test's engine: engine.Open, Kind and
// every program the test starts use it. The program is built once and cached;
// everything else goes with the test. It is for root on Linux, elsewhere the
// test is skipped.
func Podman5(t testing.TB) *Service {
	t.Helper()
	Connect(t, host.Podman) // packages, and the settings this host needs
	sweepPodman5(t)
	s := newService(t, podman5(t), podman5Prefix)
	conf := "[network]\nnetwork_config_dir = \"" + s.dir + "/networks\"\ndefault_subnet = \"10.119.0.0/16\"\n" +
		"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
	bin := filepath.Join(s.dir, "bin") // where Kind finds it under its usual name
	err := errors.Join(os.WriteFile(filepath.Join(s.dir, "override.conf"), []byte(conf), 0o600),
		os.Mkdir(bin, 0o755), os.Symlink(s.Program, filepath.Join(bin, "podman")))
	if err != nil {
		t.Fatal(err)
	}
	s.global = podman5Storage(s.dir)
	s.env = append(s.env, "CONTAINERS_CONF_OVERRIDE="+filepath.Join(s.dir, "override.conf"))
	t.Cleanup(func() {
		if err := errors.Join(s.emptyStorage(), s.remove()); err != nil {
			t.Errorf("remove Podman 5: %v", err)
		}
	})
	s.Start()
	// Root's Podmans share a network's addresses by its name: with one name for
	// two engines, the network's removal on one takes them away from the other.
	s.setenv("PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), fmt.Sprintf("KIND_EXPERIMENTAL_PODMAN_NETWORK=%s-%d", settings.NetworkName, os.Getpid()))
	return s
}

// PodmanService starts another API service over the machine's own storage, and
// makes it the test's engine: killing it cuts nobody else's connection. What
// the test makes there is the test's to remove.
func PodmanService(t testing.TB) *Service {
	t.Helper()
	if conn := Connect(t, host.Podman); !strings.HasPrefix(conn.URL, "unix://") {
		Skip(t, "the engine at "+conn.URL+" is on another machine")
	}
	program, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, program, "kubernaut-e2e-service-")
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Errorf("remove the test's service: %v", err)
		}
	})
	s.Start()
	s.setenv()
	return s
}

// newService makes its folder. The caller removes it.
func newService(t testing.TB, program, prefix string) *Service {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(dir, "tmp") // a killed Podman leaves what it was writing
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	return &Service{Socket: filepath.Join(dir, "podman.sock"), Program: program, t: t, dir: dir,
		env: append(host.LocalPodman(os.Environ()), "TMPDIR="+spool)}
}

// Env is the environment of those who use the service, as the test has it.
func (s *Service) Env() []string { return slices.Clone(s.use) }

func (s *Service) setenv(more ...string) {
	s.t.Helper()
	s.use = append([]string{"CONTAINER_HOST=unix://" + s.Socket}, more...)
	for _, name := range []string{"CONTAINER_SSHKEY", "CONTAINER_CONNECTION"} {
		if os.Getenv(name) != "" {
			s.use = append(s.use, name+"=")
		}
	}
	setenv(s.t, s.use)
}

// Command is podman on the service's storage, without the service.
func (s *Service) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Program, slices.Concat(s.global, args)...)
	cmd.Env = s.env
	return cmd
}

// Start starts the service, again after Kill, and returns when it answers.
func (s *Service) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer log.Close()
	_ = os.Remove(s.Socket) // left by one that was killed
	cmd := s.Command(context.Background(), "system", "service", "--time=0", "unix://"+s.Socket)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the test is not meant for it
	if err := cmd.Start(); err != nil {
		s.t.Errorf("start %s: %v", cmd, err)
		return
	}
	s.cmd = cmd
	for end := time.Now().Add(serviceWait); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = s.ping(); err == nil {
			return
		}
	}
	text, _ := os.ReadFile(log.Name())
	s.t.Errorf("%s does not answer: %v\n%s", cmd, err, text)
}

func (s *Service) ping() error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
		},
	}}
	resp, err := client.Get("http://d/_ping")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Kill ends the service's process as a crash would: no connection is closed in
// order, the socket's file stays, containers and what runs in them go on.
func (s *Service) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// remove ends the service and removes its folder.
func (s *Service) remove() error {
	s.Kill()
	return removeFolder(s.dir)
}

// setenv sets NAME=value pairs for the test.
func setenv(t testing.TB, env []string) {
	t.Helper()
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}
