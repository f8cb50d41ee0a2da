package load

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jordigilh/kubernaut-e2e/tools/load/transfer"
)

func TestALayerThatComesTwiceIsTakenOnce(t *testing.T) {
	layer := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	r := &relay{img: &content{manifest: &transfer.Manifest{Layers: []ocispec.Descriptor{layer, layer}}},
		taken: map[digest.Digest]bool{layer.Digest: true}}
	again := strings.NewReader("layer")
	if err := r.Blob(5, again); err != nil || again.Len() > 0 {
		t.Errorf("%d bytes left, %v", again.Len(), err)
	}
	if err := r.Blob(6, strings.NewReader("layers")); err == nil {
		t.Error("a layer that is not the image's is taken")
	}
}
