package transfer

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// Blob is a layer on its way to the branches of a fan.
type Blob struct {
	Key    string        // unique among the blobs of an image; the digest's hexadecimal if that is known
	Digest digest.Digest // of its data; empty if the export does not tell
	Size   int64         // bytes
	// Chain and Parent name the layer's snapshot and the one below it (empty:
	// none) for branches that unpack. A layer that stands twice in an image has
	// one digest and two chains.
	Chain, Parent digest.Digest
}

// form is how an image is written into a branch.
type form interface {
	begin(b Blob) error
	io.Writer // of the blob's data
	end(b Blob, o *overlay) error
	finish(m *Manifest, config []byte, names []string) error
}

// Branch is one receiver of a fan-out.
type Branch struct {
	Name string
	Lane *Lane
	// Skip is what the receiver has: digests of layers, of a fan that unpacks
	// chain IDs.
	Skip map[digest.Digest]bool
	// Dropped, if not nil, is called when the branch fails: its receiver may be
	// waiting for what will never come.
	Dropped func(error)

	form  form
	err   error
	bytes int64
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
// that fails is dropped and the others go on. It is not for concurrent use.
type Fan struct {
	Branches []*Branch
	// Unpack says that the receivers unpack each layer as it comes: blobs are
	// given bottom layer first, each with its digest and chain. Otherwise a
	// branch is an archive, in which layers stand in any order.
	Unpack bool
	// Progress, if not nil, gets the number of bytes just read from the export.
	Progress func(n int64)
}

// ErrNoReceiver says that every branch has failed: nobody wants the rest.
var ErrNoReceiver = errors.New("no receiver is left")

// Wanted reports whether any branch lacks what Skip would name.
func (f *Fan) Wanted(d digest.Digest) bool {
	for _, b := range f.Branches {
		if b.err == nil && !b.Skip[d] {
			return true
		}
	}
	return false
}

// Blob copies a blob to every branch that lacks it, or to all if it has no
// digest. It reads no further once nobody is left to receive.
func (f *Fan) Blob(blob Blob, r io.Reader) error {
	id := blob.Digest
	var scan *scan
	if f.Unpack {
		id, scan = blob.Chain, newScan()
		defer scan.close()
	}
	var to []*Branch
	for _, b := range f.Branches {
		if b.err == nil && (id == "" || !b.Skip[id]) && f.within(b, func() error { return b.form.begin(blob) }) {
			to = append(to, b)
		}
	}
	buf := make([]byte, chunkSize)
	for left := blob.Size; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, chunkSize)])
		if err != nil {
			return fmt.Errorf("blob %s: %d of %d bytes missing: %w", blob.Key, left-int64(n), blob.Size, err)
		}
		left -= int64(n)
		alive := to[:0]
		for _, b := range to {
			if f.within(b, func() error { _, err := b.form.Write(buf[:n]); return err }) {
				b.bytes += int64(n)
				alive = append(alive, b)
			}
		}
		if to = alive; len(to) == 0 {
			return ErrNoReceiver
		}
		if scan != nil {
			scan.Write(buf[:n]) //nolint:errcheck // what it found, or could not read, is asked for below
		}
		if f.Progress != nil {
			f.Progress(int64(n))
		}
	}
	if scan == nil {
		return nil
	}
	o, err := scan.result(blob.Digest)
	if err != nil {
		return fmt.Errorf("blob %s: %w", blob.Key, err)
	}
	for _, b := range to {
		f.within(b, func() error { return b.form.end(blob, o) })
	}
	return nil
}

// within does something in a branch, which fails with it.
func (f *Fan) within(b *Branch, do func() error) bool {
	var err error
	if b.form == nil {
		if f.Unpack {
			b.form = &unpacked{w: b.Lane}
		} else {
			b.form, err = newArchive(b.Lane)
		}
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		b.fail(err)
	}
	return err == nil
}

// Finish completes the image in every branch left.
func (f *Fan) Finish(m *Manifest, config []byte, names []string) {
	for _, b := range f.Branches {
		if b.err == nil && f.within(b, func() error { return b.form.finish(m, config, names) }) {
			b.Lane.CloseWrite(nil)
		}
	}
}

// Abort makes every unfinished branch fail with err.
func (f *Fan) Abort(err error) {
	for _, b := range f.Branches {
		b.fail(err)
	}
}
