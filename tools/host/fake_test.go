package host

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/host/internal/facts"
)

// fakeRunner stands in for the programs of a host: what each call answers, by
// the beginning of its command line.
type fakeRunner struct {
	programs map[string]bool   // found by LookPath
	answers  map[string]string // longest matching prefix wins
	fails    map[string]string
	calls    []string
	on       func(call string) // side effects
}

func (f *fakeRunner) LookPath(name string) (string, error) {
	if f.programs[name] {
		return "/usr/bin/" + name, nil
	}
	return "", exec.ErrNotFound
}

func (f *fakeRunner) Run(_ context.Context, c command.Command) (string, error) {
	call := c.String()
	f.calls = append(f.calls, call)
	if f.on != nil {
		f.on(call)
	}
	if said, ok := longest(f.fails, call); ok {
		return "", &command.Error{Command: call, Output: said, Err: errors.New("exit status 1")}
	}
	out, _ := longest(f.answers, call)
	return out, nil
}

func (f *fakeRunner) called(prefix string) bool {
	for _, c := range f.calls {
		if strings.HasPrefix(c, prefix) {
			return true
		}
	}
	return false
}

func longest(m map[string]string, call string) (string, bool) {
	best, found := "", false
	for k := range m {
		if strings.HasPrefix(call, k) && len(k) >= len(best) {
			best, found = k, true
		}
	}
	return m[best], found
}

// easyHost is a laptop: systemd, cgroup v2, all capabilities.
func easyHost() facts.Facts {
	return facts.Facts{OS: "linux", Arch: "amd64", CapSysResource: true, NoFile: 524288, NProc: facts.Unlimited,
		Cgroup: facts.CgroupV2, Systemd: true, LibModules: true}
}

// bareHost is a container: no systemd, hybrid cgroups, capabilities bounded.
func bareHost() facts.Facts {
	return facts.Facts{OS: "linux", Arch: "amd64", NoFile: 20000, NProc: 90000, Cgroup: facts.CgroupHybrid}
}

// newFake is a host with nothing on it whose engines answer at the given URLs.
func newFake(t *testing.T, o Options, f facts.Facts, answering ...string) (*host, *fakeRunner) {
	t.Helper()
	o.RuntimeDir, o.StateDir = t.TempDir(), t.TempDir()
	if o.Environ == nil {
		o.Environ = []string{"PATH=/nowhere", "HOME=" + t.TempDir()}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	run := &fakeRunner{programs: map[string]bool{}, answers: map[string]string{}, fails: map[string]string{}}
	h := newHost(o)
	h.run, h.root, h.facts = run, t.TempDir(), f
	h.ping = func(_ context.Context, e endpoint) error {
		for _, a := range answering {
			if e.url == a || strings.HasSuffix(a, "*") && strings.HasPrefix(e.url, strings.TrimSuffix(a, "*")) {
				return nil
			}
		}
		return errors.New("connection refused")
	}
	return h, run
}
