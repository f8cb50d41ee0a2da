// Package buildcontext reads the folder an image is built from: which files
// belong to it, in a fixed order, and as the tar stream that an engine's build
// endpoint takes.
//
// It owns the rules of the ignore files. It neither hashes nor builds; who
// wants a content address hashes the stream of [Context.WriteTar], which is
// the same for the same content wherever and whenever it was checked out.
package buildcontext

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// outsideDockerfile is the name under which a Dockerfile that lies outside the
// folder is sent.
const outsideDockerfile = ".kubernaut-e2e.Dockerfile"

// Modified is the time every entry carries. Not the epoch: zip files, Python
// wheels among them, cannot hold a time before 1980.
var Modified = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Context is a build context. Its fields do not change after [Open].
type Context struct {
	Dir        string // absolute
	Dockerfile string // slash-separated name inside the stream
	Ignore     string // path of the ignore file that rules, empty if there is none

	dockerfilePath string
	patterns       *patternmatcher.PatternMatcher
}

// Open reads which files belong to the context in dir. Dockerfile is absolute
// or relative to dir; empty means Containerfile if there is one, else
// Dockerfile. Of the ignore files the first that exists rules:
// DOCKERFILE.containerignore, DOCKERFILE.dockerignore, .containerignore,
// .dockerignore; extra patterns are added to it. A folder or file that is not
// there, or a pattern that is none, is an error of class configuration.
func Open(dir, dockerfile string, extra ...string) (*Context, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("build context %q: %w", dir, err)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return nil, failure.New(failure.Configuration, fmt.Sprintf("build context %q is not a folder", dir),
			"name an existing folder", err)
	}
	c := &Context{Dir: abs}
	if err := c.findDockerfile(dockerfile); err != nil {
		return nil, err
	}
	patterns, err := c.readIgnore()
	if err != nil {
		return nil, err
	}
	c.patterns, err = patternmatcher.New(append(patterns, extra...))
	if err != nil {
		return nil, failure.New(failure.Configuration, fmt.Sprintf("ignore file of build context %q has a pattern that is none", dir),
			"correct the pattern", err)
	}
	return c, nil
}

func (c *Context) findDockerfile(name string) error {
	if name == "" {
		name = "Dockerfile"
		if _, err := os.Stat(filepath.Join(c.Dir, "Containerfile")); err == nil {
			name = "Containerfile"
		}
	}
	c.dockerfilePath = name
	if !filepath.IsAbs(name) {
		c.dockerfilePath = filepath.Join(c.Dir, name)
	}
	if info, err := os.Stat(c.dockerfilePath); err != nil || info.IsDir() {
		return failure.New(failure.Configuration, fmt.Sprintf("Dockerfile %q of build context %q is not there", name, c.Dir),
			"name an existing file, absolute or relative to the context", err)
	}
	rel, err := filepath.Rel(c.Dir, c.dockerfilePath)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		rel = outsideDockerfile
	}
	c.Dockerfile = filepath.ToSlash(rel)
	return nil
}

func (c *Context) readIgnore() ([]string, error) {
	for _, path := range []string{
		c.dockerfilePath + ".containerignore", c.dockerfilePath + ".dockerignore",
		filepath.Join(c.Dir, ".containerignore"), filepath.Join(c.Dir, ".dockerignore"),
	} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ignore file: %w", err)
		}
		defer f.Close()
		c.Ignore = path
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, fmt.Errorf("ignore file %q: %w", path, err)
		}
		return patterns, nil
	}
	return nil, nil
}

// Walk calls fn for every folder, regular file and symbolic link that belongs
// to the context, in lexical order; name is slash-separated and relative. The
// Dockerfile belongs to it whatever the ignore file says. Sockets, pipes and
// devices do not.
func (c *Context) Walk(fn func(name, path string, info fs.FileInfo) error) error {
	parents := map[string]patternmatcher.MatchInfo{}
	err := filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == c.Dir {
			return nil
		}
		name, err := filepath.Rel(c.Dir, path)
		if err != nil {
			return err
		}
		ignored, match, err := c.patterns.MatchesUsingParentResults(name, parents[filepath.Dir(name)])
		if err != nil {
			return err
		}
		if d.IsDir() {
			parents[name] = match
		}
		if ignored && path != c.dockerfilePath {
			if d.IsDir() && !c.patterns.Exclusions() && !strings.HasPrefix(c.dockerfilePath, path+string(filepath.Separator)) {
				return filepath.SkipDir
			}
			return nil
		}
		if t := d.Type(); !t.IsRegular() && !t.IsDir() && t&fs.ModeSymlink == 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return fn(filepath.ToSlash(name), path, info)
	})
	if err != nil || c.Dockerfile != outsideDockerfile {
		return err
	}
	info, err := os.Stat(c.dockerfilePath)
	if err != nil {
		return err
	}
	return fn(outsideDockerfile, c.dockerfilePath, info)
}

// WriteTar writes the context as a tar stream. Owner and times are fixed, and
// of the modes only what git keeps is left, so that the stream depends on
// nothing but names, contents, links and executable bits. A file that changes its size meanwhile is
// an error.
func (c *Context) WriteTar(ctx context.Context, w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 1<<18)
	tw := tar.NewWriter(buffered)
	err := c.Walk(func(name, path string, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeEntry(tw, name, path, info); err != nil {
			return fmt.Errorf("build context file %q: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(tw.Close(), buffered.Flush())
}

// mode is 0755 of folders and programs and 0644 of other files, as git has it:
// what the umask of a checkout or of a build took away, a process in the image,
// which is not the files' owner, would be missing.
func mode(info fs.FileInfo) int64 {
	if info.Mode().IsRegular() && info.Mode()&0o111 == 0 {
		return 0o644
	}
	return 0o755
}

func writeEntry(tw *tar.Writer, name, path string, info fs.FileInfo) error {
	var link string
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Mode = mode(info)
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.ModTime, header.AccessTime, header.ChangeTime = Modified, time.Time{}, time.Time{}
	header.Format, header.PAXRecords = tar.FormatUnknown, nil
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(tw, io.LimitReader(f, header.Size))
	if err == nil && n != header.Size {
		err = fmt.Errorf("has %d bytes, had %d when the stream began: %w", n, header.Size, io.ErrUnexpectedEOF)
	}
	return err
}
