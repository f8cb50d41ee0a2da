package engine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// Build uses the builder that is part of every daemon: BuildKit's needs a
// session protocol that its own client speaks.
func (d *docker) Build(ctx context.Context, r BuildRequest, show progress.Func) (string, error) {
	c, stream, stop, err := contextStream(ctx, r)
	if err != nil {
		return "", err
	}
	defer stop()
	args := map[string]*string{}
	for k, v := range r.Args {
		args[k] = &v
	}
	resp, err := d.client.ImageBuild(ctx, stream, build.ImageBuildOptions{
		Dockerfile: c.Dockerfile, Tags: []string{r.Tag}, BuildArgs: args, Labels: r.Labels, Platform: r.Platform,
		NoCache: r.NoCache, Remove: true, ForceRemove: true, Version: build.BuilderV1,
	})
	if err != nil {
		err = d.failed(ctx, err)
		// The daemon parses the Dockerfile before it answers.
		var api *APIError
		if errors.As(err, &api) && strings.Contains(strings.ToLower(api.Message), "dockerfile") {
			return "", buildFailure(r, api, nil)
		}
		return "", fmt.Errorf("build %s: %w", r.Tag, err)
	}
	defer resp.Body.Close()
	if err := d.finishBuild(ctx, r, resp.Body, show); err != nil {
		return "", err
	}
	return builtID(ctx, d, r.Tag)
}

func (d *docker) Image(ctx context.Context, ref string) (Image, error) {
	var out Image
	err := d.do(ctx, "image "+ref, func(ctx context.Context) error {
		i, err := d.client.ImageInspect(ctx, ref)
		if err != nil {
			return err
		}
		out = Image{
			ID: i.ID, Tags: i.RepoTags, Digests: i.RepoDigests, Size: i.Size, OS: i.Os, Arch: i.Architecture, Layers: i.RootFS.Layers,
		}
		if i.Config != nil {
			out.Labels = i.Config.Labels
		}
		out.Created, _ = time.Parse(time.RFC3339Nano, i.Created)
		return nil
	})
	return out, err
}

func (d *docker) Images(ctx context.Context, labels ...string) ([]Image, error) {
	var images []Image
	err := d.do(ctx, "list images", func(ctx context.Context) error {
		list, err := d.client.ImageList(ctx, image.ListOptions{Filters: dockerFilter(labels)})
		for _, i := range list {
			images = append(images, Image{
				ID: i.ID, Tags: i.RepoTags, Digests: i.RepoDigests, Size: i.Size, Labels: i.Labels, Created: time.Unix(i.Created, 0),
			})
		}
		return err
	})
	return images, err
}

func (d *docker) Tag(ctx context.Context, ref, newRef string) error {
	if _, _, err := splitReference(newRef); err != nil {
		return err
	}
	return d.do(ctx, "tag "+ref+" as "+newRef, func(ctx context.Context) error { return d.client.ImageTag(ctx, ref, newRef) })
}

func (d *docker) RemoveImage(ctx context.Context, ref string, force bool) error {
	return d.do(ctx, "remove image "+ref, func(ctx context.Context) error {
		_, err := d.client.ImageRemove(ctx, ref, image.RemoveOptions{Force: force, PruneChildren: true})
		return err
	})
}

func (d *docker) Save(ctx context.Context, ref string, w io.Writer) error {
	return d.SaveAll(ctx, []string{ref}, w)
}

func (d *docker) SaveAll(ctx context.Context, refs []string, w io.Writer) error {
	body, err := d.client.ImageSave(ctx, refs)
	if err == nil {
		defer body.Close()
		err = copyArchive(w, body)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", strings.Join(refs, ", "), d.failed(ctx, err))
	}
	return nil
}

// loaded is how the daemon reports what an archive held.
var loaded = regexp.MustCompile(`^Loaded image(?: ID)?: (\S+)$`)

func (d *docker) Load(ctx context.Context, r io.Reader) ([]string, error) {
	resp, err := d.client.ImageLoad(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", d.failed(ctx, err))
	}
	defer resp.Body.Close()
	var refs []string
	lines, err := readMessages(resp.Body, func(line string) {
		if m := loaded.FindStringSubmatch(line); m != nil {
			refs = append(refs, m[1])
		}
	})
	if err == nil && len(refs) == 0 {
		err = fmt.Errorf("the engine names no image: %s: %w", strings.Join(lines[max(0, len(lines)-shownLines):], "; "), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", d.failed(ctx, err))
	}
	return refs, nil
}

// Push tags the image as dest for the time of the push: Docker pushes by the
// image's own name only.
func (d *docker) Push(ctx context.Context, ref, dest string, show progress.Func) (err error) {
	host, _, _ := strings.Cut(dest, "/")
	if h, _, splitErr := net.SplitHostPort(host); splitErr != nil || (h != "localhost" && !net.ParseIP(h).IsLoopback()) {
		return fmt.Errorf("push to %s: Docker takes plain HTTP from its loopback only: %w", dest, errors.ErrUnsupported)
	}
	if err := d.Tag(ctx, ref, dest); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.RemoveImage(context.WithoutCancel(ctx), dest, false)) }()
	nobody := base64.URLEncoding.EncodeToString([]byte("{}"))
	body, err := d.client.ImagePush(ctx, dest, image.PushOptions{RegistryAuth: nobody})
	if err == nil {
		defer body.Close()
		_, err = readMessages(body, func(line string) { show.Or()(progress.Update{What: "push " + ref, Line: line}) })
	}
	if err != nil {
		return fmt.Errorf("push %s to %s: %w", ref, dest, d.failed(ctx, err))
	}
	return nil
}
