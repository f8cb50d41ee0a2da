package transfer

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// Branch is one receiver of a fan-out.
type Branch struct {
	Name string
	Lane *Lane
	Skip map[digest.Digest]bool // layers the receiver has
	// Dropped, if not nil, is called when the branch fails: its receiver may be
	// waiting for what will never come.
	Dropped func(error)

	archive *Archive
	err     error
	bytes   int64
}

// Err returns why the branch got less than the whole image, or nil.
func (b *Branch) Err() error { return b.err }

// Bytes returns how much layer data was written into the branch.
func (b *Branch) Bytes() int64 { return b.bytes }

// fail takes the branch out; its reader sees err, not the end of an archive.
func (b *Branch) fail(err error) {
	if b.err == nil {
		b.err = err
		b.Lane.CloseWrite(err)
		if b.Dropped != nil {
			b.Dropped(err)
		}
	}
}

// Fan writes the blobs of one image into all branches that lack them. A branch
// that fails is dropped and the others go on.
type Fan struct {
	Branches []*Branch
	// Progress, if not nil, gets the number of bytes just read from the export.
	Progress func(n int64)
}

// ErrNoReceiver says that every branch has failed: nobody wants the rest.
var ErrNoReceiver = errors.New("no receiver is left")

// Wanted reports whether any branch lacks the blob.
func (f *Fan) Wanted(d digest.Digest) bool {
	for _, b := range f.Branches {
		if b.err == nil && !b.Skip[d] {
			return true
		}
	}
	return false
}

// Blob copies one blob of exactly size bytes to every branch that lacks d, or
// to all if d is empty because the export does not name it. It reads no
// further once nobody is left to receive.
func (f *Fan) Blob(key string, d digest.Digest, size int64, r io.Reader) error {
	var to []*Branch
	for _, b := range f.Branches {
		if b.err == nil && (d == "" || !b.Skip[d]) {
			if err := f.begin(b, key, size); err == nil {
				to = append(to, b)
			}
		}
	}
	buf := make([]byte, chunkSize)
	for left := size; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, chunkSize)])
		if err != nil {
			return fmt.Errorf("blob %s: %d of %d bytes missing: %w", key, left-int64(n), size, err)
		}
		left -= int64(n)
		alive := to[:0]
		for _, b := range to {
			if _, err := b.archive.Write(buf[:n]); err != nil {
				b.fail(err)
				continue
			}
			b.bytes += int64(n)
			alive = append(alive, b)
		}
		if to = alive; len(to) == 0 {
			return ErrNoReceiver
		}
		if f.Progress != nil {
			f.Progress(int64(n))
		}
	}
	return nil
}

func (f *Fan) begin(b *Branch, key string, size int64) (err error) {
	if b.archive == nil {
		b.archive, err = NewArchive(b.Lane)
	}
	if err == nil {
		err = b.archive.Begin(key, size)
	}
	if err != nil {
		b.fail(err)
	}
	return err
}

// Finish completes the image in every branch left.
func (f *Fan) Finish(m *Manifest, config []byte, names []string) {
	for _, b := range f.Branches {
		if b.err != nil {
			continue
		}
		var err error
		if b.archive == nil {
			b.archive, err = NewArchive(b.Lane)
		}
		if err == nil {
			err = b.archive.Finish(m, config, names)
		}
		if err != nil {
			b.fail(err)
			continue
		}
		b.Lane.CloseWrite(nil)
	}
}

// Abort makes every unfinished branch fail with err.
func (f *Fan) Abort(err error) {
	for _, b := range f.Branches {
		b.fail(err)
	}
}
