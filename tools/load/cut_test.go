package load_test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/load"
)

// cuts is how many places, spread over the whole transfer, the connection to
// the engine is cut at. It keeps a usual run short; E2E_CUTS=40 in the
// environment goes through the transfer closely. See CONTRIBUTING.md.
func cuts(t *testing.T) int {
	t.Helper()
	s := os.Getenv("E2E_CUTS")
	if s == "" {
		return 4
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("E2E_CUTS: %v", err)
	}
	return n
}

// TestCutConnection cuts the connection between us and the engine after N
// bytes, on the way there or back, every third time again on the second
// attempt; every fifth time it stalls instead, without closing. Each time the
// image must end up proven, or the error must say what to do, and nothing may
// be left.
func TestCutConnection(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		c := w.bare(t, 1, storeSize)
		const size = 24 << 20
		ref := c.ref("cut")
		c.build(ref, []int{size / 3, size * 2 / 3}, []byte{31, 32})
		img, err := w.direct.Image(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		count := cuts(t)
		proven, refused := map[string]int{}, map[string]int{}
		for i := range count {
			if d, ok := t.Deadline(); ok && time.Until(d) < 3*time.Minute {
				t.Fatalf("out of time after %d of %d cuts: give go test a longer -timeout", i, count)
			}
			k := cut{at: int64(size) * int64(i) / int64(count), strategy: w.strats[i%len(w.strats)], twice: i/3%3 == 0, stall: i%5 == 4}
			k.upstream = k.strategy == load.Thin || i%8 < 4
			t.Run(k.String(), func(t *testing.T) {
				c := c.on(t)
				c.forget(ref)
				results, err := k.run(t, w, trial{c: c, ref: ref, forced: k.strategy})
				c.settled(t, ref, img.ID, results)
				if err == nil {
					proven[k.strategy]++
				} else {
					refused[k.strategy]++
				}
			})
		}
		t.Logf("%s: %d places: proven %v, refused cleanly %v", w.name, count, proven, refused)
	})
}

type cut struct {
	at                     int64
	strategy               string
	upstream, twice, stall bool
}

func (k cut) String() string {
	what := map[bool]string{true: "stalled", false: "cut"}[k.stall]
	if k.twice {
		what += " twice"
	}
	return fmt.Sprintf("%s %s at %d %s", k.strategy, what, k.at, map[bool]string{true: "up", false: "down"}[k.upstream])
}

func (k cut) run(t *testing.T, w *world, r trial) ([]load.Result, error) {
	t.Helper()
	stream := map[bool]string{true: "upstream", false: "downstream"}[k.upstream]
	toxic := fmt.Sprintf(`{"name":"cut","type":"limit_data","stream":%q,"attributes":{"bytes":%d}}`, stream, k.at)
	var mu sync.Mutex
	var over bool
	heal := func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		w.healed("cut")
	}
	if k.stall {
		// From the moment that this share has moved, nothing does any more.
		toxic = fmt.Sprintf(`{"name":"cut","type":"timeout","stream":%q,"attributes":{"timeout":0}}`, stream)
		r.share = float64(k.at) / (24 << 20)
		r.moved = func() {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				w.toxic(t, toxic)
			}
		}
	} else {
		w.toxic(t, toxic)
	}
	var failed atomic.Int32
	r.event = func(e load.Event) {
		if e.Kind == "fail" && (failed.Add(1) > 1 || !k.twice) {
			heal()
		}
	}
	if k.stall {
		// What hangs would hang for ever: the load itself has to notice.
		defer time.AfterFunc(20*time.Second, heal).Stop()
	}
	defer heal()
	return r.run(t)
}
