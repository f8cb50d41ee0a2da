package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
)

// rootfsPart is a minimal Debian with what a node needs: rootfs.tar, and in
// nettools.tar the packet filter's and the router's tools with their libraries
// alone, for the images of programs that call them.
func rootfsPart(o Options) *part {
	// The mirror is no input: every mirror holds the same packages.
	p := newPart("rootfs", nil, debianSuite, runtime.GOARCH, strings.Join(debianPackages, " "))
	p.make = func(ctx context.Context, dir string, _ func(string) string) error {
		root := filepath.Join(dir, "root")
		args := []string{"--variant=minbase", "--include=" + strings.Join(debianPackages, ","), debianSuite, root}
		if o.Mirror != "" {
			args = append(args, o.Mirror)
		}
		err := execute(ctx, command.Command{Name: "debootstrap", Mounts: true, Args: args})
		if err != nil {
			return errors.Join(err, debootstrapLog(root))
		}
		err = writeArchive(filepath.Join(dir, "rootfs.tar"), func(a *archive) error {
			return a.tree("", root, needless)
		})
		if err != nil {
			return err
		}
		err = writeArchive(filepath.Join(dir, "nettools.tar"), func(a *archive) error {
			return netTools(a, root)
		})
		if err != nil {
			return err
		}
		return os.RemoveAll(root)
	}
	return p
}

// debootstrapLog returns the end of debootstrap's own log as an error: what it
// prints says only that something failed.
func debootstrapLog(root string) error {
	data, err := os.ReadFile(filepath.Join(root, "debootstrap", "debootstrap.log"))
	if err != nil {
		return nil
	}
	return errors.New(command.Tail(string(data), kept))
}

// needless tells what of a Debian root a node does without: what a package
// manager keeps, what people read (licences stay), and what belongs to the
// machine it was made on.
func needless(name string) bool {
	for _, p := range []string{
		"var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/man", "usr/share/locale", "usr/share/info",
		"etc/machine-id", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys", "run", "tmp",
	} {
		if strings.HasPrefix(name, p+"/") || name == p && strings.HasPrefix(p, "etc/") {
			return true
		}
	}
	if doc, ok := strings.CutPrefix(name, "usr/share/doc/"); ok {
		_, file, inside := strings.Cut(doc, "/")
		return inside && file != "copyright"
	}
	return false
}

// netTools adds iptables, ip6tables, nft, ipset and ip from the Debian root with every
// library and extension they load. iptables is the nftables one: it is Debian's
// default and the one whose kernel part is always there.
func netTools(a *archive, root string) error {
	c := closure{archive: a, root: root, added: map[string]bool{}}
	for _, tool := range []string{"usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/ipset", "usr/bin/ip"} {
		if err := c.add(tool); err != nil {
			return err
		}
	}
	extensions, err := fs.Glob(os.DirFS(root), "usr/lib/*/xtables/*.so")
	if err != nil || len(extensions) == 0 {
		return fmt.Errorf("find the iptables extensions: %w", errors.Join(err, fs.ErrNotExist))
	}
	for _, e := range extensions {
		if err := c.add(e); err != nil {
			return err
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, name := range []string{family, family + "-save", family + "-restore"} {
			if err := a.link("usr/sbin/"+name, "xtables-nft-multi"); err != nil {
				return err
			}
		}
	}
	return nil
}

// closure adds programs with the libraries they name, each once.
type closure struct {
	archive *archive
	root    string
	added   map[string]bool
}

// resolve follows name's links inside the root, where absolute ones would
// otherwise lead to the host's own libraries.
func (c *closure) resolve(name string) (string, error) {
	host := filepath.Join(c.root, name)
	for range 10 {
		target, err := os.Readlink(host)
		if errors.Is(err, syscall.EINVAL) {
			return host, nil
		}
		if err != nil {
			return "", fmt.Errorf("find %q in the root filesystem: %w", name, err)
		}
		if filepath.IsAbs(target) {
			host = filepath.Join(c.root, target)
		} else {
			host = filepath.Join(filepath.Dir(host), target)
		}
	}
	return "", fmt.Errorf("find %q in the root filesystem: too many links", name)
}

func (c *closure) add(name string) error {
	if c.added[name] {
		return nil
	}
	c.added[name] = true
	host, err := c.resolve(name)
	if err != nil {
		return err
	}
	if err := c.archive.file(name, 0o755, host); err != nil {
		return err
	}
	f, err := elf.Open(host)
	if err != nil {
		return fmt.Errorf("read program %q: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read what %q links: %w", name, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("read the loader of %q: %w", name, err)
		}
		if err := c.add(strings.Trim(string(loader), "/\x00")); err != nil {
			return err
		}
	}
	for _, l := range libraries {
		found, err := fs.Glob(os.DirFS(c.root), "usr/lib/*/"+l)
		if err != nil {
			return fmt.Errorf("find library %q of %q: %w", l, name, err)
		}
		if len(found) == 0 {
			return fmt.Errorf("find library %q of %q: %w", l, name, fs.ErrNotExist)
		}
		if err := c.add(found[0]); err != nil {
			return err
		}
	}
	return nil
}
