package transfer

import (
	"bytes"
	"fmt"
	"io"
)

// unpacked writes an image for a receiver that unpacks each layer as it comes
// and commits it when it is told that it was whole. Lines say what follows:
//
//	layer SIZE PARENT   SIZE bytes of a layer on top of the snapshot PARENT ("-": none)
//	patch SIZE          SIZE bytes of a tar that is unpacked over it
//	inherit SIZE        SIZE bytes, the name of a folder that is as it was below
//	commit CHAIN        the layer was whole and is the snapshot CHAIN
//	import              the rest is an OCI archive without layers
type unpacked struct{ w io.Writer }

func (u *unpacked) begin(b Blob) error {
	parent := b.Parent.String()
	if parent == "" {
		parent = "-"
	}
	_, err := fmt.Fprintf(u.w, "layer %d %s\n", b.Size, parent)
	return err
}

func (u *unpacked) Write(p []byte) (int, error) { return u.w.Write(p) }

func (u *unpacked) end(b Blob, o *overlay) error {
	var text bytes.Buffer
	if len(o.patch) > 0 {
		fmt.Fprintf(&text, "patch %d\n%s", len(o.patch), o.patch)
	}
	for _, dir := range o.implicit {
		fmt.Fprintf(&text, "inherit %d\n%s", len(dir), dir)
	}
	fmt.Fprintf(&text, "commit %s\n", b.Chain)
	_, err := u.w.Write(text.Bytes())
	return err
}

func (u *unpacked) finish(m *Manifest, config []byte, names []string) error {
	if _, err := io.WriteString(u.w, "import\n"); err != nil {
		return err
	}
	a, err := newArchive(u.w)
	if err != nil {
		return err
	}
	return a.finish(m, config, names)
}
