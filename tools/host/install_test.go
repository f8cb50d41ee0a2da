package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// aptHost is a Debian whose package manager installs what it is told to.
func aptHost(t *testing.T, o Options, installed ...string) (*host, *fakeRunner, map[string]bool) {
	t.Helper()
	h, run := newFake(t, o, easyHost())
	run.programs["apt-get"] = true
	have := map[string]bool{}
	for _, p := range installed {
		have[p] = true
	}
	state := func() {
		var b strings.Builder
		for p := range have {
			b.WriteString(p + " installed\n")
		}
		run.answers["dpkg-query"] = b.String()
	}
	state()
	run.on = func(call string) {
		_, pkgs, ok := strings.Cut(call, " install ")
		if _, failing := longest(run.fails, call); !ok || failing {
			return
		}
		for _, p := range strings.Fields(pkgs) {
			have[p] = true
			run.programs[p] = true
		}
		state()
	}
	return h, run, have
}

const aptGet = "env DEBIAN_FRONTEND=noninteractive apt-get"

func lists(t *testing.T, h *host) {
	t.Helper()
	dir := filepath.Join(h.root, "var/lib/apt/lists")
	if err := errorsOf(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "deb_main_binary-amd64_Packages"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestInstallsOnlyWhatIsMissing(t *testing.T) {
	h, run, have := aptHost(t, Options{AllowInstall: true}, "runc")
	lists(t, h)
	if err := h.installPackages(context.Background(), []string{"podman", "runc"}); err != nil {
		t.Fatal(err)
	}
	if !have["podman"] || run.called(aptGet+" -q") {
		t.Errorf("calls %q: want podman installed without an update", run.calls)
	}
	if all, _ := h.readRecord(); len(all) != 1 || all[0].What != "podman" {
		t.Errorf("record %v, want podman alone", all)
	}
	n := len(run.calls)
	if err := h.installPackages(context.Background(), []string{"podman", "runc"}); err != nil || len(run.calls) != n+1 {
		t.Errorf("a second time ran %q, %v", run.calls[n:], err)
	}
}

func TestUpdatesWithoutLists(t *testing.T) {
	h, run, _ := aptHost(t, Options{AllowInstall: true})
	if err := h.installPackages(context.Background(), []string{"podman"}); err != nil || !run.called(aptGet+" -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update") {
		t.Errorf("calls %q, %v: want an update", run.calls, err)
	}
}

func TestUpdatesWhenListsAreStale(t *testing.T) {
	h, run, _ := aptHost(t, Options{AllowInstall: true})
	lists(t, h)
	run.fails[aptGet+" -y"] = "E: Unable to locate package podman"
	inner := run.on
	run.on = func(call string) {
		if strings.HasSuffix(call, " update") {
			delete(run.fails, aptGet+" -y")
		}
		inner(call)
	}
	if err := h.installPackages(context.Background(), []string{"podman"}); err != nil {
		t.Errorf("%v after calls %q", err, run.calls)
	}
}

func TestInstallingNeedsRootOrSudo(t *testing.T) {
	h, run, _ := aptHost(t, Options{AllowInstall: true})
	lists(t, h)
	h.facts.UID = 1000
	err := h.installPackages(context.Background(), []string{"podman"})
	if e := failure.As(err); e == nil || e.Class != failure.Configuration || e.Remedy != "sudo apt-get install podman" {
		t.Errorf("without sudo: %v", err)
	}
	run.programs["sudo"] = true
	run.fails["sudo -n true"] = "sudo: a password is required"
	if e := failure.As(h.installPackages(context.Background(), []string{"podman"})); e == nil || e.Class != failure.Configuration {
		t.Error("a password would be needed, but no configuration error came")
	}
	delete(run.fails, "sudo -n true")
	if err := h.installPackages(context.Background(), []string{"podman"}); err != nil || !run.called("sudo -n "+aptGet) {
		t.Errorf("calls %q, %v: want sudo -n", run.calls, err)
	}
}

func TestFailedInstallSaysWhatAptSaid(t *testing.T) {
	h, run, _ := aptHost(t, Options{AllowInstall: true})
	lists(t, h)
	run.fails[aptGet+" -y"] = "E: You don't have enough free space in /var/cache/apt/archives/."
	if err := h.installPackages(context.Background(), []string{"podman"}); err == nil || !strings.Contains(err.Error(), "enough free space") {
		t.Errorf("got %v", err)
	}
}

func TestNamesOnOtherSystems(t *testing.T) {
	for _, tt := range []struct{ os, program, want, not string }{
		{"linux", "dnf", "dnf -y --setopt=install_weak_deps=False install podman", " iproute2"},
		{"darwin", "brew", "brew install --quiet podman", "runc"},
	} {
		h, run := newFake(t, Options{AllowInstall: true}, easyHost())
		h.facts.OS = tt.os
		run.programs[tt.program] = true
		run.fails["rpm -q"], run.fails["brew list"] = "no", "no"
		_ = h.installPackages(context.Background(), podmanPackages) // the fake never reports it as installed
		got := strings.Join(run.calls, "\n")
		if !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s: calls %q", tt.program, got)
		}
	}
}

func TestPodmanIsInstalledWhereNothingIs(t *testing.T) {
	h, run, _ := aptHost(t, Options{AllowInstall: true})
	if err := h.ensureCLI(context.Background(), Podman); err != nil || !run.programs["podman"] {
		t.Errorf("calls %q, %v", run.calls, err)
	}
}

// TestDockersCommandIsInstalledToo: Debian 13 keeps it in a package of its own,
// which Debian 12 does not know.
func TestDockersCommandIsInstalledToo(t *testing.T) {
	for name, tt := range map[string]struct {
		apart     bool   // the command is a package of its own
		lists     bool   // apt has lists before
		installed string // before
	}{
		"Debian 12":                         {lists: true},
		"Debian 12, an image without lists": {},
		"Debian 13":                         {apart: true, lists: true},
		"Debian 13, an image without lists": {apart: true},
		"Debian 13 with dockerd alone":      {apart: true, lists: true, installed: "docker.io"},
	} {
		t.Run(name, func(t *testing.T) {
			h, run, have := aptHost(t, Options{Provider: Docker, AllowInstall: true}, tt.installed)
			if tt.lists {
				lists(t, h)
			}
			run.fails["apt-cache"] = "E: No packages found"
			if tt.apart {
				delete(run.fails, "apt-cache")
				run.answers["apt-cache show docker-cli"] = "Package: docker-cli\nVersion: 26.1.5\n"
			}
			run.programs["dockerd"] = tt.installed != ""
			inner := run.on
			run.on = func(call string) {
				inner(call)
				run.programs["dockerd"] = have["docker.io"]
				run.programs["docker"] = have["docker-cli"] || have["docker.io"] && !tt.apart
			}
			if err := h.ensureDockerd(t.Context()); err != nil || !run.programs["docker"] || have["docker-cli"] != tt.apart {
				t.Errorf("installed %v, %v; calls %q", have, err, run.calls)
			}
		})
	}
}
