package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// errUnavailable marks that an image cannot be had from its registry, which
// says nothing against building one; errNoRegistry, that it did not even answer.
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

// fetch makes the engine have ref: it is there, or it is pulled. Where it
// cannot be had the error is errUnavailable.
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
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return Pulled, nil
}

// explain gives a failed search for the user's image its class where that is
// certain; other words of the engine are left to be read by others.
func explain(ref string, err error) error {
	const remedy = "set E2E_NODE_IMAGE to an image the engine has, or unset it to use Kind's own"
	said := strings.ToLower(err.Error())
	switch {
	case strings.HasPrefix(ref, "localhost/"),
		strings.Contains(said, "manifest unknown"), strings.Contains(said, "access denied"), strings.Contains(said, "not found: "):
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
