//go:build mage

// Package main holds the targets. Each parses its input, calls one function of
// tools/pipeline and maps the error to an exit code.
package main

import (
	"context"

	//mage:import e2e
	_ "github.com/jordigilh/kubernaut-e2e/magefiles/e2e"

	"github.com/jordigilh/kubernaut-e2e/tools/pipeline"
)

// Setup makes this host able to run the rest: engine, its service, node image.
func Setup(ctx context.Context) error { return pipeline.Exit(pipeline.Setup(ctx)) }

// Doctor checks host, engine, ports and leftovers, and changes nothing.
func Doctor(ctx context.Context) error { return pipeline.Exit(pipeline.Doctor(ctx)) }

// ClusterUp makes the suite's Kind cluster exist, ready, with its own kubeconfig.
func ClusterUp(ctx context.Context) error { return pipeline.Exit(pipeline.ClusterUp(ctx)) }

// BuildHAPI builds the HAPI image and prints its reference.
func BuildHAPI(ctx context.Context) error { return pipeline.Exit(pipeline.BuildHAPI(ctx)) }

// LoadImage puts images (REF[,REF...], or a tarball) on every node of the cluster, verified.
func LoadImage(ctx context.Context, refs string) error {
	return pipeline.Exit(pipeline.LoadImage(ctx, refs))
}

// E2e runs every suite.
func E2e(ctx context.Context) error { return pipeline.Exit(pipeline.All(ctx)) }

// Teardown removes what this project made, and nothing else.
func Teardown(ctx context.Context) error { return pipeline.Exit(pipeline.Teardown(ctx)) }

// Unit runs the fast tests; they need no engine and no network.
func Unit(ctx context.Context) error { return pipeline.Exit(pipeline.Unit(ctx)) }

// Test runs every test, those on a real engine too.
func Test(ctx context.Context) error { return pipeline.Exit(pipeline.Test(ctx)) }

// Explain reads a log (-: standard input) and prints class, cause and remedy.
func Explain(ctx context.Context, file string, phase *string, json *bool) error {
	return pipeline.Exit(pipeline.Explain(ctx, file, phase, json))
}

// Bench measures image loading against the ordinary way and writes docs/benchmarks.md.
func Bench(ctx context.Context, runs *int, cases *string) error {
	return pipeline.Exit(pipeline.Bench(ctx, runs, cases))
}

// Lint runs the linters.
func Lint(ctx context.Context) error { return pipeline.Exit(pipeline.Lint(ctx)) }

// Chaos breaks engines, nodes and runs on purpose and writes docs/fault-matrix.md; with -few, a few of them, in minutes.
func Chaos(ctx context.Context, few *bool) error {
	return pipeline.Exit(pipeline.Chaos(ctx, few != nil && *few))
}
