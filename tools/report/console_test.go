package report

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jordigilh/kubernaut-e2e/tools/progress"
	"github.com/jordigilh/kubernaut-e2e/tools/run"
)

// screen keeps what was written and when.
type screen struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	times []time.Time
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Now())
	return s.buf.Write(p)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// The clock of a synctest bubble stands still until everybody waits, so these
// tests are exact and take no time.

func TestSilentStepShowsAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{Beat: 5 * time.Second}, time.Now)
		defer c.Close()
		c.Event(run.Event{Kind: run.Start, Step: "cluster"})
		began := time.Now()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		last := began
		out.mu.Lock()
		for _, at := range append(out.times, time.Now()) {
			if gap := at.Sub(last); gap > 6*time.Second {
				t.Errorf("silent for %s", gap)
			}
			last = at
		}
		out.mu.Unlock()
		if n := strings.Count(out.text(), "\n"); n > 15 {
			t.Errorf("%d lines in a minute of silence:\n%s", n, out.text())
		}
		if !strings.Contains(out.text(), "cluster 1m00s") {
			t.Errorf("the heartbeat does not say what runs for how long:\n%s", out.text())
		}
	})
}

func TestNothingRunsNothingBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{}, time.Now)
		c.Event(run.Event{Kind: run.Start, Step: "load"})
		c.Event(run.Event{Kind: run.Done, Step: "load", DurationMS: 1500, Detail: "2 image(s)"})
		before := out.text()
		time.Sleep(time.Minute)
		synctest.Wait()
		if out.text() != before {
			t.Errorf("wrote %q", strings.TrimPrefix(out.text(), before))
		}
		if want := "> load\nok    load             1.5s  2 image(s)\n"; before != want {
			t.Errorf("got %q, want %q", before, want)
		}
		c.Close()
		c.Close()
	})
}

func TestPlainOutputHasNoEscapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{Lines: true}, time.Now)
		c.Event(run.Event{Kind: run.Start, Step: "build"})
		c.Progress(progress.Update{Step: "load", What: "build", Line: "STEP 1/3: FROM scratch"})
		c.Verbatim("[It] passes")
		c.Print("note")
		c.Event(run.Event{Kind: run.Failed, Step: "build", Class: "network", Error: "one\ntwo"})
		c.Event(run.Event{Kind: run.Try, Step: "build", Attempt: 2})
		c.Event(run.Event{Kind: run.Healed, Step: "build", Detail: "freed space"})
		c.Close()
		got := out.text()
		for _, want := range []string{"  | STEP 1/3: FROM scratch\n", "  | [It] passes\n", "note\n", "      one\n      two\n", "attempt 2", "freed space"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in:\n%s", want, got)
			}
		}
		if strings.ContainsAny(got, "\r\033") {
			t.Errorf("escapes in %q", got)
		}
	})
}

func TestLiveLineFitsTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{Terminal: true, Width: 60}, time.Now)
		c.Event(run.Event{Kind: run.Start, Step: "load"})
		c.Progress(progress.Update{Step: "load", What: "löad node-1", Done: 10_000_000, Total: 2_000_000_000, Line: strings.Repeat("ö long ", 40)})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		c.Event(run.Event{Kind: run.Done, Step: "load", Detail: "verified"})
		c.Close()
		got := out.text()
		if !strings.Contains(got, "10 MB / 2.0 GB") {
			t.Errorf("no bytes in %q", got)
		}
		for _, line := range strings.Split(got, "\r\033[K") {
			if n := len([]rune(strings.TrimRight(line, "\n"))); !strings.HasSuffix(line, "\n") && n >= 60 {
				t.Errorf("a live line of %d characters on 60 columns", n)
			}
		}
		if !strings.Contains(got, "\r\033[Kok    load") || !strings.HasSuffix(got, "\r\033[K") {
			t.Errorf("the live line is left on the terminal: %q", got)
		}
	})
}

// GitHub folds no group within a group: each must end before the next begins.
func TestGroupsAreBalanced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{Groups: true}, time.Now)
		c.Event(run.Event{Kind: run.Start, Step: "load"})
		c.Event(run.Event{Kind: run.Failed, Step: "load", Class: "network", Error: "EOF"})
		c.Event(run.Event{Kind: run.Try, Step: "load", Attempt: 2})
		c.Event(run.Event{Kind: run.Done, Step: "load", Node: "node-1", Strategy: "stream", Bytes: 5})
		c.Event(run.Event{Kind: run.Done, Step: "load"})
		c.Event(run.Event{Kind: run.Start, Step: "cluster"})
		c.Event(run.Event{Kind: run.Start, Step: "build"})
		c.Event(run.Event{Kind: run.Done, Step: "cluster"})
		c.Event(run.Event{Kind: run.Done, Step: "build"})
		c.Close()
		open := 0
		for _, l := range strings.Split(out.text(), "\n") {
			switch {
			case strings.HasPrefix(l, "::group::"):
				open++
			case strings.HasPrefix(l, "::endgroup::"):
				open--
			}
			if open < 0 || open > 1 {
				t.Fatalf("%d groups are open at %q in:\n%s", open, l, out.text())
			}
		}
		if open != 0 {
			t.Errorf("a group is left open:\n%s", out.text())
		}
	})
}

func TestLongErrorsAreShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		c := NewConsole(out, Style{}, time.Now)
		var long []string
		for i := range 500 {
			long = append(long, fmt.Sprint("line ", i))
		}
		c.Event(run.Event{Kind: run.Failed, Step: "suite", Error: strings.Join(long, "\n")})
		c.Close()
		if got := out.text(); strings.Count(got, "\n") > 50 || !strings.Contains(got, "line 499") || !strings.Contains(got, "journal.jsonl") {
			t.Errorf("got:\n%s", got)
		}
	})
}

func TestConsoleTakesWhatComesAtOnce(t *testing.T) {
	out := &screen{}
	c := NewConsole(out, Style{Terminal: true}, time.Now)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			step := fmt.Sprint("step-", i)
			c.Event(run.Event{Kind: run.Start, Step: step})
			for range 100 {
				c.Progress(progress.Update{Step: "load", What: step, Done: 1})
				c.Verbatim("line of " + step)
			}
			c.Event(run.Event{Kind: run.Done, Step: step})
		})
	}
	wg.Wait()
	c.Close()
	if n := strings.Count(out.text(), "line of "); n != 800 {
		t.Errorf("%d of 800 lines", n)
	}
}

func TestLogger(t *testing.T) {
	out := &screen{}
	c := NewConsole(out, Style{}, time.Now)
	defer c.Close()
	log := slog.New(Logger(c))
	log.Debug("not for people")
	log.Info("changing this host", "what", "package podman")
	log.With("node", "n1").Warn("slow")
	log.WithGroup("g").Error("bad", "err", fmt.Errorf("why"))
	want := "  - changing this host what=package podman\n  - warn: slow node=n1\n  - error: bad err=why\n"
	if got := out.text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if regexp.MustCompile(`\d\d:\d\d`).MatchString(out.text()) {
		t.Error("a time on the console")
	}
}
