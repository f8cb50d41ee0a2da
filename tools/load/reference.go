package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
)

// source is one image to load, from the engine or from a tarball.
type source struct {
	ref      string // as asked for
	name     string // as the nodes will know it
	want     node.Image
	arch, os string
	size     int64
	digests  []digest.Digest // of its manifests
	tarball  *tarball        // nil: the image is the engine's
}

func (s *source) close() {
	if s.tarball != nil {
		s.tarball.Close()
	}
}

// split takes comma lists apart and drops repetitions.
func split(refs []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, list := range refs {
		for ref := range strings.SplitSeq(list, ",") {
			if ref = strings.TrimSpace(ref); ref != "" && !seen[ref] {
				seen[ref] = true
				out = append(out, ref)
			}
		}
	}
	if len(out) == 0 {
		return nil, failure.New(failure.ImageReference, "no image to load was named", "give one: loadImage REF[,REF…]", nil)
	}
	return out, nil
}

func checkStrategy(s string) error {
	switch s {
	case "", Present, Thin, Stream, Archive:
		return nil
	}
	return failure.New(failure.Configuration, fmt.Sprintf("no load strategy is called %q", s),
		"set E2E_LOAD_STRATEGY to thin, stream or archive, or unset it", nil)
}

// imageID matches what engines accept as an image ID.
var imageID = regexp.MustCompile(`^(?:sha256:)?[0-9a-f]{12,64}$`)

// open finds out what ref is.
func (r *Request) open(ctx context.Context, ref string) (*source, error) {
	if isTarball(ref) {
		return openTarball(ref)
	}
	if !imageID.MatchString(ref) {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			return nil, failure.New(failure.ImageReference, fmt.Sprintf("%q is not an image reference", ref),
				"write it as [REGISTRY/]NAME[:TAG], in lower case", err)
		}
	}
	if r.Engine == nil {
		return nil, errors.New("load images: no engine given for " + ref)
	}
	img, err := r.inspect(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return nil, failure.New(failure.ImageReference, fmt.Sprintf("the engine has no image %s", ref),
			"build or pull it first; `podman images` (or `docker images`) lists what there is", err)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", ref, err)
	}
	s := &source{ref: ref, arch: img.Arch, os: img.OS, size: img.Size}
	s.want.ID = bareDigest(img.ID)
	for _, d := range img.DiffIDs {
		s.want.DiffIDs = append(s.want.DiffIDs, bareDigest(d))
	}
	for _, d := range img.Digests {
		s.digests = append(s.digests, bareDigest(d))
	}
	s.name, err = nodeName(ref, img.Names)
	return s, err
}

// isTarball reports whether ref is meant as a file: it looks like a path, or
// has a tarball's ending and is there.
func isTarball(ref string) bool {
	if strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../") || strings.HasPrefix(ref, "/") {
		return true
	}
	if !strings.HasSuffix(ref, ".tar") && !strings.HasSuffix(ref, ".tar.gz") && !strings.HasSuffix(ref, ".tgz") {
		return false
	}
	info, err := os.Stat(ref)
	return err == nil && info.Mode().IsRegular()
}

// bareDigest accepts "sha256:…", "NAME@sha256:…" and bare hexadecimals.
func bareDigest(s string) digest.Digest {
	s = s[strings.LastIndexByte(s, '@')+1:]
	if !strings.Contains(s, ":") {
		s = "sha256:" + s
	}
	return digest.Digest(s)
}

// nodeName returns the full name under which a node must know the image that
// ref found. names are the image's names in the engine.
func nodeName(ref string, names []string) (string, error) {
	if imageID.MatchString(ref) && !contains(names, ref) {
		if len(names) == 0 {
			return "", failure.New(failure.ImageReference, fmt.Sprintf("image %s has no name, and a pod can only ask for a name", ref),
				fmt.Sprintf("podman tag %s localhost/NAME:TAG, then load that", ref), nil)
		}
		return normal(names[0])
	}
	if strings.Contains(ref, "@") {
		return normal(ref)
	}
	full := ref
	if strings.LastIndexByte(ref, ':') <= strings.LastIndexByte(ref, '/') {
		full += ":latest"
	}
	// The engine's own reading of a short name wins over Docker's convention.
	for _, prefix := range []string{"", "localhost/", "docker.io/library/", "docker.io/"} {
		if contains(names, prefix+full) {
			return normal(prefix + full)
		}
	}
	for _, n := range names {
		if strings.HasSuffix(n, "/"+full) {
			return normal(n)
		}
	}
	return normal(full)
}

func contains(names []string, ref string) bool {
	for _, n := range names {
		if n == ref || n == ref+":latest" {
			return true
		}
	}
	return false
}

// normal completes a reference as the kubelet does.
func normal(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", failure.New(failure.ImageReference, fmt.Sprintf("%q is not an image reference", ref),
			"write it as [REGISTRY/]NAME[:TAG], in lower case", err)
	}
	return reference.TagNameOnly(named).String(), nil
}
