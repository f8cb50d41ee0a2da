package build

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
)

// reportEvery bounds the silence of a build.
const reportEvery = 3 * time.Second

// tracker reports what a build is doing, every few seconds until it is stopped.
type tracker struct {
	report progress.Func
	begin  time.Time
	done   chan struct{}
	ended  sync.WaitGroup

	mu       sync.Mutex
	running  map[string]*task
	parts    int
	finished int
}

// task is one part being built; its line is the last its tool printed.
type task struct {
	tracker *tracker
	name    string
	begin   time.Time
	line    string
}

func newTracker(report progress.Func) *tracker {
	t := &tracker{report: report.Or(), begin: time.Now(), done: make(chan struct{}), running: map[string]*task{}}
	t.ended.Add(1)
	go func() {
		defer t.ended.Done()
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.done:
				return
			case <-tick.C:
				t.say()
			}
		}
	}()
	return t
}

// stop ends the reports; none comes after it has returned.
func (t *tracker) stop() {
	close(t.done)
	t.ended.Wait()
}

func (t *tracker) total(parts int) {
	t.mu.Lock()
	t.parts = parts
	t.mu.Unlock()
	t.say()
}

// say reports for example
// "2 of 10 parts, 1m3s: kubernetes 1m0s, rootfs 40s (Unpacking systemd)".
func (t *tracker) say() {
	t.mu.Lock()
	var doing []string
	for _, r := range t.running {
		s := r.name + " " + time.Since(r.begin).Round(time.Second).String()
		if r.line != "" {
			s += " (" + r.line + ")"
		}
		doing = append(doing, s)
	}
	sort.Strings(doing)
	line := fmt.Sprintf("%d of %d parts, %s", t.finished, t.parts, time.Since(t.begin).Round(time.Second))
	if len(doing) > 0 {
		line += ": " + strings.Join(doing, ", ")
	}
	t.mu.Unlock()
	t.report(progress.Update{What: "build node image", Line: line})
}

func (t *tracker) task(name string) *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &task{tracker: t, name: name, begin: time.Now()}
	t.running[name] = k
	return k
}

// say keeps the last line that the task's tool printed, shortened.
func (k *task) say(line string) {
	const longest = 60
	if r := []rune(line); len(r) > longest {
		line = string(r[:longest]) + "…"
	}
	k.tracker.mu.Lock()
	k.line = line
	k.tracker.mu.Unlock()
}

func (k *task) end() {
	k.tracker.mu.Lock()
	delete(k.tracker.running, k.name)
	k.tracker.mu.Unlock()
}

func (k *task) finish() {
	k.tracker.mu.Lock()
	k.tracker.finished++
	k.tracker.mu.Unlock()
}

type taskKey struct{}

func withTask(ctx context.Context, k *task) context.Context {
	return context.WithValue(ctx, taskKey{}, k)
}

// taskOf returns the task that ctx runs for, or one that reports nowhere.
func taskOf(ctx context.Context) *task {
	if k, ok := ctx.Value(taskKey{}).(*task); ok {
		return k
	}
	return &task{tracker: &tracker{running: map[string]*task{}}}
}
