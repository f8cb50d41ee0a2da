package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// podmanPackages are what Podman needs on a Debian without recommended packages:
// runc beside crun because crun refuses hybrid cgroups.
var podmanPackages = []string{
	"podman", "runc", "conmon", "netavark", "aardvark-dns", "iptables", "nftables", "uidmap", "fuse-overlayfs", "iproute2",
}

// dockerPackages give dockerd and, up to Debian 12, its command.
var dockerPackages = []string{"docker.io", "iptables"}

// dockerCommand is the package of the docker command since Debian 13, where
// docker.io only recommends it (Recommends of docker.io 26.1 and later).
const dockerCommand = "docker-cli"

// CompilerPackages give the C compiler that `go test -race` needs on Linux.
var CompilerPackages = []string{"gcc", "libc6-dev"}

// InstallPackages installs those of the packages (Debian's names) that are not
// there, recommended ones left out. Everything is announced and on record; Undo
// keeps it. Without a way to install, the error is of class configuration and
// its remedy is the command to type.
func InstallPackages(ctx context.Context, o Options, pkgs []string) ([]Change, error) {
	h := newHost(o)
	err := h.installPackages(ctx, pkgs)
	return h.made, err
}

func (h *host) installPackages(ctx context.Context, pkgs []string) error {
	m, ok := h.manager()
	if !ok {
		return failure.New(failure.Configuration, "neither apt-get, dnf nor brew is here to install "+strings.Join(pkgs, ", "),
			"install them by hand, then repeat", nil)
	}
	missing := h.missing(ctx, m, pkgs)
	if len(missing) == 0 {
		return nil
	}
	args := m.install(missing)
	typed := m.program + " " + strings.Join(m.install(missing), " ")
	if m.root {
		typed = "sudo " + m.program + " install " + strings.Join(missing, " ")
	}
	if !h.AllowInstall {
		return failure.New(failure.Configuration, "not installed: "+strings.Join(missing, ", "), "mage setup, or: "+typed, nil)
	}
	var prefix []string
	if m.root {
		var err error
		if prefix, err = h.privilege(ctx); err != nil {
			return failure.New(failure.Configuration, "not installed: "+strings.Join(missing, ", ")+"; installing needs root", typed, err)
		}
	}
	h.Log.Info("changing this host", "what", "packages "+strings.Join(missing, " "), "why", "they are needed; installed with "+m.program)
	for _, p := range missing {
		if err := h.record(Change{Kind: KindPackage, What: p, Why: "installed with " + m.program}); err != nil {
			return err
		}
	}
	if m.refresh != nil && !h.haveLists() {
		if err := h.manage(ctx, prefix, m, m.refresh); err != nil {
			return err
		}
	}
	err := h.manage(ctx, prefix, m, args)
	if err != nil && m.refresh != nil && ctx.Err() == nil && staleLists(err) {
		h.Log.Info("package lists are out of date; renewing them", "manager", m.program)
		if err := h.manage(ctx, prefix, m, m.refresh); err != nil {
			return err
		}
		err = h.manage(ctx, prefix, m, args)
	}
	if err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(missing, " "), err)
	}
	if left := h.missing(ctx, m, missing); len(left) > 0 {
		return fmt.Errorf("%s reported success, but these are not installed: %s", m.program, strings.Join(left, ", "))
	}
	return nil
}

func (h *host) manager() (manager, bool) {
	all := []manager{aptManager(), dnfManager()}
	if h.facts.OS == "darwin" {
		all = []manager{brewManager()}
	}
	for _, m := range all {
		if _, err := h.run.LookPath(m.program); err == nil {
			return m, true
		}
	}
	return manager{}, false
}

// missing returns the manager's own names of the packages that are not there.
func (h *host) missing(ctx context.Context, m manager, pkgs []string) []string {
	var names []string
	for _, p := range pkgs {
		if other, ok := m.rename[p]; ok {
			p = other
		}
		if p != "" && (m.only == nil || slices.Contains(m.only, p)) {
			names = append(names, p)
		}
	}
	have := m.installed(ctx, h, names)
	var missing []string
	for _, n := range names {
		if !have[n] {
			missing = append(missing, n)
		}
	}
	return missing
}

// manage runs the package manager, never asking anything on a terminal.
func (h *host) manage(ctx context.Context, prefix []string, m manager, args []string) error {
	call := append(append([]string{}, prefix...), "env", "DEBIAN_FRONTEND=noninteractive", m.program)
	call = append(call, args...)
	_, err := h.stream(ctx, "install packages", command.Command{Name: call[0], Args: call[1:], Base: h.environ()})
	return err
}

// privilege returns what to put before a command so that it runs as root:
// nothing, or sudo where it asks for no password.
func (h *host) privilege(ctx context.Context) ([]string, error) {
	if h.facts.UID == 0 {
		return nil, nil
	}
	if _, err := h.run.LookPath("sudo"); err != nil {
		return nil, errors.New("this user is not root and there is no sudo")
	}
	if _, err := h.output(ctx, "sudo", "-n", "true"); err != nil {
		return nil, errors.New("sudo asks for a password, and setup asks for nothing on a terminal")
	}
	return []string{"sudo", "-n"}, nil
}

// asRoot runs a command with what privilege gives.
func (h *host) asRoot(ctx context.Context, args ...string) (string, error) {
	prefix, err := h.privilege(ctx)
	if err != nil {
		return "", err
	}
	call := append(append([]string{}, prefix...), args...)
	return h.output(ctx, call[0], call[1:]...)
}

// haveLists reports whether apt knows any packages at all; images of Debian come
// without lists.
func (h *host) haveLists() bool {
	lists, _ := filepath.Glob(filepath.Join(h.root, "var/lib/apt/lists/*_Packages*"))
	return len(lists) > 0
}

// aptHas reports whether apt is the package manager and knows a package. Without
// lists it may: installing brings them first.
func (h *host) aptHas(ctx context.Context, pkg string) bool {
	if m, ok := h.manager(); !ok || m.program != aptManager().program {
		return false
	}
	if !h.haveLists() {
		return true
	}
	said, err := h.output(ctx, "apt-cache", "show", pkg)
	return err == nil && strings.Contains(said, "Package: "+pkg) // a virtual one is no error
}

// staleLists recognizes apt's messages for lists that do not fit the archive.
func staleLists(err error) bool {
	text := err.Error()
	for _, s := range []string{"Unable to locate package", "has no installation candidate", "404  Not Found", "--fix-missing"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// ensureCLI makes sure that the engine's command is there: Kind calls it.
func (h *host) ensureCLI(ctx context.Context, provider string) error {
	if _, err := h.run.LookPath(provider); err == nil {
		return nil
	}
	pkgs := podmanPackages
	if provider == Docker {
		pkgs = dockerPackages
		if h.Provider != Docker { // Docker answers without its command: no reason to install more
			return failure.New(failure.Configuration, "Docker answers, but its command `docker`, which Kind calls, is not installed",
				"install the docker command, or set KIND_EXPERIMENTAL_PROVIDER=podman", nil)
		}
	}
	if err := h.installPackages(ctx, pkgs); err != nil {
		return err
	}
	if _, err := h.run.LookPath(provider); err != nil && provider == Docker && h.aptHas(ctx, dockerCommand) {
		if err := h.installPackages(ctx, []string{dockerCommand}); err != nil {
			return err
		}
	}
	if _, err := h.run.LookPath(provider); err != nil {
		return failure.New(failure.Configuration, provider+" is installed but not found", "add its folder to PATH", err)
	}
	return nil
}
