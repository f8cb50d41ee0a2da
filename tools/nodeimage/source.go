package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// errUnavailable marks that no registry has the image for us, which says
// nothing against building one; errNoRegistry, that it did not even answer.
var (
	errUnavailable = errors.New("not available")
	errNoRegistry  = errors.New("registry does not answer")
)

// kinds provides Kind's own default.
func (e *ensurer) kinds(ctx context.Context) (Result, error) {
	ref, err := canonical(defaults.Image)
	if err != nil {
		return Result{}, err
	}
	result := Result{Base: defaults.Image, KubernetesVersion: versionIn(defaults.Image), Source: Present}
	// The digest makes the reference itself say what is in it.
	result.Ref = derived("kind", ref)
	if image, err := e.engine.Image(ctx, result.Ref); err != nil || image != nil {
		return result, err
	}
	if result.Source, err = e.fetch(ctx, ref); err != nil {
		return Result{}, err
	}
	return result, e.label(ctx, ref, result.Ref)
}

// given provides what the user named.
func (e *ensurer) given(ctx context.Context, ref string) (Result, error) {
	result := Result{Base: ref, KubernetesVersion: versionIn(ref), Source: Present}
	if _, err := reference.ParseAnyReference(ref); err != nil {
		return Result{}, failure.New(failure.ImageReference, fmt.Sprintf("E2E_NODE_IMAGE=%q is no image reference", ref),
			"name an image, or unset it to use Kind's own", err)
	}
	// As it stands first: an engine finds its own short names and IDs.
	image, err := e.engine.Image(ctx, ref)
	if err != nil {
		return Result{}, err
	}
	if image == nil {
		full, err := canonical(ref)
		if err != nil {
			return Result{}, explain(ref, err)
		}
		if result.Source, err = e.fetch(ctx, full); err != nil {
			return Result{}, explain(ref, err)
		}
		ref = full
		if image, err = e.engine.Image(ctx, ref); err != nil || image == nil {
			return Result{}, errors.Join(fmt.Errorf("find node image %q after it was pulled", ref), err)
		}
	}
	if v := image.Labels[versionLabel]; v != "" {
		result.KubernetesVersion = v
	}
	if image.Labels[label] == "true" {
		result.Ref = ref
		return result, nil
	}
	// A tag may move: only the ID says what is in it.
	result.Ref = derived("given", image.ID)
	if known, err := e.engine.Image(ctx, result.Ref); err != nil || known != nil {
		return result, err
	}
	return result, e.label(ctx, ref, result.Ref)
}

// fetch makes the engine have ref: it is there, or it is pulled. The error is
// errUnavailable where the registry does not answer or does not give out such
// an image; what else a pull fails of may be over the next time.
func (e *ensurer) fetch(ctx context.Context, ref string) (Source, error) {
	image, err := e.engine.Image(ctx, ref)
	if err != nil {
		return "", err
	}
	if image != nil {
		return Present, nil
	}
	registry, err := registryOf(ref)
	if err != nil {
		return "", err
	}
	// An engine retries for minutes where a name does not even resolve.
	if err := e.Probe(ctx, registry); err != nil {
		return "", fmt.Errorf("%w: %w: %s: %w", errUnavailable, errNoRegistry, registry, err)
	}
	err = during(e.Progress, "pull node image", ref, func() error { return e.engine.Pull(ctx, ref) })
	if absent(err) || blocked(err) {
		return "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if err != nil {
		return "", err
	}
	return Pulled, nil
}

// absent says whether a pull failed because the registry does not have the
// image, or not for us: in its words (distribution-spec, error codes) and the
// engines'.
func absent(err error) bool {
	if err == nil {
		return false
	}
	said := strings.ToLower(err.Error())
	return slices.ContainsFunc([]string{
		"manifest unknown", "name unknown", "access denied", "access to the resource is denied", "not found: ",
	}, func(words string) bool { return strings.Contains(said, words) })
}

var forbidden = regexp.MustCompile(`\b403\b`)

// blocked says whether a pull ended at a 403. For a public image that is not a
// registry's answer, but that of a proxy which lets nobody through to it, and
// which may let through what a build needs.
func blocked(err error) bool { return err != nil && forbidden.MatchString(err.Error()) }

// explain gives a failed search for the user's image its class where that is
// certain; other words of the engine are left to be read by others.
func explain(ref string, err error) error {
	const remedy = "set E2E_NODE_IMAGE to an image the engine has, or unset it to use Kind's own"
	switch {
	case strings.HasPrefix(ref, "localhost/"), absent(err):
		return failure.New(failure.ImageReference, fmt.Sprintf("node image %q does not exist", ref), remedy, err)
	case errors.Is(err, errNoRegistry):
		return failure.New(failure.Network, fmt.Sprintf("the engine does not have node image %q, and its registry does not answer", ref), remedy, err)
	}
	return err
}

// label derives our image from base, without a layer of its own.
func (e *ensurer) label(ctx context.Context, base, ref string) error {
	return during(e.Progress, "label node image", ref, func() error { return e.engine.Label(ctx, base, ref) })
}
