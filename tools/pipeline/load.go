package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
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
			nodes := s.loadNodes()
			ctx, giveUp := context.WithCancelCause(ctx)
			defer giveUp(nil)
			mishaps := mishaps{giveUp: giveUp}
			results, err := load.Load(ctx, load.Request{Refs: refs(), Nodes: nodes, Engine: loadEngine{s.engine, func(ctx context.Context) error { return mishaps.connect(ctx, s) }}, Strategy: s.settings.LoadStrategy,
				TempDir: s.folder.Path, Log: s.log, Progress: report, Note: func(e load.Event) { mishaps.add(e); s.noteLoad(e) }})
			out := run.Outcome{Skipped: true}
			var sent int64
			for _, r := range results {
				out.Nodes = append(out.Nodes, run.NodeResult{Node: r.Node, Ref: r.Ref, Strategy: r.Strategy, Bytes: r.Bytes,
					DurationMS: r.Duration.Milliseconds(), Verified: r.Verified})
				out.Skipped = out.Skipped && r.Strategy == load.Present
				sent += r.Bytes
			}
			if failed := failure.As(context.Cause(ctx)); err != nil && failed != nil {
				return out, failed // the rest only repeats it, for every node and image
			}
			if err != nil {
				return out, err
			}
			out.Detail = fmt.Sprintf("%d image(s) on %d node(s) verified, %s sent", len(results)/max(len(nodes), 1), len(nodes), humanize.Bytes(uint64(sent)))
			out.Works = []run.Work{{What: "the images are on every node", Evidence: out.Detail}}
			out.Heals = mishaps.heals()
			return out, nil
		}}
}

// mishaps are what went wrong within a load that then passed: a run in which
// something was put right must not look like one in which nothing was wrong.
type mishaps struct {
	mu      sync.Mutex
	failed  int
	first   error
	started bool // the engine's service was
	silent  time.Time
	giveUp  context.CancelCauseFunc
}

// silence is how long a load waits for an engine that went away. One that is
// away for longer needs more than waiting, and the load goes on after that.
const silence = 15 * time.Second

func (m *mishaps) connect(ctx context.Context, s *session) error {
	started, before := false, s.current()
	err := s.reconnect(ctx, &started)
	after := s.current()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started = m.started || started
	switch {
	case err == nil && after != before: // this load would go on over the old one
		m.giveUp(failure.New(failure.EngineConnection, "the connection to the engine stood still; a new one answers", "run again", nil))
	case err == nil:
		m.silent = time.Time{}
	case m.silent.IsZero():
		m.silent = time.Now()
	case time.Since(m.silent) > silence:
		m.giveUp(failure.New(failure.EngineConnection, fmt.Sprintf("the engine has not answered for %s", silence), "mage doctor", err))
	}
	return err
}

func (m *mishaps) add(e load.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Kind != "fail" {
		return
	}
	m.failed++
	if m.first == nil {
		m.first = e.Err
	}
}

func (m *mishaps) heals() []run.Heal {
	m.mu.Lock()
	defer m.mu.Unlock()
	var heals []run.Heal
	if m.started {
		heals = append(heals, run.Heal{Action: "start the engine's service", Effect: "it answers again", OK: true})
	}
	if m.failed > 0 {
		why := fmt.Sprint(m.first)
		if d := failure.Of(m.first, failure.Load, failure.Facts{}); m.first != nil && d.Signature != "" {
			why = d.Cause
		}
		why, _, _ = strings.Cut(why, "\n")
		heals = append(heals, run.Heal{Action: "send again what the nodes lack", OK: true,
			Effect: fmt.Sprintf("every node has it, verified, after %d broken transfer(s): %s", m.failed, why)})
	}
	return heals
}

// loadNodes are the cluster's nodes as the load package sees them.
func (s *session) loadNodes() []load.Node {
	names := s.nodeNames()
	nodes := make([]load.Node, len(names))
	for i, name := range names {
		nodes[i] = loadNode{engine: s.engine, name: name, lost: s.lostExec}
	}
	return nodes
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
