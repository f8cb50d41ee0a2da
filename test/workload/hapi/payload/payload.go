// Package payload makes the HAPI image as large as an image of many installed packages, without a network: trees of small,
// compressible source files and large, incompressible libraries. It owns content and layout; how the trees become layers of an
// image is the Dockerfile's affair. The same size and layer give the same bytes, modes and times on every machine.
package payload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	// Layers is how many layers a payload has: one with most of it, one with a fifth, one that is tiny.
	Layers = 3
	// MaxMegabytes bounds a payload; the incident's image had 2100.
	MaxMegabytes = 20000

	mib          = 1 << 20
	smallLayer   = 3 * mib
	packageBytes = 3*mib + mib/2 // 600 packages are 2100 MiB
	modules      = 36            // source files of a package
	libraries    = 4             // libraries of a package
)

// Written says what a call wrote.
type Written struct {
	Bytes    int64
	Files    int
	Packages int
}

// epoch is the time of every file and folder.
func epoch() time.Time { return time.Unix(1_700_000_000, 0) }

// Write writes one layer (0 to 2) of a payload of the given size in MiB below root, which must be an absolute path. A size of
// 0 writes nothing at all. On failure an incomplete tree stays behind.
func Write(ctx context.Context, root string, megabytes, layer int) (Written, error) {
	if megabytes < 0 || megabytes > MaxMegabytes {
		return Written{}, fmt.Errorf("payload of %d MB: must be between 0 and %d", megabytes, MaxMegabytes)
	}
	if layer < 0 || layer >= Layers {
		return Written{}, fmt.Errorf("payload layer %d: must be between 0 and %d", layer, Layers-1)
	}
	if megabytes == 0 {
		return Written{}, nil
	}
	w := &writer{random: rand.NewChaCha8([32]byte{'p', byte(layer)}), buffer: make([]byte, mib)}
	w.words = vocabulary(w.random)
	top := filepath.Join(root, fmt.Sprintf("layer-%d", layer))
	touched := missing(top, root)
	if err := os.MkdirAll(top, 0o755); err != nil {
		return Written{}, fmt.Errorf("create the payload's folder: %w", err)
	}
	for left := Size(megabytes, layer); left > 0 && w.err == nil; left -= packageBytes {
		if err := ctx.Err(); err != nil {
			return w.written, err
		}
		w.pack(filepath.Join(top, fmt.Sprintf("package_%03d", w.written.Packages)), min(left, packageBytes))
		w.written.Packages++
	}
	return w.written, errors.Join(w.err, settle(touched))
}

// Size is the number of bytes of one layer of a payload of the given size in MiB.
func Size(megabytes, layer int) int64 {
	total := int64(megabytes) * mib
	small := min(smallLayer, total/10)
	large := (total - small) / 100 * 81
	return [Layers]int64{large, total - small - large, small}[layer]
}

// missing lists dir and those folders above it that do not exist, and root in any case: the folders a call creates or changes.
func missing(dir, root string) []string {
	var dirs []string
	for {
		if _, err := os.Lstat(dir); err == nil && len(dir) < len(root) {
			return dirs
		}
		dirs = append(dirs, dir)
		if dir == filepath.Dir(dir) {
			return dirs
		}
		dir = filepath.Dir(dir)
	}
}

// settle gives folders fixed times, so that a layer does not tell when it was made.
func settle(dirs []string) error {
	var all error
	for _, d := range dirs {
		all = errors.Join(all, os.Chtimes(d, epoch(), epoch()))
	}
	return all
}

// writer keeps the first error, so that the code that lays out packages reads as a list.
type writer struct {
	random  *rand.ChaCha8
	words   []byte
	buffer  []byte
	written Written
	err     error
}

// pack writes one package of the given number of bytes: half of them source text, the rest libraries.
func (w *writer) pack(dir string, size int64) {
	source := filepath.Join(dir, "lib")
	if w.err = os.MkdirAll(source, 0o755); w.err != nil {
		return
	}
	text := size / 2 / modules
	for i := range modules {
		w.file(filepath.Join(source, fmt.Sprintf("module_%02d.py", i)), 0o644, text, w.fillText)
	}
	binary := (size - text*modules) / libraries
	for i := range libraries {
		length := binary
		if i == 0 {
			length = size - text*modules - binary*(libraries-1)
		}
		w.file(filepath.Join(dir, fmt.Sprintf("native_%d.so", i)), 0o755, length, w.fillRandom)
	}
	for _, d := range []string{source, dir} {
		if w.err == nil {
			w.err = os.Chtimes(d, epoch(), epoch())
		}
	}
}

func (w *writer) file(path string, mode fs.FileMode, size int64, fill func([]byte)) {
	if w.err != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		w.err = err
		return
	}
	for left := size; left > 0 && err == nil; {
		chunk := w.buffer[:min(left, int64(len(w.buffer)))]
		fill(chunk)
		_, err = f.Write(chunk)
		left -= int64(len(chunk))
	}
	// Chmod, since the umask took part in the mode so far.
	w.err = errors.Join(err, f.Chmod(mode), f.Close())
	if w.err == nil {
		w.err = os.Chtimes(path, epoch(), epoch())
	}
	w.written.Bytes += size
	w.written.Files++
}

func (w *writer) fillRandom(p []byte) { _, _ = w.random.Read(p) } // never fails

// fillText copies pieces of the vocabulary: it compresses about as well as source code does, at the speed of copying.
func (w *writer) fillText(p []byte) {
	for len(p) > 0 {
		r := w.random.Uint64()
		start, length := int(r%uint64(len(w.words)-128)), 16+int(r>>32%48)
		p = p[copy(p, w.words[start:start+length]):]
	}
}

// vocabulary is text of random words.
func vocabulary(random *rand.ChaCha8) []byte {
	const size = 64 << 10
	text := make([]byte, 0, size)
	for len(text) < size-16 {
		for range 3 + random.Uint64()%6 {
			text = append(text, 'a'+byte(random.Uint64()%26))
		}
		text = append(text, " \n=.,"[random.Uint64()%5])
	}
	return text
}
