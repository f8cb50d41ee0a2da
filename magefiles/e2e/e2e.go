// Package e2e holds the targets e2e:SUITE, a line for each suite.
package e2e

import (
	"context"

	"github.com/jordigilh/kubernaut-e2e/tools/pipeline"
)

// Aianalysis runs the AIAnalysis suite, from host set-up to verdict.
func Aianalysis(ctx context.Context) error { return pipeline.Exit(pipeline.E2E(ctx, "aianalysis")) }
