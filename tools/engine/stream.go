package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
)

// frameHeader is the length of the header of each piece of a container's
// output: stream, three zeroes, big-endian length (documented under "Attach to
// a container" of the Docker Engine API; Podman's is the same).
const frameHeader = 8

// demultiplex splits framed output until it ends. An end within a frame is
// [io.ErrUnexpectedEOF].
func demultiplex(r io.Reader, stdout, stderr io.Writer) error {
	br := bufio.NewReaderSize(r, 1<<16)
	var header [frameHeader]byte
	for {
		if _, err := io.ReadFull(br, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var w io.Writer
		switch header[0] {
		case 0, 1:
			w = stdout
		case 2, 3: // 3: the engine's own complaint
			w = stderr
		default:
			return fmt.Errorf("output is not framed: stream %d", header[0])
		}
		n := int64(binary.BigEndian.Uint32(header[4:]))
		if m, err := io.CopyN(w, br, n); err != nil {
			if errors.Is(err, io.EOF) && m < n {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// copyLogs copies a container's output, framed or (with a terminal) raw.
func copyLogs(r io.Reader, w io.Writer) error {
	br := bufio.NewReader(r)
	head, err := br.Peek(frameHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) == frameHeader && head[0] <= 3 && bytes.Equal(head[1:4], []byte{0, 0, 0}) {
		return demultiplex(br, w, w)
	}
	_, err = io.Copy(w, br)
	return err
}

// copyArchive copies a docker-archive and proves that it is whole: engines end
// their stream without an error when they fail in the middle of an export. It
// is whole if its manifest is there, with every config and layer it names, and
// the end-of-archive blocks.
func copyArchive(w io.Writer, r io.Reader) error {
	pr, pw := io.Pipe()
	verdict := make(chan error, 1)
	go func() {
		err := checkArchive(pr)
		// Keep reading whatever comes after an error, so that the copy ends.
		_, _ = io.Copy(io.Discard, pr)
		verdict <- err
	}()
	end := &ending{}
	_, err := io.Copy(io.MultiWriter(w, pw, end), r)
	pw.CloseWithError(err)
	checked := <-verdict
	switch {
	case err != nil:
		return err
	case checked != nil:
		return fmt.Errorf("image archive is not whole: %w", checked)
	case !end.whole():
		return fmt.Errorf("image archive is not whole: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// manifestLimit bounds a manifest.json, bytes.
const manifestLimit = 16 << 20

func checkArchive(r io.Reader) error {
	seen := map[string]bool{}
	var manifest []struct {
		Config string
		Layers []string
	}
	tr := tar.NewReader(bufio.NewReaderSize(r, 1<<18))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		seen[path.Clean(h.Name)] = true
		if h.Name == "manifest.json" {
			if err := json.NewDecoder(io.LimitReader(tr, manifestLimit)).Decode(&manifest); err != nil {
				return fmt.Errorf("manifest.json: %w", err)
			}
		}
	}
	if len(manifest) == 0 {
		return fmt.Errorf("no manifest.json in it: %w", io.ErrUnexpectedEOF)
	}
	for _, image := range manifest {
		for _, name := range append(image.Layers, image.Config) {
			if !seen[path.Clean(name)] {
				return fmt.Errorf("%s is missing: %w", name, io.ErrUnexpectedEOF)
			}
		}
	}
	return nil
}

// ending watches for the two zero blocks that end a tar stream.
type ending struct {
	zeroes int
	any    bool
}

func (e *ending) Write(p []byte) (int, error) {
	last := bytes.TrimRight(p, "\x00")
	if len(last) > 0 {
		e.zeroes = 0
	}
	e.zeroes = min(e.zeroes+len(p)-len(last), 1<<20)
	e.any = e.any || len(p) > 0
	return len(p), nil
}

func (e *ending) whole() bool { return e.any && e.zeroes >= 2*512 }
