package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// archive writes a tar of files that belong to root and have no age, so that
// equal content gives equal bytes.
type archive struct {
	tar  *tar.Writer
	dirs map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{tar: tar.NewWriter(w), dirs: map[string]bool{"": true, ".": true}}
}

// epoch is the age of every file we write ourselves.
var epoch = time.Unix(0, 0)

// parents adds the folders above name that the archive does not have yet.
func (a *archive) parents(name string) error {
	dir := path.Dir(name)
	if a.dirs[dir] {
		return nil
	}
	if err := a.parents(dir); err != nil {
		return err
	}
	return a.folder(dir, 0o755)
}

func (a *archive) folder(name string, mode int64) error {
	if err := a.parents(name); err != nil {
		return err
	}
	a.dirs[name] = true
	return a.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch})
}

func (a *archive) header(h *tar.Header) error {
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write %q into the archive: %w", h.Name, err)
	}
	return nil
}

func (a *archive) bytes(name string, mode int64, data []byte) error {
	if err := a.parents(name); err != nil {
		return err
	}
	if err := a.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: epoch}); err != nil {
		return err
	}
	if _, err := a.tar.Write(data); err != nil {
		return fmt.Errorf("write %q into the archive: %w", name, err)
	}
	return nil
}

func (a *archive) link(name, target string) error {
	if err := a.parents(name); err != nil {
		return err
	}
	return a.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: epoch})
}

// file adds the host's file at from as name.
func (a *archive) file(name string, mode int64, from string) error {
	if err := a.parents(name); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("read %q for the archive: %w", from, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read %q for the archive: %w", from, err)
	}
	if err := a.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size(), ModTime: epoch}); err != nil {
		return err
	}
	if _, err := io.Copy(a.tar, f); err != nil {
		return fmt.Errorf("write %q into the archive: %w", name, err)
	}
	return nil
}

// tree adds the host's folder root as prefix with owners, modes, ages and hard
// links. Devices, sockets and pipes are left out: an engine makes its own. skip
// is asked with each path below root and leaves out a whole folder.
func (a *archive) tree(prefix, root string, skip func(name string) bool) error {
	linked := map[uint64]string{} // by inode; root lies on one file system
	return filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read %q for the archive: %w", p, err)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		if skip != nil && skip(rel) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("read %q for the archive: %w", p, err)
		}
		return a.entry(path.Join(prefix, filepath.ToSlash(rel)), p, info, linked)
	})
}

func (a *archive) entry(name, from string, info fs.FileInfo, linked map[uint64]string) error {
	if !info.Mode().IsRegular() && !info.IsDir() && info.Mode()&fs.ModeSymlink == 0 {
		return nil
	}
	if err := a.parents(name); err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(from); err != nil {
			return fmt.Errorf("read %q for the archive: %w", from, err)
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return fmt.Errorf("describe %q for the archive: %w", from, err)
	}
	// Names of users are the host's, numbers are the tree's.
	h.Name, h.Uname, h.Gname = name, "", ""
	if info.IsDir() {
		h.Name += "/"
		a.dirs[name] = true
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && stat.Nlink > 1 {
		if first, seen := linked[stat.Ino]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return a.header(h)
		}
		linked[stat.Ino] = name
	}
	if err := a.header(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("read %q for the archive: %w", from, err)
	}
	defer f.Close()
	if _, err := io.Copy(a.tar, f); err != nil {
		return fmt.Errorf("write %q into the archive: %w", name, err)
	}
	return nil
}

// append copies the entries of another archive.
func (a *archive) append(from string, skip func(name string) bool) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("read archive %q: %w", from, err)
	}
	defer f.Close()
	in := tar.NewReader(f)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive %q: %w", from, err)
		}
		name := path.Clean(h.Name)
		if skip != nil && skip(name) {
			continue
		}
		if h.Typeflag == tar.TypeDir {
			if a.dirs[name] {
				continue
			}
			a.dirs[name] = true
		}
		if err := a.header(h); err != nil {
			return err
		}
		if _, err := io.Copy(a.tar, in); err != nil {
			return fmt.Errorf("copy %q from archive %q: %w", name, from, err)
		}
	}
}

// writeArchive makes the file at path with what fill puts in.
func writeArchive(path string, fill func(*archive) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := newArchive(f)
	if err := fill(a); err != nil {
		return err
	}
	if err := a.tar.Close(); err != nil {
		return fmt.Errorf("finish archive %q: %w", path, err)
	}
	return nil
}
