// Package heal puts right what a failure's diagnosis names, and proves it.
//
// It owns what to do about which class of failure (table.go), the bounds in
// time, and what counts as healed. How a thing is done on this engine and host
// belongs to the hands that it is given; what a failure means belongs to
// package failure.
package heal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
)

// Do is something that can be done; its text is what reports call it.
type Do string

// What can be done.
const (
	Reconnect      Do = "connect to the engine again"
	RestartMachine Do = "restart the Podman machine"
	RestartService Do = "restart the engine's service"
	EndExecs       Do = "end commands left in the nodes"
	RemoveStale    Do = "remove what an earlier run left"
	FreeSpace      Do = "free this project's own caches"
	ReloadImages   Do = "put the images on the nodes again"
	RebuildImages  Do = "build again what went away"
	Wait           Do = "wait a moment"
)

// The proofs, asked for after what was done and before a step is repeated. The
// last two put right what they find missing, and are called what they then did:
// where all is well, they are not on record.
const (
	EngineAnswers  Do = "ask the engine"
	ClusterAnswers Do = "repair the cluster"
	WorkloadRuns   Do = "deploy the workload again"
)

// Hand does one thing, or asks one thing, and says what came of it. An empty
// effect without an error means that there was nothing to do. It stops when its
// context ends. For a proof, the effect of an answer is not empty; that of
// ClusterAnswers and WorkloadRuns may be, where all was well.
type Hand func(ctx context.Context) (effect string, err error)

// Action is one thing that was done and what it came to.
type Action struct {
	Name   string
	Effect string // what proved that it worked, or why it did not
	OK     bool
}

// Request is a failure to be healed.
type Request struct {
	Diagnosis failure.Diagnosis
	Phase     failure.Phase
	// Hands are what can be done here. One that is missing is passed over,
	// except for EngineAnswers, without which nothing counts as healed.
	Hands map[Do]Hand
	// Begin is told of each thing before it is done; nil: nobody is.
	Begin func(Do)
}

// proofLimit bounds asking the engine once.
const proofLimit = 10 * time.Second

// Heal does what the table says about the diagnosis, in order, each within its
// limit, and returns all that was done. It is ok only if what the phase needs
// was proven afterwards, and, for a class that doing nothing cannot help, if
// something was done with success. A diagnosis whose retry policy is
// failure.RetryNow only gets its proofs, and whatever they take.
func Heal(ctx context.Context, r Request) (done []Action, ok bool) {
	p := planFor(r.Diagnosis, r.Phase)
	if p.helpless {
		return nil, false
	}
	h := healer{Request: r}
	for _, s := range p.steps {
		if ctx.Err() != nil {
			break
		}
		if s.when == ifSilent && h.ask(ctx) == nil {
			continue
		}
		h.do(ctx, s)
	}
	if p.needsEffect && !h.helped {
		return h.done, false
	}
	return h.done, h.prove(ctx, r.Phase)
}

type healer struct {
	Request
	done   []Action
	helped bool
}

// ask asks the engine without a word.
func (h *healer) ask(ctx context.Context) error {
	hand := h.Hands[EngineAnswers]
	if hand == nil {
		return errors.New("nobody can ask the engine")
	}
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	_, err := hand(ctx)
	return err
}

// do carries out one step. What changes the engine is proven by asking it.
func (h *healer) do(ctx context.Context, s step) {
	hand := h.Hands[s.do]
	if hand == nil {
		return
	}
	if h.Begin != nil {
		h.Begin(s.do)
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done within %s", s.limit))
	defer cancel()
	effect, err := hand(limited)
	if err == nil && effect == "" {
		return
	}
	if err == nil && s.proof != "" {
		err = h.ask(ctx)
	}
	if err == nil {
		h.helped = h.helped || s.do != Wait
		h.done = append(h.done, Action{Name: string(s.do), Effect: effect, OK: true})
		return
	}
	if cause := context.Cause(limited); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	h.done = append(h.done, Action{Name: string(s.do), Effect: err.Error()})
}

// prove asks for all that the phase stands on, from the bottom up.
func (h *healer) prove(ctx context.Context, phase failure.Phase) bool {
	for _, s := range proofsFor(phase) {
		hand := h.Hands[s.do]
		if hand == nil {
			if s.do == EngineAnswers {
				return false
			}
			continue
		}
		if s.do != EngineAnswers && h.Begin != nil {
			h.Begin(s.do)
		}
		limited, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("no answer within %s", s.limit))
		effect, err := hand(limited)
		cancel()
		switch {
		case err != nil:
			h.done = append(h.done, Action{Name: string(s.do), Effect: err.Error()})
			return false
		case effect == "" || s.do == EngineAnswers && (len(h.done) > 0 || h.Diagnosis.Retry == failure.RetryNow):
			continue // all well, and what was done says so already
		}
		h.done = append(h.done, Action{Name: string(s.do), Effect: effect, OK: true})
	}
	return ctx.Err() == nil
}
