// Package report shows a run to people: on a terminal, in a CI log, as
// report.md and in the GitHub step summary. It owns every word that is shown
// and decides nothing.
package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// Console shows steps as they happen: on a terminal one live line under the
// finished steps, elsewhere plain lines, at least one every Beat. Create it
// with NewConsole; Close it to end the live line.
type Console struct {
	out    io.Writer
	style  Style
	now    func() time.Time
	mu     sync.Mutex
	steps  map[string]time.Time       // running steps and when they began
	latest map[string]progress.Update // of each running step
	folded bool                       // a group is open
	shown  time.Time                  // when anything was last written
	done   chan struct{}
	closed sync.Once
}

// Style is how a console writes.
type Style struct {
	Terminal bool          // redraw one live line
	Groups   bool          // fold steps with GitHub's ::group::
	Width    int           // columns of the terminal
	Beat     time.Duration // longest silence without a terminal
	Lines    bool          // also write the tools' own output lines
}

// NewConsole writes to out. now is the clock.
func NewConsole(out io.Writer, style Style, now func() time.Time) *Console {
	if style.Beat == 0 {
		style.Beat = 5 * time.Second
	}
	if style.Width < 40 {
		style.Width = 80
	}
	c := &Console{out: out, style: style, now: now, steps: map[string]time.Time{}, latest: map[string]progress.Update{}, shown: now(), done: make(chan struct{})}
	go c.beat()
	return c
}

// Close ends the live line. Safe to call twice.
func (c *Console) Close() {
	c.closed.Do(func() {
		close(c.done)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.endGroup()
		c.clear()
	})
}

// Progress is a progress.Func.
func (c *Console) Progress(u progress.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest[u.Step] = u
	if c.style.Lines && u.Line != "" {
		c.write("  | " + u.Line)
	}
}

// Verbatim writes a line of the suite's own output, which is always shown.
func (c *Console) Verbatim(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write("  | " + line)
}

// Result writes a line that is the target's own output, as it is, to standard
// output.
func (c *Console) Result(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintln(os.Stdout, line)
	c.shown = c.now()
}

// Event shows what the journal records.
func (c *Console) Event(e run.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case run.Start:
		c.steps[e.Step] = c.now()
		delete(c.latest, e.Step)
		if c.style.Groups {
			c.group()
		} else if !c.style.Terminal {
			c.write("> " + e.Step)
		}
	case run.Done, run.Skip:
		if e.Node != "" {
			c.write(fmt.Sprintf("    %s  %s  %s  %s", e.Node, e.Strategy, humanize.Bytes(uint64(max(e.Bytes, 0))), e.Detail))
			return
		}
		delete(c.steps, e.Step)
		c.endGroup()
		mark := "ok  "
		if e.Kind == run.Skip {
			mark = "skip"
		}
		c.write(row(mark, e.Step, e.DurationMS, e.Detail))
		c.group()
	case run.Failed:
		c.endGroup()
		c.write(row("FAIL", e.Step, e.DurationMS, e.Class))
		for _, l := range strings.Split(tail(e.Error, 40), "\n") {
			c.write("      " + l)
		}
	case run.Try:
		if e.Attempt <= 1 {
			return // the first try of a part is not news
		}
		c.endGroup()
		c.write(row("again", e.Step, 0, fmt.Sprintf("attempt %d", e.Attempt)))
		c.group()
	case run.Healed:
		c.write(row("heal", e.Step, 0, e.Detail))
	}
}

// group folds what follows under the names of the running steps. GitHub knows
// no group within a group, and steps run side by side.
func (c *Console) group() {
	c.endGroup()
	if c.style.Groups && len(c.steps) > 0 {
		c.write("::group::" + strings.Join(sortedKeys(c.steps), ", "))
		c.folded = true
	}
}

func (c *Console) endGroup() {
	if c.folded {
		c.write("::endgroup::")
		c.folded = false
	}
}

// Print writes a line of its own.
func (c *Console) Print(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(line)
}

func row(mark, step string, ms int64, detail string) string {
	took := ""
	if ms > 0 {
		took = Took(time.Duration(ms) * time.Millisecond)
	}
	return strings.TrimRight(fmt.Sprintf("%-5s %-12s %8s  %s", mark, step, took, detail), " ")
}

// write puts a line above the live one. The caller holds mu.
func (c *Console) write(line string) {
	c.clear()
	fmt.Fprintln(c.out, line)
	c.shown = c.now()
}

func (c *Console) clear() {
	if c.style.Terminal {
		fmt.Fprint(c.out, "\r\033[K")
	}
}

// beat redraws the live line, or breaks a silence.
func (c *Console) beat() {
	every := 200 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
			c.mu.Lock()
			switch {
			case len(c.steps) == 0:
			case c.style.Terminal:
				line := c.live()
				if r := []rune(line); len(r) >= c.style.Width {
					line = string(r[:c.style.Width-1])
				}
				c.clear()
				fmt.Fprint(c.out, line)
			case c.now().Sub(c.shown) >= c.style.Beat:
				c.write(c.live())
			}
			c.mu.Unlock()
		}
	}
}

// live says what runs, for how long, and the newest progress of each.
func (c *Console) live() string {
	var parts []string
	for _, name := range sortedKeys(c.steps) {
		part := name + " " + Took(c.now().Sub(c.steps[name]))
		if news := c.news(c.latest[name]); news != "" {
			part += " (" + news + ")"
		}
		parts = append(parts, part)
	}
	return "  ... " + strings.Join(parts, ", ")
}

func (c *Console) news(u progress.Update) string {
	words := []string{u.What}
	switch {
	case u.Total > 0:
		words = append(words, humanize.Bytes(uint64(u.Done))+" / "+humanize.Bytes(uint64(u.Total)))
	case u.Done > 0:
		words = append(words, humanize.Bytes(uint64(u.Done)))
	}
	if u.Line != "" && !c.style.Lines {
		words = append(words, strings.TrimSpace(u.Line))
	}
	return strings.TrimSpace(strings.Join(words, "  "))
}

// Took writes a duration as people read it: 0.3s, 12.0s, 3m05s.
func Took(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// tail keeps the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) <= n {
		return strings.Join(lines, "\n")
	}
	return fmt.Sprintf("[%d lines above, see journal.jsonl]\n%s", len(lines)-n, strings.Join(lines[len(lines)-n:], "\n"))
}
