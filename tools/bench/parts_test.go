package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// saver is an engine that can save, and nothing else.
type saver struct{ Engine }

func (saver) Save(_ context.Context, _ string, w io.Writer) error {
	_, err := w.Write([]byte("archive"))
	return err
}

// disk is a node that has only a disk; its containerd may fail.
type disk struct {
	load.Node
	files     map[string]bool
	importErr error
}

func (d *disk) Exec(ctx context.Context, cmd []string, _ io.Reader, _, _ io.Writer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch cmd[0] {
	case "sh":
		d.files[inNode] = true
	case "rm":
		delete(d.files, cmd[len(cmd)-1])
	case "ctr":
		return d.importErr
	}
	return nil
}

func TestPartsLeaveNothingInTheNode(t *testing.T) {
	broken := errors.New("import failed")
	for _, importErr := range []error{nil, broken} {
		node := &disk{files: map[string]bool{}, importErr: importErr}
		b := &bench{Options: Options{Engine: saver{}}, dir: t.TempDir()}
		row := &Row{}
		if err := b.parts(t.Context(), row, node, "app"); !errors.Is(err, importErr) {
			t.Errorf("got %v, want %v", err, importErr)
		}
		measured := slices.ContainsFunc(row.Parts, func(p Part) bool { return p.Name == "containerd imports the archive that is in the node" })
		if len(node.files) != 0 || measured != (importErr == nil) {
			t.Errorf("after %v: %v is left in the node, measured %v", importErr, node.files, row.Parts)
		}
	}
}
