package load_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// trial is one load under a fault, and what must be true afterwards.
type trial struct {
	c      *cluster
	ref    string
	forced string
	stall  time.Duration
	limit  time.Duration // for the load; it must end soon after
	// event and moved are called from the load: at each of its events, and once
	// when that share of the image has moved.
	event func(load.Event)
	share float64
	moved func()
}

// promptly is how long a load may go on after its context has ended: it still
// looks at the node and ends what runs there.
const promptly = 60 * time.Second

// run loads. The result is proven, or its error is one that a person can act on.
// The caller heals before it calls [cluster.settled].
func (r trial) run(t *testing.T) (results []load.Result, err error) {
	t.Helper()
	w := r.c.world
	before := listening(t)
	req := r.c.request(w.over, r.ref)
	req.Strategy, req.Stall = r.forced, 8*time.Second
	if r.stall != 0 {
		req.Stall = r.stall
	}
	note := req.Note
	req.Note = func(e load.Event) {
		note(e)
		if r.event != nil {
			r.event(e)
		}
	}
	var once sync.Once
	var moving sync.WaitGroup
	req.Progress = func(u progress.Update) {
		if r.moved != nil && u.Total > 0 && float64(u.Done) >= r.share*float64(u.Total) {
			once.Do(func() { moving.Go(r.moved) })
		}
	}
	limit := r.limit
	if limit == 0 {
		limit = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	started := time.Now()
	results, err = load.Load(ctx, req)
	took := time.Since(started)
	moving.Wait()
	t.Logf("%s: %v", took.Round(time.Millisecond), err)
	if took > limit+promptly {
		t.Errorf("it took %s after its time was up", took-limit)
	}
	if now := listening(t); now > before {
		t.Errorf("%d sockets listen that did not", now-before)
	}
	r.actionable(t, results, err)
	return results, err
}

// actionable fails the test unless the results agree with the error, and the
// error names node or image, cause and remedy.
func (r trial) actionable(t *testing.T, results []load.Result, err error) {
	t.Helper()
	for _, res := range results {
		if res.Verified != (res.Err == nil) || (err == nil && !res.Verified) {
			t.Errorf("result %+v beside error %v", res, err)
		}
	}
	if err == nil {
		if len(results) != len(r.c.nodes) {
			t.Errorf("%d results for %d nodes", len(results), len(r.c.nodes))
		}
		return
	}
	for _, res := range results {
		if res.Err != nil && !strings.Contains(err.Error(), res.Node) {
			t.Errorf("the error does not name %s: %v", res.Node, err)
		}
	}
	if !strings.Contains(err.Error(), r.ref) {
		t.Errorf("the error does not name the image: %v", err)
	}
	d := failure.Of(err, failure.Load, failure.Facts{})
	t.Logf("  class %s: %s; remedy: %s", d.Class, d.Cause, d.Remedy)
	if d.Class == failure.Unknown || d.Cause == "" || d.Remedy == "" {
		t.Errorf("no class, cause or remedy: %+v of %v", d, err)
	}
}

// settled checks afresh, past everything that was broken: the image, whole, is
// where the load said so, no name leads nowhere, and nothing runs or lies about.
func (c *cluster) settled(t *testing.T, ref, id string, results []load.Result) {
	t.Helper()
	c = c.on(t)
	verified := map[string]bool{}
	for _, r := range results {
		verified[r.Node] = r.Verified
	}
	for _, n := range c.nodes {
		there := strings.TrimSpace(c.run(n, "ctr", "-n", "k8s.io", "images", "ls", "-q", "name=="+ref)) != ""
		if verified[n] && !there {
			t.Errorf("%s: reported as loaded, and is not there", n)
		}
		if there {
			c.whole(n, ref)
		}
		if seen := strings.TrimSpace(c.run(n, "sh", "-c", "crictl inspecti -o go-template --template '{{.status.id}}' "+ref+" 2>/dev/null || true")); verified[n] && seen != id {
			t.Errorf("%s: reported as loaded, and the kubelet sees %q instead of %s", n, seen, id)
		}
	}
	c.idle()
}

// whole fails the test unless the node can make a file system of the image.
func (c *cluster) whole(node, ref string) {
	c.t.Helper()
	c.run(node, "sh", "-c", `d=$(mktemp -d) && ctr -n k8s.io images mount "$1" $d >/dev/null && ls $d/layer0 && ctr -n k8s.io images unmount --rm $d >/dev/null`, "sh", ref)
}

// idle fails the test if anything of a load is left in a node or here. What
// ends by itself gets a few seconds.
func (c *cluster) idle() {
	c.t.Helper()
	for _, n := range c.nodes {
		var runs, leases string
		var sessions []inspectedExec
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			runs = c.outside(n, "sh", "-c", `for p in $(grep -la KUBERNAUT_E2E_EXEC= /proc/[0-9]*/environ); do tr '\0' ' ' <${p%environ}cmdline; echo; done`)
			leases = c.outside(n, "ctr", "-n", "k8s.io", "leases", "ls", "-q")
			sessions = c.world.sessions(c.t, n)
			if runs+leases == "" && len(sessions) == 0 {
				break
			}
		}
		if runs != "" || len(sessions) > 0 {
			c.t.Errorf("%s still runs %q, sessions %+v", n, runs, sessions)
		}
		if leases != "" {
			c.t.Logf("%s: leases are left: %s", n, leases)
		}
		if left := c.outside(n, "sh", "-c", `ls /var/lib/kubernaut-e2e 2>/dev/null; ctr -n k8s.io snapshots ls | grep kubernaut; for s in $(ctr -n k8s.io snapshots ls | awk '$NF == "Committed" { print $1 }'); do
			ctr -n k8s.io snapshots info $s | grep gc.root; done; true`); left != "" {
			c.t.Errorf("%s: layers are kept: %s", n, left)
		}
	}
	left, err := os.ReadDir(c.workdir)
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "kubernaut-e2e-load-") {
			c.t.Errorf("left behind: %s", f.Name())
		}
	}
	if err != nil {
		c.t.Error(err)
	}
}

// outside runs a command in a node by the engine's own program, which leaves no
// mark of ours on it.
func (c *cluster) outside(node string, cmd ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	args := append([]string{"exec", "--privileged", node}, cmd...)
	var out, said bytes.Buffer
	run := c.world.command(ctx, args...)
	run.Stdout, run.Stderr = &out, &said
	if err := run.Run(); err != nil && said.Len() > 0 {
		c.t.Errorf("%s: %v: %v: %s", node, cmd, err, said.String())
	}
	return strings.TrimSpace(out.String())
}

// on is the cluster for another test.
func (c *cluster) on(t *testing.T) *cluster {
	other := *c
	other.t = t
	return &other
}
