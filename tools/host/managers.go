package host

import (
	"context"
	"strings"
)

// manager is a package manager: how it is asked and told. Package names are
// Debian's; rename maps them where others differ, to "" where there is none.
type manager struct {
	program string
	root    bool // needs root
	rename  map[string]string
	only    []string // the packages that mean something here; nil: all
	// installed tells which of the packages need no installation.
	installed func(ctx context.Context, h *host, pkgs []string) map[string]bool
	install   func(pkgs []string) []string
	refresh   []string // arguments that renew its lists; nil: it does so itself
}

func aptManager() manager {
	return manager{
		program: "apt-get", root: true, installed: dpkgInstalled,
		install: func(pkgs []string) []string {
			// The lock may be held by a timer's own update for minutes.
			return append([]string{"-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300",
				"-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3", "install"}, pkgs...)
		},
		refresh: []string{"-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "update"},
	}
}

func dnfManager() manager {
	return manager{
		program: "dnf", root: true, installed: rpmInstalled,
		rename: map[string]string{
			"iproute2": "iproute", "uidmap": "shadow-utils", "iptables": "iptables-nft", "libc6-dev": "glibc-devel",
			"docker.io": "moby-engine", "xz-utils": "xz",
		},
		install: func(pkgs []string) []string {
			return append([]string{"-y", "--setopt=install_weak_deps=False", "install"}, pkgs...)
		},
	}
}

// brewManager knows Podman alone: a Mac runs engines in a machine that brings
// all else, and its compiler comes from Apple.
func brewManager() manager {
	return manager{program: "brew", only: []string{Podman}, installed: brewInstalled,
		install: func(pkgs []string) []string { return append([]string{"install", "--quiet"}, pkgs...) }}
}

func dpkgInstalled(ctx context.Context, h *host, pkgs []string) map[string]bool {
	// It fails when one is unknown, and still prints the others.
	out, _ := h.output(ctx, "dpkg-query", append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, pkgs...)...)
	have := map[string]bool{}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " installed"); ok {
			have[name] = true
		}
	}
	return have
}

func rpmInstalled(ctx context.Context, h *host, pkgs []string) map[string]bool {
	have := map[string]bool{}
	for _, p := range pkgs {
		if _, err := h.output(ctx, "rpm", "-q", "--whatprovides", p); err == nil {
			have[p] = true
		}
	}
	return have
}

func brewInstalled(ctx context.Context, h *host, pkgs []string) map[string]bool {
	have := map[string]bool{}
	for _, p := range pkgs {
		_, err := h.output(ctx, "brew", "list", "--versions", p)
		have[p] = err == nil
	}
	return have
}
