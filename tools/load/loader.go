package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/avast/retry-go/v4"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load/node"
)

// loader brings one image to all nodes.
type loader struct {
	req    *Request
	src    *source
	marker string // names this load's imports in the nodes' process lists
	start  time.Time
	nodes  []*target
	failed bool // something was sent in vain
}

// target is one node on its way to having the image.
type target struct {
	node Node
	res  Result
	inv  *node.Inventory // as last asked; nil if it did not answer
	err  error           // why the node is not yet proven
	hard bool            // err will not go away by trying again
	kept bool            // parts of the image may be held in the node for the next attempt
}

func (t *target) done() bool { return t.res.Verified || t.hard }

// impossible is the error of a strategy that cannot work here.
type impossible struct{ reason string }

func (e *impossible) Error() string { return e.reason }

func newLoader(req *Request, src *source) *loader {
	l := &loader{req: req, src: src, marker: rand.Text(), start: time.Now()}
	for _, n := range req.Nodes {
		l.nodes = append(l.nodes, &target{node: n, res: Result{Node: n.Name(), Ref: src.ref, Name: src.name}})
	}
	return l
}

type strategy struct {
	name string
	send func(context.Context, []*target) error
}

// run tries the strategies in order on the nodes that are not yet proven.
func (l *loader) run(ctx context.Context) ([]Result, error) {
	l.note(Event{Kind: "attempt", Strategy: Present, Attempt: 1})
	l.each(l.nodes, func(t *target) { l.present(ctx, t) })
	for _, s := range []strategy{{Thin, l.thin}, {Stream, l.stream}, {Archive, l.archive}} {
		if l.req.Strategy != "" && l.req.Strategy != s.name {
			continue
		}
		if len(l.pending()) == 0 || ctx.Err() != nil {
			break
		}
		l.attempts(ctx, s)
	}
	if l.failed {
		l.each(l.nodes, func(t *target) { l.release(ctx, t) })
	}
	results := make([]Result, 0, len(l.nodes))
	var failed []error
	for _, t := range l.nodes {
		if !t.res.Verified {
			if t.err == nil {
				t.err = errors.New("not loaded, and no strategy was tried")
			}
			t.res.Err = at(t.node.Name(), t.err)
			failed = append(failed, t.res.Err)
			l.note(Event{Kind: "fail", Node: t.node.Name(), Strategy: t.res.Strategy, Bytes: t.res.Bytes, Err: t.err})
		}
		t.res.Duration = cmp.Or(t.res.Duration, time.Since(l.start))
		results = append(results, t.res)
	}
	if ctx.Err() != nil {
		failed = append(failed, ctx.Err())
	}
	return results, errors.Join(failed...)
}

// attempts tries one strategy until every node is proven, beyond help, or the
// attempts are used up. Before each repetition the engine must answer again
// and each node is asked what is still missing.
func (l *loader) attempts(ctx context.Context, s strategy) {
	attempt := 0
	_ = retry.Do(func() error {
		attempt++
		if attempt > 1 {
			l.req.reachable(ctx, l.src.ref)
			l.each(l.pending(), func(t *target) { l.look(ctx, t) })
		}
		if l.failed {
			// What failed may have failed because of it.
			if err := l.current(ctx); err != nil {
				l.stop(err)
				return retry.Unrecoverable(err)
			}
		}
		todo := slices.DeleteFunc(l.pending(), func(t *target) bool { return t.inv == nil })
		if len(todo) == 0 {
			return l.open()
		}
		l.note(Event{Kind: "attempt", Strategy: s.name, Attempt: attempt})
		for _, t := range todo {
			t.res.Strategy = s.name
			t.res.Attempts++
		}
		began := time.Now()
		err := s.send(ctx, todo)
		var no *impossible
		if errors.As(err, &no) {
			l.skip(s.name, no.reason, todo)
			return retry.Unrecoverable(err)
		}
		for _, t := range todo {
			if err != nil && t.err == nil {
				t.err = err
			}
		}
		l.each(todo, func(t *target) { l.prove(ctx, t) })
		for _, t := range todo {
			if !t.res.Verified {
				l.failed = true
				l.note(Event{Kind: "fail", Node: t.node.Name(), Strategy: s.name, Attempt: attempt, Duration: time.Since(began), Bytes: t.res.Bytes, Err: t.err})
			}
		}
		return l.open()
	},
		retry.Context(ctx), retry.Attempts(uint(l.req.Attempts)), retry.LastErrorOnly(true), //nolint:gosec // a handful
		retry.Delay(200*time.Millisecond), retry.MaxDelay(10*time.Second), retry.MaxJitter(200*time.Millisecond),
		retry.DelayType(retry.CombineDelay(retry.BackOffDelay, retry.RandomDelay)),
	)
}

// open returns an error while a node is neither proven nor beyond help.
func (l *loader) open() error {
	for _, t := range l.pending() {
		return at(t.node.Name(), t.err)
	}
	return nil
}

// at names the node, unless err begins with its name.
func at(node string, err error) error {
	if strings.HasPrefix(err.Error(), "node "+node) {
		return err
	}
	return fmt.Errorf("node %s: %w", node, err)
}

func (l *loader) pending() []*target {
	return slices.DeleteFunc(slices.Clone(l.nodes), (*target).done)
}

// each runs f for every target at once and waits for all.
func (l *loader) each(targets []*target, f func(*target)) {
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() { f(t) })
	}
	wg.Wait()
}

func (l *loader) skip(strategy, reason string, targets []*target) {
	l.req.Log.Debug("strategy skipped", "strategy", strategy, "reason", reason)
	for _, t := range targets {
		t.res.Attempts--
		t.res.Skipped = append(t.res.Skipped, strategy+": "+reason)
		if t.err == nil {
			t.err = fmt.Errorf("%s cannot work here: %s", strategy, reason)
		}
	}
	l.note(Event{Kind: "skip", Strategy: strategy, Detail: reason})
}

func (l *loader) note(e Event) {
	e.Ref = l.src.ref
	l.req.Note(e)
}

// stop gives up on every node that is not proven.
func (l *loader) stop(err error) {
	for _, t := range l.pending() {
		t.err, t.hard = err, true
	}
}

// fits returns a typed failure if the node has not room for need bytes.
func (l *loader) fits(t *target, need int64) error {
	if t.inv.Free < 0 || t.inv.Free >= need {
		return nil
	}
	return failure.New(failure.Resources,
		fmt.Sprintf("node %s has %s free, image %s needs %s there", t.node.Name(), humanBytes(t.inv.Free), l.src.ref, humanBytes(need)),
		"free space for the engine's storage, or remove images from the node (crictl rmi --prune)", nil)
}
