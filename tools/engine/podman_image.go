package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

func (p *podman) Build(ctx context.Context, r BuildRequest, show progress.Func) (string, error) {
	c, stream, stop, err := contextStream(ctx, r)
	if err != nil {
		return "", err
	}
	defer stop()
	dockerfiles, _ := json.Marshal([]string{c.Dockerfile})
	args, _ := json.Marshal(r.Args)
	labels, _ := json.Marshal(r.Labels)
	q := url.Values{
		"dockerfile": {string(dockerfiles)}, "t": {r.Tag}, "buildargs": {string(args)}, "labels": {string(labels)},
		"layers": {"true"}, "rm": {"true"}, "forcerm": {"true"}, "pullpolicy": {"missing"},
		"nocache": {fmt.Sprint(r.NoCache)},
		// A fixed time makes equal inputs equal layers: a layer above a program
		// that changed keeps its digest and need not be sent again.
		"timestamp": {fmt.Sprint(buildcontext.Modified.Unix())},
	}
	if r.Platform != "" {
		q.Set("platform", r.Platform)
	}
	resp, err := p.request(ctx, http.MethodPost, "/build", q, http.Header{"Content-Type": {"application/x-tar"}}, stream)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", r.Tag, p.failed(ctx, err))
	}
	defer resp.Body.Close()
	if err := p.finishBuild(ctx, r, resp.Body, show); err != nil {
		return "", err
	}
	return builtID(ctx, p, r.Tag)
}

// builtID proves a build: a stream that ends without an error may have been
// cut.
func builtID(ctx context.Context, e Engine, tag string) (string, error) {
	image, err := e.Image(ctx, tag)
	if err != nil {
		return "", fmt.Errorf("build %s ended, but the image is not there: %w", tag, err)
	}
	return image.ID, nil
}

func (p *podman) Image(ctx context.Context, ref string) (Image, error) {
	var i struct {
		ID           string `json:"Id"`
		RepoTags     []string
		RepoDigests  []string
		Size         int64
		Os           string
		Architecture string
		Labels       map[string]string
		RootFS       struct{ Layers []string }
		Created      time.Time
	}
	if err := p.call(ctx, http.MethodGet, "/images/"+url.PathEscape(ref)+"/json", nil, nil, &i); err != nil {
		return Image{}, fmt.Errorf("image %s: %w", ref, err)
	}
	return Image{
		ID: imageID(i.ID), Tags: i.RepoTags, Digests: i.RepoDigests, Size: i.Size, OS: i.Os, Arch: i.Architecture,
		Labels: i.Labels, Layers: i.RootFS.Layers, Created: i.Created,
	}, nil
}

func imageID(id string) string {
	if id == "" || strings.Contains(id, ":") {
		return id
	}
	return "sha256:" + id
}

func (p *podman) Images(ctx context.Context, labels ...string) ([]Image, error) {
	var list []struct {
		ID          string `json:"Id"`
		RepoTags    []string
		RepoDigests []string
		Size        int64
		Os, Arch    string
		Labels      map[string]string
		Created     int64
	}
	if err := p.call(ctx, http.MethodGet, "/images/json", labelFilter(labels), nil, &list); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := make([]Image, 0, len(list))
	for _, i := range list {
		images = append(images, Image{
			ID: imageID(i.ID), Tags: i.RepoTags, Digests: i.RepoDigests, Size: i.Size, OS: i.Os, Arch: i.Arch,
			Labels: i.Labels, Created: time.Unix(i.Created, 0),
		})
	}
	return images, nil
}

func (p *podman) Tag(ctx context.Context, ref, newRef string) error {
	repo, tag, err := splitReference(newRef)
	if err != nil {
		return err
	}
	err = p.call(ctx, http.MethodPost, "/images/"+url.PathEscape(ref)+"/tag", url.Values{"repo": {repo}, "tag": {tag}}, nil, nil)
	if err != nil {
		return fmt.Errorf("tag %s as %s: %w", ref, newRef, err)
	}
	return nil
}

// splitReference splits a reference that names a tag, or none (latest).
func splitReference(ref string) (repo, tag string, err error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", failure.New(failure.ImageReference, fmt.Sprintf("%q is no image reference", ref), "write NAME:TAG, e.g. localhost/name:v1", err)
	}
	tagged, ok := reference.TagNameOnly(named).(reference.Tagged)
	if !ok {
		return "", "", failure.New(failure.ImageReference, fmt.Sprintf("%q names a digest, not a tag", ref), "write NAME:TAG", nil)
	}
	return named.Name(), tagged.Tag(), nil
}

func (p *podman) RemoveImage(ctx context.Context, ref string, force bool) error {
	err := p.call(ctx, http.MethodDelete, "/images/"+url.PathEscape(ref), url.Values{"force": {fmt.Sprint(force)}}, nil, nil)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return nil
}

func (p *podman) Save(ctx context.Context, ref string, w io.Writer) error {
	return p.SaveAll(ctx, []string{ref}, w)
}

func (p *podman) SaveAll(ctx context.Context, refs []string, w io.Writer) error {
	q := url.Values{"format": {"docker-archive"}, "references": refs}
	resp, err := p.request(ctx, http.MethodGet, "/images/export", q, nil, nil)
	if err == nil {
		defer resp.Body.Close()
		err = copyArchive(w, resp.Body)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", strings.Join(refs, ", "), p.failed(ctx, err))
	}
	return nil
}

func (p *podman) Load(ctx context.Context, r io.Reader) ([]string, error) {
	resp, err := p.request(ctx, http.MethodPost, "/images/load", nil, http.Header{"Content-Type": {"application/x-tar"}}, struct{ io.Reader }{r})
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", p.failed(ctx, err))
	}
	defer resp.Body.Close()
	var report struct{ Names []string }
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		return nil, fmt.Errorf("load archive: %w", p.failed(ctx, err))
	}
	return report.Names, nil
}

func (p *podman) Push(ctx context.Context, ref, dest string, show progress.Func) error {
	q := url.Values{"destination": {dest}, "tlsVerify": {"false"}, "quiet": {"false"}}
	resp, err := p.request(ctx, http.MethodPost, "/images/"+url.PathEscape(ref)+"/push", q, nil, nil)
	if err == nil {
		defer resp.Body.Close()
		_, err = readMessages(resp.Body, func(line string) { show.Or()(progress.Update{What: "push " + ref, Line: line}) })
	}
	if err != nil {
		return fmt.Errorf("push %s to %s: %w", ref, dest, p.failed(ctx, err))
	}
	return nil
}
