package load

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
)

func TestALayerThatComesTwiceIsTakenOnce(t *testing.T) {
	layer := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	r := newRelay(&transfer.Fan{}, &content{manifest: &transfer.Manifest{Layers: []ocispec.Descriptor{layer, layer}}}, nil)
	r.taken[layer.Digest] = true
	again := strings.NewReader("layer")
	if err := r.Blob(t.Context(), 5, again); err != nil || again.Len() > 0 {
		t.Errorf("%d bytes left, %v", again.Len(), err)
	}
	if err := r.Blob(t.Context(), 6, strings.NewReader("layers")); err == nil {
		t.Error("a layer that is not the image's is taken")
	}
}

// layers are archives of one file each, of about these sizes in bytes.
func layers(t *testing.T, sizes ...int) ([][]byte, *content, []digest.Digest) {
	t.Helper()
	img := &content{manifest: &transfer.Manifest{}}
	var all [][]byte
	var diffIDs []digest.Digest
	for _, size := range sizes {
		var out bytes.Buffer
		tw := tar.NewWriter(&out)
		hdr := &tar.Header{Name: fmt.Sprint("f", size), Size: int64(size), Typeflag: tar.TypeReg}
		if err := errors.Join(tw.WriteHeader(hdr), func() error { _, err := tw.Write(make([]byte, size)); return err }(), tw.Close()); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(out.Bytes())
		all, diffIDs = append(all, out.Bytes()), append(diffIDs, d)
		img.manifest.Layers = append(img.manifest.Layers, ocispec.Descriptor{Digest: d, Size: int64(out.Len())})
	}
	return all, img, node.ChainIDs(diffIDs)
}

// commits reads what a node that unpacks is sent and returns the chains in the
// order in which they are committed.
func commits(lane *transfer.Lane, chains []digest.Digest) func() []int {
	got := make(chan []int)
	go func() {
		text, _ := io.ReadAll(lane)
		var order []int
		for line := range strings.Lines(string(text)) {
			for i, c := range chains {
				if strings.HasSuffix(line, "commit "+c.String()+"\n") {
					order = append(order, i)
				}
			}
		}
		got <- order
	}()
	return func() []int { lane.CloseWrite(nil); return <-got }
}

func TestLayersAreUnpackedBottomFirst(t *testing.T) {
	const large = smallLayer + 1000
	// The second and the fifth are one layer that stands twice; of the small
	// ones two have one size.
	data, img, chains := layers(t, large, 100, large+5000, 110, 100, 120)
	for _, has := range [][]int{nil, {0}, {0, 1, 2}, {0, 1, 2, 3, 4}} {
		lane := transfer.NewLane(time.Minute)
		branch := &transfer.Branch{Lane: lane, Skip: map[digest.Digest]bool{}}
		for _, i := range has {
			branch.Skip[chains[i]] = true
		}
		r := newRelay(&transfer.Fan{Unpack: true, Branches: []*transfer.Branch{branch}}, img, chains)
		done := commits(lane, chains)
		var uploads sync.WaitGroup
		for i := len(data) - 1; i >= 0; i-- {
			if _, have := r.Has(img.manifest.Layers[i].Digest); !have {
				uploads.Go(func() {
					if err := r.Blob(t.Context(), int64(len(data[i])), bytes.NewReader(data[i])); err != nil {
						t.Errorf("layer %d: %v", i, err)
					}
				})
				time.Sleep(time.Millisecond) // the top one is there first
			}
		}
		uploads.Wait()
		if err := r.Manifest(img.manifest); err != nil {
			t.Error(err)
		}
		var want []int
		for i := len(has); i < len(data); i++ {
			want = append(want, i)
		}
		if order := done(); fmt.Sprint(order) != fmt.Sprint(want) {
			t.Errorf("has %v: committed %v", has, order)
		}
	}
}

func TestAnUploadThatFailsEndsThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, img, chains := layers(t, smallLayer+1000, smallLayer+5000, smallLayer+9000)
		lane := transfer.NewLane(time.Minute)
		r := newRelay(&transfer.Fan{Unpack: true, Branches: []*transfer.Branch{{Lane: lane}}}, img, chains)
		done := commits(lane, chains)
		given, give := context.WithCancel(t.Context())
		var top, middle error
		var uploads sync.WaitGroup
		uploads.Go(func() { top = r.Blob(t.Context(), int64(len(data[2])), bytes.NewReader(data[2])) })
		uploads.Go(func() { middle = r.Blob(given, int64(len(data[1])), bytes.NewReader(data[1])) })
		synctest.Wait() // both wait for the one below
		give()
		synctest.Wait()
		if !errors.Is(middle, context.Canceled) {
			t.Errorf("an upload whose context ended: %v", middle)
		}
		if err := r.Blob(t.Context(), int64(len(data[0])), bytes.NewReader(data[0][:1000])); err == nil {
			t.Error("a layer that is cut is taken")
		}
		uploads.Wait()
		if top == nil || r.Manifest(img.manifest) == nil {
			t.Errorf("above a layer that is cut: %v", top)
		}
		if order := done(); len(order) > 0 {
			t.Errorf("committed %v", order)
		}
	})
}
