package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// loadStep puts images on every node, each proven. refs is asked when the step
// begins, for the images of the steps before it.
func (s *session) loadStep(refs func() []string) run.Step {
	return run.Step{Name: "load", Phase: failure.Load, Budget: 20 * time.Minute, Stall: stall,
		Do: func(ctx context.Context, report progress.Func) (run.Outcome, error) {
			var nodes []load.Node
			for _, name := range s.nodes {
				nodes = append(nodes, loadNode{engine: s.engine, name: name, lost: s.lostExec})
			}
			results, err := load.Load(ctx, load.Request{Refs: refs(), Nodes: nodes, Engine: loadEngine{s.engine}, Strategy: s.settings.LoadStrategy,
				TempDir: s.folder.Path, Log: s.log, Progress: report, Note: s.noteLoad})
			out := run.Outcome{Skipped: true}
			var sent int64
			for _, r := range results {
				out.Nodes = append(out.Nodes, run.NodeResult{Node: r.Node, Ref: r.Ref, Strategy: r.Strategy, Bytes: r.Bytes,
					DurationMS: r.Duration.Milliseconds(), Verified: r.Verified})
				out.Skipped = out.Skipped && r.Strategy == load.Present
				sent += r.Bytes
			}
			if err != nil {
				return out, err
			}
			out.Detail = fmt.Sprintf("%d image(s) on %d node(s) verified, %s sent", len(results)/max(len(nodes), 1), len(nodes), humanize.Bytes(uint64(sent)))
			out.Works = []run.Work{{What: "the images are on every node", Evidence: out.Detail}}
			return out, nil
		}}
}

// noteLoad journals what happens within a load. The end of each node's load is
// journalled with the step's outcome.
func (s *session) noteLoad(e load.Event) {
	kinds := map[string]string{"skip": run.Skip, "attempt": run.Try, "heal": run.Healed, "fail": run.Failed}
	kind, ok := kinds[e.Kind]
	if !ok {
		return
	}
	event := run.Event{Time: time.Now(), Step: "load", Kind: kind, Attempt: e.Attempt, DurationMS: e.Duration.Milliseconds(),
		Strategy: e.Strategy, Node: e.Node, Bytes: e.Bytes, Detail: e.Detail}
	if e.Err != nil {
		event.Error = e.Err.Error()
	}
	s.journal.Add(event)
}
