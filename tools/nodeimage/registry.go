package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/distribution/reference"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// probeTimeout bounds what a registry that does not answer costs a run.
const probeTimeout = 4 * time.Second

// canonical spells a reference out. One with a digest loses its tag: Podman 4
// refuses to pull what has both, and the digest alone decides anyway.
func canonical(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("read image reference %q: %w", ref, err)
	}
	if digested, ok := named.(reference.Digested); ok {
		exact, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest())
		if err != nil {
			return "", fmt.Errorf("read image reference %q: %w", ref, err)
		}
		return exact.String(), nil
	}
	return reference.TagNameOnly(named).String(), nil
}

// registryOf returns the host that serves ref.
func registryOf(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("read image reference %q: %w", ref, err)
	}
	if host := reference.Domain(named); host != "docker.io" {
		return host, nil
	}
	// Docker Hub's name differs from its registry's.
	return "registry-1.docker.io", nil
}

// probe asks a registry for its version, through the proxy of the environment.
// Any answer will do, a refusal included: it is the engine that logs in.
func probe(ctx context.Context, registry string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+registry+"/v2/", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	// A gateway's own error is no registry.
	if response.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("it said %s", response.Status)
	}
	_ = response.Body.Close()
	return err
}

// derived names the labelled image made from another.
func derived(kind, identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return repository + ":" + kind + "-" + hex.EncodeToString(sum[:])[:12]
}

// during reports every few seconds that f still runs.
func during(report progress.Func, what, ref string, f func() error) error {
	say := func(since time.Duration) {
		report.Or()(progress.Update{What: what, Line: fmt.Sprintf("%s, %s", ref, since.Round(time.Second))})
	}
	begin := time.Now()
	say(0)
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			say(time.Since(begin))
		}
	}
}
