package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// overlay is what a layer says about the layers below it, in the terms of an
// overlay file system (kernel, Documentation/filesystems/overlayfs.rst). In a
// layer that is said by file names (OCI image-spec, layer.md, Whiteouts).
type overlay struct {
	// patch is a tar of what hides files below: devices 0/0 in their place, and
	// folders with the attribute that makes them opaque. Empty: nothing does.
	patch []byte
	// implicit are folders that the layer has something in without describing
	// them: they are as in the layers below.
	implicit []string
}

const (
	whiteout       = ".wh."
	opaque         = ".wh..wh..opq"
	reserved       = ".wh..wh." // other names of AUFS's own, which mean nothing here
	opaqueOverlay  = "SCHILY.xattr.trusted.overlay.opaque"
	overlayEnabled = "y"
)

// scan reads a layer that passes by: its digest, and what it hides.
type scan struct {
	digester digest.Digester
	pipe     *io.PipeWriter
	done     chan struct{}

	dirs    map[string]*tar.Header
	parents map[string]bool     // of entries
	hidden  map[string][]string // by folder
	opaque  map[string]bool     // folders
	err     error
}

func newScan() *scan {
	r, w := io.Pipe()
	s := &scan{
		digester: digest.SHA256.Digester(), pipe: w, done: make(chan struct{}),
		dirs: map[string]*tar.Header{}, parents: map[string]bool{}, hidden: map[string][]string{}, opaque: map[string]bool{},
	}
	go func() {
		defer close(s.done)
		s.err = s.read(tar.NewReader(r))
		_, _ = io.Copy(io.Discard, r) // what follows the archive, or what cannot be read
	}()
	return s
}

func (s *scan) Write(p []byte) (int, error) {
	s.digester.Hash().Write(p)
	return s.pipe.Write(p)
}

func (s *scan) close() {
	_ = s.pipe.Close()
	<-s.done
}

// result is what was found, of a layer that had to have this digest.
func (s *scan) result(want digest.Digest) (*overlay, error) {
	s.close()
	if got := s.digester.Digest(); got != want {
		return nil, fmt.Errorf("the data has digest %s, not %s", got, want)
	}
	if s.err != nil {
		return nil, fmt.Errorf("read the layer: %w", s.err)
	}
	o := &overlay{}
	for dir := range s.parents {
		if s.dirs[dir] == nil {
			o.implicit = append(o.implicit, dir)
		}
	}
	slices.Sort(o.implicit)
	var err error
	o.patch, err = s.patch()
	return o, err
}

func (s *scan) read(tr *tar.Reader) error {
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name := path.Clean("/" + hdr.Name)[1:]
		dir, base := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		for d := dir; d != "" && !s.parents[d]; d = strings.TrimPrefix(path.Dir("/"+d), "/") {
			s.parents[d] = true
		}
		switch {
		case base == opaque:
			s.opaque[dir] = true
		case strings.HasPrefix(base, reserved):
		case strings.HasPrefix(base, whiteout):
			s.hidden[dir] = append(s.hidden[dir], base[len(whiteout):])
		case hdr.Typeflag == tar.TypeDir:
			s.dirs[name] = hdr
		}
	}
}

// patch is the tar of what hides. A folder stands before what is in it, as
// the layer describes it: its times change by what is put into it.
func (s *scan) patch() ([]byte, error) {
	changed := maps.Clone(s.opaque)
	for dir := range s.hidden {
		changed[dir] = true
	}
	if len(changed) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, dir := range slices.Sorted(maps.Keys(changed)) {
		hdr := s.dirs[dir]
		if hdr == nil && s.opaque[dir] {
			return nil, fmt.Errorf("folder %q hides what is below it, and is not described", dir)
		}
		if hdr != nil {
			own := *hdr
			own.Name, own.Format = "./"+dir, tar.FormatPAX
			own.PAXRecords = maps.Clone(hdr.PAXRecords)
			maps.DeleteFunc(own.PAXRecords, func(k, _ string) bool { return !strings.HasPrefix(k, "SCHILY.xattr.") })
			if s.opaque[dir] {
				if own.PAXRecords == nil {
					own.PAXRecords = map[string]string{}
				}
				own.PAXRecords[opaqueOverlay] = overlayEnabled
			}
			if err := tw.WriteHeader(&own); err != nil {
				return nil, err
			}
		}
		for _, name := range s.hidden[dir] {
			hdr := &tar.Header{Name: "./" + path.Join(dir, name), Typeflag: tar.TypeChar, Format: tar.FormatPAX}
			if err := tw.WriteHeader(hdr); err != nil {
				return nil, err
			}
		}
	}
	err := tw.Close()
	return out.Bytes(), err
}
