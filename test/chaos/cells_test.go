package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// moment is when a fault strikes a run.
type moment struct {
	step string
	// payload is of the HAPI image of this cell, MB; 0: the image that all others have.
	payload func(cell int) int
	env     []string
	fresh   bool // there is no cluster when the run begins
	down    bool // there is none after it
	// await returns when the step is at work.
	await func(w *world, r *pipeline)
}

// quick runs the few specs that show the workload works, lasting some that take
// long enough to be interrupted.
const (
	quick   = "GINKGO_FOCUS=is alive"
	lasting = "GINKGO_LABEL=lifecycle"
)

// began makes the images of this run others than those of the runs before it.
var began = int(time.Now().Unix() % 97)

func big(cell int) int   { return 200 + (began+cell)%97 }
func small(cell int) int { return base + 1 + (began+cell)%97 }
func none(int) int       { return 0 }

// base is the payload of cells that need no image of their own: no image of
// the chaos tests is one that other runs on this host use.
const base = 1

// payload makes a HAPI image with so many MB.
func payload(mb int) string { return fmt.Sprint("HAPI_PAYLOAD_MB=", mb) }

var moments = []moment{
	{step: "set-up", payload: none, env: []string{quick}, await: func(_ *world, r *pipeline) {
		r.until("engine", run.Start)
		time.Sleep(100 * time.Millisecond)
	}},
	{step: "build", payload: big, env: []string{quick}, await: func(w *world, r *pipeline) {
		r.until("build-hapi", run.Start)
		w.way.after(r, 3<<20)
	}},
	{step: "load", payload: big, env: []string{quick}, await: func(w *world, r *pipeline) {
		r.until("load", run.Start)
		w.way.after(r, 60<<20)
	}},
	{step: "deploy", payload: small, env: []string{quick}, await: func(_ *world, r *pipeline) { r.until("deploy", run.Start) }},
	{step: "suite", payload: none, env: []string{lasting}, await: func(_ *world, r *pipeline) {
		r.until("suite", run.Start)
		time.Sleep(2 * time.Second)
	}},
	{step: "cluster", payload: none, env: []string{quick}, fresh: true, await: func(w *world, r *pipeline) {
		r.until("cluster", run.Start)
		for w.node() == "" && r.runs() {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(4 * time.Second)
	}},
	{step: "teardown", payload: none, env: []string{quick, "KEEP_CLUSTER=false"}, down: true, await: func(_ *world, r *pipeline) {
		r.until("suite", run.Done)
	}},
}

// TestMatrix goes through the cells. A cluster is made in the cells of the step
// cluster and removed in those of teardown; all others find the one that is there.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	o := w.ready(t)
	o.is(t, 0, "passed")
	if spent := o.overhead(); spent > time.Second {
		t.Errorf("%s outside the steps of a run without faults", spent)
	} else {
		observed(t, "none", "all", fmt.Sprintf("passed; %s of it outside the steps", spent.Round(time.Millisecond)), o)
	}
	last := len(moments) - 2 // those that make the cluster and remove it go in turns
	n := 0
	do := func(f fault, m moment) {
		n++
		if !slices.Contains(f.steps, m.step) {
			return
		}
		t.Run(f.name+"/"+m.step, func(t *testing.T) { w.cell(t, f, m, n) })
	}
	for _, m := range moments[:last] {
		for _, f := range faults {
			do(f, m)
		}
	}
	for _, f := range faults {
		for _, m := range moments[last:] {
			do(f, m)
		}
	}
}

// cell lets one fault strike one run and checks what becomes of it.
func (w *world) cell(t *testing.T, f fault, m moment, n int) {
	t.Cleanup(func() {
		if t.Failed() {
			w.way.cut()
			_ = w.remove()
		}
	})
	switch {
	case m.fresh:
		if err := w.remove(); err != nil {
			t.Fatal(err)
		}
	case w.node() == "":
		w.ready(t)
	}
	before := w.node()
	env := m.env
	if mb := m.payload(n); mb > 0 {
		env = append(slices.Clone(env), payload(mb))
	}
	var mended sync.WaitGroup
	strike := func(r *pipeline) {
		f.brk(t, w, r)
		if f.mend != nil {
			mended.Go(func() { time.Sleep(f.after); f.mend(w) })
		}
	}
	live := f.live || m.step != "set-up"
	if !live {
		strike(nil)
	}
	r := w.start(t, env...)
	if live {
		m.await(w, r)
		strike(r)
	}
	if f.ends != 0 {
		w.ended(t, f, m, r, before, env)
		return
	}
	o := r.wait()
	mended.Wait()
	defer w.forget(t, o)
	o.is(t, 0, "passed")
	became := "passed"
	switch {
	case m.down:
		became += "; cluster removed"
		w.isGone(t)
	case m.fresh:
		became += "; cluster made"
	case w.node() != before:
		t.Error("the cluster was made anew")
	default:
		became += "; cluster kept"
	}
	if o.step("build-hapi").Attempts == 1 && m.payload(n) > 0 && m.step != "build" && o.step("build-hapi").State == run.Done {
		became += ", build not repeated"
	}
	o.hasEvidence(t)
	if len(o.Heals) > 0 {
		o.tells(t, "passed after healing", "Recovery actions")
	}
	observed(t, f.name, m.step, became, o)
}

// ended sees to a run that a signal ended, and to the next one.
func (w *world) ended(t *testing.T, f fault, m moment, r *pipeline, before string, env []string) {
	t.Helper()
	var o outcome
	if f.ends == syscall.SIGKILL {
		<-r.ended
	} else {
		o = r.wait()
		o.is(t, 75, "infrastructure")
		if o.Signature != "interrupted" {
			t.Errorf("signature %q", o.Signature)
		}
		o.tells(t, "interrupted, nothing is known against the code")
	}
	again := w.start(t, slices.Concat(env, []string{"KEEP_CLUSTER=true"})...).wait()
	defer w.forget(t, again)
	again.is(t, 0, "passed")
	if !m.fresh && !m.down && w.node() != before {
		t.Error("the cluster was made anew")
	}
	if f.ends == syscall.SIGKILL {
		observed(t, f.name, m.step, "the next run went on from what it could prove, and passed", again)
		return
	}
	observed(t, f.name, m.step, "ended as interrupted; the next run went on and passed", o)
}

// isGone checks that nothing is left of the cluster.
func (w *world) isGone(t *testing.T) {
	t.Helper()
	if id := w.node(); id != "" {
		t.Errorf("node container %s is left", id)
	}
	for _, f := range []string{w.kubeconfig(), filepath.Join(w.state, clusterName+".podman.cluster.json"), filepath.Join(w.state, clusterName+".lock")} {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}
