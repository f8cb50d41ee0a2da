// Package hapi builds the workload's images, content-addressed: an image's tag
// is a hash of everything that goes into it, so the same inputs are never built
// twice. It is named after the image that made this matter; the controller's
// image goes through the same code.
package hapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jordigilh/kubernaut-e2e/tools/command"
	"github.com/jordigilh/kubernaut-e2e/tools/engine"
	"github.com/jordigilh/kubernaut-e2e/tools/engine/buildcontext"
	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/settings"
)

// Engine is what building needs of an engine.
type Engine interface {
	Build(ctx context.Context, r engine.BuildRequest, report progress.Func) (imageID string, err error)
	Image(ctx context.Context, ref string) (engine.Image, error)
}

// Request is one image to have.
type Request struct {
	Root     string         // the project's root, for relative paths and the Go program
	Work     string         // folder for staged contexts; runs may share it
	Image    settings.Image // what to build
	Platform string         // "linux/amd64": of the nodes that will run it
}

// Image is an image that the engine has.
type Image struct {
	Ref   string // localhost/kubernaut-NAME:KEY
	ID    string // digest of its configuration, "sha256:..."
	Built bool   // false: it was there already
}

// Ensure makes the image present in the engine and proves it by asking for it.
// A program or Dockerfile that does not build is of class test-failure; a
// context that is not there of class configuration. On failure nothing is
// tagged. Runs that share a Work folder build an image with a program one after
// the other, different images at once.
func Ensure(ctx context.Context, e Engine, r Request, report progress.Func) (Image, error) {
	unlock, err := r.lock(ctx, report)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	in, err := r.stage(ctx, report)
	if err != nil {
		return Image{}, err
	}
	key, err := in.Key(ctx)
	if err != nil {
		return Image{}, err
	}
	ref := r.Image.Repository() + ":" + key
	have, err := e.Image(ctx, ref)
	if err == nil {
		return Image{Ref: ref, ID: have.ID}, nil
	}
	if !errors.Is(err, engine.ErrNotFound) {
		return Image{}, fmt.Errorf("look for image %q: %w", ref, err)
	}
	if _, err := e.Build(ctx, engine.BuildRequest{
		Context: in.Context, Dockerfile: in.Dockerfile, Tag: ref, Args: in.Args, Labels: in.Labels, Platform: in.Platform,
	}, report); err != nil {
		return Image{}, fmt.Errorf("build image %q: %w", ref, err)
	}
	have, err = e.Image(ctx, ref)
	if err != nil {
		return Image{}, fmt.Errorf("image %q was built and is not there: %w", ref, err)
	}
	return Image{Ref: ref, ID: have.ID, Built: true}, nil
}

// stage gives the inputs of the build. An image with a Go program is built from
// a copy of its context, to which the program is added; Go's cache and linker
// leave an unchanged program as it is. It is compiled with the same flags as
// the tools themselves: on a bare machine that halves what has to be compiled.
func (r Request) stage(ctx context.Context, report progress.Func) (Inputs, error) {
	context := r.Image.Context
	if !filepath.IsAbs(context) {
		context = filepath.Join(r.Root, context)
	}
	in := Inputs{Context: context, Dockerfile: r.Image.Dockerfile, Args: r.Image.Args, Platform: r.Platform, Labels: map[string]string{settings.Label: "true"}}
	for k, v := range r.Image.Labels {
		in.Labels[k] = v
	}
	if _, err := buildcontext.Open(in.Context, in.Dockerfile); err != nil || r.Image.Program == "" {
		return in, err
	}
	program := filepath.Join(r.Work, r.Image.Name, "bin", strings.ReplaceAll(r.Platform, "/", "-"), r.Image.Name)
	if err := r.compile(ctx, program, report); err != nil {
		return in, err
	}
	staged := filepath.Join(r.Work, r.Image.Name, "context")
	if err := os.RemoveAll(staged); err != nil {
		return in, fmt.Errorf("stage build context: %w", err)
	}
	if err := os.CopyFS(staged, os.DirFS(context)); err != nil {
		return in, fmt.Errorf("stage build context: %w", err)
	}
	if err := os.Link(program, filepath.Join(staged, r.Image.Name)); err != nil {
		return in, fmt.Errorf("stage build context: %w", err)
	}
	in.Context = staged
	return in, nil
}

func (r Request) compile(ctx context.Context, program string, report progress.Func) error {
	goos, goarch, _ := strings.Cut(r.Platform, "/")
	_, err := command.Run(ctx, command.Command{
		Name: "go", Args: []string{"build", "-v", "-buildvcs=false", "-ldflags=-s -w", "-o", program, r.Image.Program}, Dir: r.Root,
		Env:   []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch},
		Lines: command.GoLines("compile "+r.Image.Name, report),
	})
	var failed *command.Error
	if errors.As(err, &failed) && ctx.Err() == nil && strings.Contains("\n"+failed.Output, "\n# ") {
		return failure.New(failure.TestFailure, fmt.Sprintf("the program of image %q does not compile", r.Image.Name), "correct the code at the line shown", err)
	}
	if err != nil {
		return fmt.Errorf("compile program of image %q: %w", r.Image.Name, err)
	}
	return nil
}
