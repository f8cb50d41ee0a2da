package nodeimage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/nodeimage/build"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

const (
	label        = settings.Label
	versionLabel = settings.Label + ".kubernetes"
)

// Image is what has to be known of an engine's image.
type Image struct {
	ID     string
	Labels map[string]string
}

// Engine is what this package uses of a container engine.
type Engine interface {
	// Image returns nil, and no error, where the engine has no such image.
	Image(ctx context.Context, ref string) (*Image, error)
	Pull(ctx context.Context, ref string) error
	// Label makes ref from base with our label and no layer of its own.
	Label(ctx context.Context, base, ref string) error
	// Import makes ref, with our label, a node image of a root filesystem's archive.
	Import(ctx context.Context, archive, ref string) error
}

// Command is an engine by its command: podman or docker, whose words are the
// same for all of this. Kind needs the command anyway, and finds through the
// same environment the same engine.
type Command string

var _ Engine = Command("")

// Image implements [Engine].
func (c Command) Image(ctx context.Context, ref string) (*Image, error) {
	out, err := c.run(ctx, "image", "inspect", ref)
	if err != nil {
		// Podman's and Docker's words for it.
		for _, absent := range []string{"image not known", "no such image"} {
			if strings.Contains(strings.ToLower(err.Error()), absent) {
				return nil, nil
			}
		}
		return nil, fmt.Errorf("look for node image %q: %w", ref, err)
	}
	var images []struct {
		ID     string `json:"Id"`
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(out, &images); err != nil {
		return nil, fmt.Errorf("look for node image %q: read the answer: %w", ref, err)
	}
	if len(images) == 0 {
		return nil, nil
	}
	return &Image{ID: images[0].ID, Labels: images[0].Config.Labels}, nil
}

// Pull implements [Engine].
func (c Command) Pull(ctx context.Context, ref string) error {
	if _, err := c.run(ctx, "pull", ref); err != nil {
		return fmt.Errorf("pull node image %q: %w", ref, err)
	}
	return nil
}

// Label implements [Engine].
func (c Command) Label(ctx context.Context, base, ref string) (err error) {
	if err := c.derive(ctx, base, ref, "LABEL "+label+"=true"); err != nil {
		return fmt.Errorf("label node image %q: %w", base, err)
	}
	return nil
}

// derive makes ref of base and one instruction that adds no layer, and asks the
// engine for it: a builder may keep to itself what it made.
func (c Command) derive(ctx context.Context, base, ref, instruction string) (err error) {
	dir, err := os.MkdirTemp("", "kubernaut-e2e-label-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM "+base+"\n"+instruction+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := c.run(ctx, "build", "--quiet", "--pull=false", "--file", file, "--tag", ref, dir); err != nil {
		return err
	}
	if image, err := c.Image(ctx, ref); err != nil || image == nil {
		return errors.Join(fmt.Errorf("%s does not have image %q after it was built", c, ref), err)
	}
	return nil
}

// Import implements [Engine]. The changes are those of Kind's Dockerfile: they
// tell systemd that it is in a container and how it wants to be stopped.
func (c Command) Import(ctx context.Context, archive, ref string) error {
	const stop = "STOPSIGNAL SIGRTMIN+3"
	args := []string{"import"}
	if c != "docker" { // dockerd's import does not take it (moby: dockerfile.BuildFromConfig, validCommitCommands)
		args = append(args, "--change", stop)
	}
	for _, change := range []string{
		`ENV container=docker`,
		`ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]`,
		`LABEL ` + label + `=true`,
		`LABEL ` + versionLabel + `=` + build.KubernetesVersion,
	} {
		args = append(args, "--change", change)
	}
	if _, err := c.run(ctx, append(args, archive, ref)...); err != nil {
		return fmt.Errorf("load node image %q from %q: %w", ref, archive, err)
	}
	if c == "docker" {
		if err := c.derive(ctx, ref, ref, stop); err != nil {
			return fmt.Errorf("set the stop signal of node image %q: %w", ref, err)
		}
	}
	return nil
}

// run returns the command's standard output; its error holds what was run and
// what it said. When ctx ends the command is interrupted, and killed ten
// seconds later.
func (c Command) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, string(c), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if c == "docker" {
		// The builder that is the engine itself, where DOCKER_HOST names that:
		// any other sees none of its images and gives it none.
		cmd.Env = append(os.Environ(), "BUILDX_BUILDER=default")
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s %s: %w: %s", c, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}
