package load_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/failure"
	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// slow makes a transfer last for seconds, so that something can happen in its
// middle.
const slow = `{"name":"slow","type":"bandwidth","stream":"upstream","attributes":{"rate":8000}}`

// fault is something that happens while an image is loaded.
type fault struct {
	name  string
	usual bool   // also tried where nobody asked for all
	size  string // of the node's store; empty: the usual one
	// strike happens when 40 % of the image have moved; nil: before the load.
	strike func(t *testing.T, b *broken)
	before func(t *testing.T, b *broken)
	// heal makes the world whole again for looking at the node.
	heal func(t *testing.T, b *broken)
	want func(t *testing.T, b *broken, results []load.Result, err error)
	skip func(w *world) string
	time time.Duration // for the load
	next bool          // what it left where nobody could reach it, the next load takes back
}

// broken is what a fault works on.
type broken struct {
	w       *world
	c       *cluster
	ref, id string
	others  sync.WaitGroup // loads beside it
}

func (b *broken) node() string { return b.c.nodes[0] }

// passes and fails are the usual ends.
func passes(t *testing.T, _ *broken, _ []load.Result, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("it did not get over this: %v", err)
	}
}

func fails(class failure.Class, says ...string) func(*testing.T, *broken, []load.Result, error) {
	return func(t *testing.T, _ *broken, _ []load.Result, err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
			return
		}
		if d := failure.Of(err, failure.Load, failure.Facts{}); d.Class != class {
			t.Errorf("class %s, not %s", d.Class, class)
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("it does not say %q: %v", s, err)
			}
		}
	}
}

// away takes the engine's service away, as a crash does; where it is not the
// test's to kill, the way to it is.
func (w *world) away() {
	if w.serve != nil {
		w.serve.Kill()
		return
	}
	w.proxy.Stop()
}

func (w *world) back(t *testing.T) {
	t.Helper()
	if w.serve != nil {
		w.serve.Start()
	} else if err := w.proxy.Start(); err != nil {
		t.Error(err)
	}
}

// killContainerd ends a node's containerd, which its loop starts again.
const killContainerd = `kill -KILL $(grep -lzx containerd /proc/[0-9]*/cmdline | cut -d / -f 3) || true`

var faults = []fault{
	{
		name:  "engine's service killed and restarted",
		usual: true,
		strike: func(t *testing.T, b *broken) {
			b.w.away()
			time.Sleep(2 * time.Second)
			b.w.back(t)
		},
		want: passes,
	},
	{
		name:   "engine's service killed for good",
		strike: func(_ *testing.T, b *broken) { b.w.away() },
		heal:   func(t *testing.T, b *broken) { b.w.back(t) },
		want:   fails(failure.EngineConnection),
		time:   15 * time.Second,
		next:   true,
	},
	{
		name:  "node's containerd killed",
		usual: true,
		strike: func(_ *testing.T, b *broken) {
			b.c.run(b.node(), "sh", "-c", killContainerd)
		},
		want: passes,
	},
	{
		name: "node stopped",
		strike: func(t *testing.T, b *broken) {
			if err := b.w.direct.KillContainer(t.Context(), b.node(), "KILL"); err != nil {
				t.Error(err)
			}
		},
		heal: func(t *testing.T, b *broken) {
			// Its store was in memory: nothing can be there, and nothing runs.
			if err := b.w.direct.StartContainer(t.Context(), b.node()); err != nil {
				t.Error(err)
			}
			b.c.waitFor(b.node(), 20*time.Second)
		},
		want: fails(failure.ClusterUnready, "node0"),
		next: true,
	},
	{
		name: "node's disk full before",
		size: "24m",
		want: fails(failure.Resources, "node0", "free"),
	},
	{
		name: "node's disk full in the middle",
		size: "120m",
		strike: func(_ *testing.T, b *broken) {
			b.c.run(b.node(), "sh", "-c", "head -c 200M /dev/zero >/var/lib/containerd/filler || true")
		},
		heal: func(_ *testing.T, b *broken) { b.c.run(b.node(), "rm", "-f", "/var/lib/containerd/filler") },
		want: fails(failure.Resources, "node0", "free"),
	},
	{
		name: "image deleted",
		strike: func(t *testing.T, b *broken) {
			if err := b.w.direct.RemoveImage(t.Context(), b.ref, true); err != nil {
				t.Error(err)
			}
			b.w.proxy.Stop() // the next attempt needs the image again
			if err := b.w.proxy.Start(); err != nil {
				t.Error(err)
			}
		},
		want: fails(failure.ImageReference),
	},
	{
		name:  "image re-tagged",
		usual: true,
		before: func(_ *testing.T, b *broken) {
			b.c.build(b.c.ref("other"), []int{2 << 20, 1 << 20}, []byte{77, 78})
		},
		strike: func(t *testing.T, b *broken) {
			if err := b.w.direct.Tag(t.Context(), b.c.ref("other"), b.ref); err != nil {
				t.Error(err)
			}
		},
		want: func(t *testing.T, b *broken, results []load.Result, err error) {
			passes(t, b, results, err)
			img, err := b.w.direct.Image(t.Context(), b.ref)
			if err != nil {
				t.Fatal(err)
			}
			b.id = img.ID // what the name means now
		},
	},
	{
		name: "cut while two others load",
		strike: func(t *testing.T, b *broken) {
			b.w.proxy.Stop()
			if err := b.w.proxy.Start(); err != nil {
				t.Error(err)
			}
		},
		before: func(t *testing.T, b *broken) {
			other := b.c.ref("second")
			b.c.build(other, []int{6 << 20, 4 << 20}, []byte{81, 82})
			for _, ref := range []string{b.ref, other} {
				b.others.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					if _, err := load.Load(ctx, b.c.request(b.w.over, ref)); err != nil {
						t.Errorf("%s, loaded beside: %v", ref, err)
						return
					}
					b.c.whole(b.node(), ref)
				})
			}
		},
		want: passes,
	},
}

// TestFaults lets things happen to engine, node and image in the middle of a
// load that goes through the strategies in their usual order. A usual run makes
// do with some of them; see CONTRIBUTING.md.
func TestFaults(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		for i, f := range faults {
			if !f.usual && os.Getenv("E2E_ENGINES") == "" {
				continue
			}
			t.Run(f.name, func(t *testing.T) {
				if f.skip != nil && f.skip(w) != "" {
					t.Skip(f.skip(w))
				}
				if f.size == "" {
					f.size = storeSize
				}
				b := &broken{w: w, c: w.bare(t, 1, f.size)}
				b.ref = b.c.ref(fmt.Sprint("fault", i))
				b.c.build(b.ref, []int{8 << 20, 16 << 20}, []byte{41, byte(i)})
				img, err := w.direct.Image(t.Context(), b.ref)
				if err != nil {
					t.Fatal(err)
				}
				b.id = img.ID
				w.toxic(t, slow)
				defer w.healed("slow")
				if f.before != nil {
					f.before(t, b)
				}
				r := trial{c: b.c, ref: b.ref, share: 0.4, limit: f.time}
				if f.strike != nil {
					r.moved = func() { f.strike(t, b) }
				}
				results, err := r.run(t)
				b.others.Wait()
				if f.heal != nil {
					f.heal(t, b)
				}
				f.want(t, b, results, err)
				if f.next {
					results, err = load.Load(t.Context(), b.c.request(b.w.over, b.ref))
					passes(t, b, results, err)
				}
				b.c.settled(t, b.ref, b.id, results)
			})
		}
	})
}
