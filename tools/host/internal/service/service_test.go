package service

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleeper is a service that serves at once and has arguments of its own.
func sleeper(t *testing.T, ready error) Service {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := Service{Dir: dir, Name: "sleeper", Path: path, Sock: filepath.Join(dir, "s.sock"),
		// A length of time that no other sleep has: the folder's name makes it so.
		Args: []string{"600", "0." + digits(dir)}, Env: os.Environ(), Wait: 2 * time.Second, Grace: 5 * time.Second,
		Ready: func(context.Context) error { return ready }}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func TestLife(t *testing.T) {
	s := sleeper(t, nil)
	if _, ok := s.Find(); ok || s.Stale() {
		t.Fatal("found before the start")
	}
	st, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Find(); !ok || got != st {
		t.Errorf("found %+v, want %+v", got, st)
	}
	if sid, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(st.PID), "stat")); err != nil || !strings.Contains(string(sid), " "+strconv.Itoa(st.PID)+" "+strconv.Itoa(st.PID)+" ") {
		t.Errorf("no session of its own: %s", sid)
	}
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, ok := s.Find(); !ok {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !s.Stale() {
		t.Error("a killed service's pid file is not called stale")
	}
	if err := s.Stop(t.Context()); err != nil || s.Stale() {
		t.Errorf("after Stop: %v, stale %v", err, s.Stale())
	}
}

func TestNotReadyLeavesNothing(t *testing.T) {
	s := sleeper(t, errors.New("not yet"))
	if _, err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("got %v", err)
	}
	if st, ok := s.Find(); ok {
		t.Errorf("%+v still runs", st)
	}
}

// The same arguments behind another root are another host's service.
func TestOtherRootIsNotOurs(t *testing.T) {
	s := sleeper(t, nil)
	if _, err := exec.LookPath("unshare"); err != nil || os.Getuid() != 0 {
		t.Skip("needs unshare and root")
	}
	cmd := exec.Command("unshare", append([]string{"-m", s.Path}, s.Args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	time.Sleep(300 * time.Millisecond) // until unshare has become sleep
	if st, ok := s.Find(); ok {
		t.Errorf("found %+v, which sees other files", st)
	}
}
