package hapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
)

// Inputs is everything that decides what an image contains.
type Inputs struct {
	Context    string            `json:"-"` // folder
	Dockerfile string            `json:"-"` // relative to Context or absolute
	Args       map[string]string `json:"args"`
	Labels     map[string]string `json:"labels"`
	Platform   string            `json:"platform"` // "linux/amd64"
}

// keyVersion changes when the way images are built changes.
const keyVersion = "kubernaut-e2e image v2"

// Key hashes the inputs to 16 hexadecimal digits: the build context as the
// engine gets it (without what the ignore file leaves out), the choice of
// Dockerfile, arguments, labels and platform.
func (in Inputs) Key(ctx context.Context) (string, error) {
	files, err := buildcontext.Open(in.Context, in.Dockerfile)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, keyVersion, files.Dockerfile)
	if err := json.NewEncoder(h).Encode(in); err != nil { // maps are written in the order of their keys
		return "", err
	}
	if err := files.WriteTar(ctx, h); err != nil {
		return "", fmt.Errorf("hash build context %q: %w", in.Context, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
