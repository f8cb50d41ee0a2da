package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/host"
)

// podman5Prefix begins the names of the folders of Podman 5 services; the
// process that made one follows.
const podman5Prefix = "kubernaut-e2e-podman5-"

func podman5Storage(dir string) []string {
	return []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}
}

// emptyStorage ends and removes every container there, which are all the
// test's: the processes and networks of those left would outlive the folder.
func (s *Service) emptyStorage() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := s.Command(ctx, "rm", "--all", "--force", "--volumes", "--time=0").CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove containers: %w: %s", err, out)
	}
	return nil
}

// endProcesses ends what still works on the folder: for five minutes after an
// exec its monitor waits to clean up, and makes an empty storage anew for that.
func endProcesses(dir string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		text, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid > 1 && pid != os.Getpid() && strings.Contains(string(text), dir+"/") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// removeFolder removes a folder in which storage may still be mounted, and held
// for another moment by a service that ends.
func removeFolder(dir string) error {
	endProcesses(dir)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for _, line := range slices.Backward(lines) { // what was mounted last, first
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if out, err := exec.CommandContext(context.Background(), "umount", "-l", f[4]).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("umount %s: %w: %s", f[4], err, out))
			}
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return os.RemoveAll(dir)
}

// isTest says whether a process is a test: the identifier of one that ended may
// be another program's by now.
func isTest(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(strings.TrimSuffix(exe, " (deleted)"), ".test")
}

// sweepPodman5 removes what tests left whose process was killed.
func sweepPodman5(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob("/var/tmp/" + podman5Prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), podman5Prefix+"%d-", &pid); err != nil || isTest(pid) {
			continue
		}
		program, err := os.Readlink(filepath.Join(dir, "bin", "podman"))
		if errors.Is(err, os.ErrNotExist) { // no more than an empty storage
			err = removeFolder(dir)
			if err == nil {
				continue
			}
		}
		if err != nil {
			t.Logf("left by another test, and not removed: %s: %v", dir, err)
			continue
		}
		s := &Service{Program: program, dir: dir, global: podman5Storage(dir),
			env: append(host.LocalPodman(os.Environ()), "CONTAINERS_CONF_OVERRIDE="+filepath.Join(dir, "override.conf"))}
		if err := errors.Join(s.emptyStorage(), removeFolder(dir)); err != nil {
			t.Logf("left by another test, and not removed: %s: %v", dir, err)
		}
	}
}
